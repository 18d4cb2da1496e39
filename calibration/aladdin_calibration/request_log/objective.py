"""How far the simulation under given laws is from a log, request by request."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aladdin_calibration.request_log.log import EngineLimits, RequestLog, per_token
from aladdin_calibration.request_log.parameters import Form, Laws
from aladdin_env.simulator.replay import Outcome, Replay

Array = npt.NDArray[np.float64]

SCALE = 0.05  # relative errors of this size weigh as much as one spread of what is known beforehand
MEASURES = 3


class Objective:
    """The simulation beside the log.

    The error of a request is ``(simulated - logged) / logged`` for its time per token and its latency; for its TTFT the
    median TTFT of the log is added below the line, so that the first requests, which find an empty server and wait for
    milliseconds, do not outweigh the others.

    Attributes:
        log: the log.
        limits: the server's limits.
        simulations: runs so far.
    """

    def __init__(self, log: RequestLog, limits: EngineLimits, on_run: Callable[[], None] | None = None) -> None:
        self.log = log
        self.limits = limits
        self.simulations = 0
        self._on_run = on_run
        self._replay = Replay(log.trace, limits.worker())
        self._logged = np.stack([log.ttft_s, log.tpot_s, log.latency_s])
        self._logged[1] = np.nan_to_num(self._logged[1], nan=1.0)
        self._per = self._logged + np.array([[float(np.median(log.ttft_s))], [0.0], [0.0]])
        self._judged = np.stack([np.ones(len(log)), log.trace.output_tokens > 1, np.ones(len(log))])

    @property
    def least_blocks(self) -> int:
        """KV blocks without which the longest request could not have ended."""
        return self._replay.least_blocks

    @property
    def most_blocks(self) -> int:
        """KV blocks that all requests together would not fill: more make no difference."""
        trace, size = self.log.trace, self.limits.block_size
        tokens = np.sort(trace.prompt_tokens.astype(np.int64) + trace.output_tokens)[-self.limits.max_num_seqs :]
        return max(self.least_blocks, int((tokens // size + 1).sum()))

    def simulate(self, laws: Laws, blocks: int) -> Outcome:
        """Serve the log's requests under these laws with this many KV blocks."""
        self.simulations += 1
        if self._on_run:
            self._on_run()
        return self._replay.run(laws.row(self.limits.max_num_seqs), blocks)

    def measures(self, laws: Laws, blocks: int) -> Array:
        """Simulated TTFT, time per token and latency of each request, seconds, shape (3, n)."""
        out, trace = self.simulate(laws, blocks), self.log.trace
        pace = np.nan_to_num(per_token(out.finish_s - out.first_token_s, trace.output_tokens), nan=1.0)
        return np.stack([out.first_token_s - trace.arrival_s, pace, out.finish_s - trace.arrival_s])

    def errors(self, x: Array, form: Form, blocks: int, weights: Array) -> Array:
        """The :func:`robust` errors of all requests, weighted; shape (3 n,).

        ``weights``: how much each request counts, shape (n,).
        """
        errors = robust((self.measures(Laws.at(x, form), blocks) - self._logged) / self._per)
        return np.asarray((errors * self._judged * np.sqrt(weights)).ravel(), dtype=np.float64)


def robust(errors: Array) -> Array:
    """Relative errors over `SCALE`, transformed so that half their squares are soft-L1 losses."""
    z = errors / SCALE
    return np.asarray(z * np.sqrt(2.0 / (np.sqrt(1.0 + z * z) + 1.0)), dtype=np.float64)
