"""Where the search begins: laws read off the log without a simulation.

Between the first and the last token of a request the engine does one step per token. The steps' times add up to the
logged seconds, and what they depend on adds up too: over that window ``sum b`` is the number of tokens that all
requests together generated in it, ``sum C`` the context they did it with, ``sum n`` the prompts that were prefilled
in it. With every request's tokens spread evenly over its own window each request gives one linear equation

    last - first = c3 (o - 1) + c2 sum b + k2 sum C + k1 sum n + attention sum n^2 + (c1 - overlap) prompts

(a preempted request waits, too, and obeys none; the loss is robust).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from aladdin_calibration.request_log.log import RequestLog
from aladdin_calibration.request_log.objective import robust
from aladdin_calibration.request_log.parameters import Form, Laws, bounds, centre, surprise

Array = npt.NDArray[np.float64]


def _sums(log: RequestLog, rows: npt.NDArray[np.int64]) -> Array:
    """What the steps between first and last token of each of ``rows`` sum up to: shape (rows, 6)."""
    first, last = log.first_token_s, log.last_token_s
    prompt, output = (v.astype(np.float64) for v in (log.trace.prompt_tokens, log.trace.output_tokens))
    pace = (output - 1.0) / np.maximum(last - first, 1e-9)
    sums = np.empty((len(rows), 6))
    for i, r in enumerate(rows):
        begin = np.maximum(first, first[r])
        tokens = pace * np.maximum(np.minimum(last, last[r]) - begin, 0.0)
        context = prompt + 1.0 + pace * np.maximum(begin - first, 0.0) + tokens / 2
        prefilled = prompt[(first > first[r]) & (first <= last[r])]
        squares = np.square(prefilled).sum()
        sums[i] = output[r] - 1.0, tokens.sum(), tokens @ context, prefilled.sum(), squares, len(prefilled)
    return sums


class Windows:
    """The equations of the ``counted`` requests (shape (n,)) of a log."""

    def __init__(self, log: RequestLog, counted: npt.NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(counted & (log.trace.output_tokens > 1) & (log.last_token_s > log.first_token_s))
        self._sums = _sums(log, rows)
        self._seconds = (log.last_token_s - log.first_token_s)[rows]

    def _predicted(self, x: Array, form: Form) -> Array:
        """Seconds of each window under the laws at ``x``, over those logged."""
        laws = Laws.at(x, form)
        constant = laws.c1 - laws.mixed_overlap_s
        coefficients = np.array([laws.c3, laws.c2, laws.k2, laws.k1, laws.attention, constant])
        return np.asarray(self._sums @ coefficients / self._seconds, dtype=np.float64)

    def scaled(self, rest: Array, form: Form) -> Array:
        """Coordinates with the given ones after the first, the first such that the median window comes out right."""
        unit = np.concatenate([[0.0], rest])
        return np.concatenate([[-np.log(np.median(self._predicted(unit, form)))], rest])

    def solved(self, form: Form) -> Array:
        """Coordinates that fit all windows best, shape (form.size,)."""
        middle = centre(form)

        def errors(x: Array) -> Array:
            return np.concatenate([robust(self._predicted(x, form) - 1.0), surprise(x, form, middle)])

        low, high = bounds(form)
        at = np.clip(self.scaled(middle, form), low + 1e-6, high - 1e-6)
        return np.asarray(least_squares(errors, at, bounds=(low, high)).x, dtype=np.float64)
