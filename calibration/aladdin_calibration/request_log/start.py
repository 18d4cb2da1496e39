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
from aladdin_calibration.request_log.parameters import Space

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
    """The equations of the ``counted`` requests (shape (n,)) of a log.

    Attributes:
        work: what a mean step does (`Space.work`), shape (6,).
        seconds_per_token: mean time of a step, with what preempted requests waited.
    """

    def __init__(self, log: RequestLog, counted: npt.NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(counted & (log.trace.output_tokens > 1) & (log.last_token_s > log.first_token_s))
        self._sums = _sums(log, rows)
        self._seconds = (log.last_token_s - log.first_token_s)[rows]
        steps = self._sums[:, 0].sum()
        self.work: Array = self._sums.sum(axis=0) / steps
        self.seconds_per_token = float(self._seconds.sum() / steps)

    def at(self, rest: Array) -> Array:
        """Coordinates with the given ones after the first, which is the log's own time per token."""
        return np.concatenate([[np.log(self.seconds_per_token)], rest])

    def solved(self, space: Space) -> Array:
        """Coordinates that fit all windows best, shape (size,)."""

        def errors(x: Array) -> Array:
            predicted = self._sums @ space.laws(x).per_work() / self._seconds
            return np.concatenate([robust(predicted - 1.0), space.surprise(x, space.centre)])

        found = least_squares(errors, self.at(space.centre), bounds=space.bounds())
        return np.asarray(found.x, dtype=np.float64)
