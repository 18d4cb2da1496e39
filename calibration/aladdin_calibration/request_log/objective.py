"""How far the simulation under given laws is from a log, request by request."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aladdin_calibration.request_log.log import EngineLimits, RequestLog, per_token
from aladdin_calibration.request_log.parameters import Laws, Space
from aladdin_env.simulator.replay import Replay
from aladdin_traces import Trace

Array = npt.NDArray[np.float64]

SCALE = 0.05  # relative errors of this size weigh as much as one spread of what is known beforehand
MEMBERS = 24
SEARCH, EXACT = slice(4), slice(24)  # members of the ensemble for a scan, and for a final fit
_JITTER_SEED = 20_240_511  # the same shifts for every log and every law: differences between laws are no noise


class _Member(NamedTuple):
    """One simulation of the ensemble: the trace with shifted arrivals, and whose request stands where in it."""

    replay: Replay
    trace: Trace
    order: npt.NDArray[np.int64]

    def measures(self, row: Array, blocks: int) -> Array:
        """TTFT, time per token and latency, in the log's order, shape (3, n)."""
        out, trace = self.replay.run(row, blocks), self.trace
        pace = np.nan_to_num(per_token(out.finish_s - out.first_token_s, trace.output_tokens), nan=1.0)
        found = np.empty((3, len(trace)))
        found[:, self.order] = out.first_token_s - trace.arrival_s, pace, out.finish_s - trace.arrival_s
        return found


class Objective:
    """The simulation beside the log.

    A request that arrives during a step waits for its end. Where in the step it arrives hangs, hundreds of steps on,
    on the laws' fifth digit: compared with a single simulation every law but the true one looks equally bad. So each
    arrival is shifted by up to half a time per token, in several ways, and the mean over these simulations is compared.
    It averages over the whims of preemption, too.

    The error of a request is ``simulated - logged`` over the mean of the two (over one of them it would favour a side),
    for its time per token and its latency. Below the line of its TTFT stand two things more: the median TTFT of the
    log, so that the first requests, which find an empty server and wait for milliseconds, do not outweigh the others;
    and what chance makes of the wait for the end of a step, in the log and in the simulation.

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
        self._exact = self._member(np.zeros(len(log)))
        half = float(np.nanmedian(log.tpot_s)) / 2
        shifts = np.random.default_rng(_JITTER_SEED).uniform(-half, half, (MEMBERS, len(log)))
        self._ensemble = [self._member(shift) for shift in shifts]
        paced = log.trace.output_tokens > 1
        self._logged = np.stack([log.ttft_s, np.where(paced, log.tpot_s, 1.0), log.latency_s])
        self._beside = np.array([[float(np.median(log.ttft_s))], [0.0], [0.0]])
        chance = 2 * half / np.sqrt(6.0) / SCALE  # a uniform wait of up to one step, twice
        self._chance = np.array([[chance], [0.0], [0.0]])
        self._judged = np.stack([np.ones(len(log)), paced, np.ones(len(log))])

    def _member(self, shift_s: Array) -> _Member:
        trace = self.log.trace
        arrival = np.maximum(trace.arrival_s + shift_s, 0.0)
        order = np.argsort(arrival, kind="stable")
        shifted = Trace.from_arrays(arrival[order], trace.prompt_tokens[order], trace.output_tokens[order])
        return _Member(Replay(shifted, self.limits.worker()), shifted, order)

    @property
    def least_blocks(self) -> int:
        """KV blocks without which the longest request could not have ended."""
        return self._exact.replay.least_blocks

    @property
    def most_blocks(self) -> int:
        """KV blocks that the longest requests which can run at once do not fill: more make no difference."""
        trace, size = self.log.trace, self.limits.block_size
        tokens = np.sort(trace.prompt_tokens.astype(np.int64) + trace.output_tokens)[-self.limits.max_num_seqs :]
        return max(self.least_blocks, int((tokens // size + 1).sum()))

    def measures(self, laws: Laws, blocks: int) -> Array:
        """Simulated TTFT, time per token and latency of each request, seconds, shape (3, n): one simulation."""
        return self._run(self._exact, laws.row(self.limits.max_num_seqs), blocks)

    def _run(self, member: _Member, row: Array, blocks: int) -> Array:
        self.simulations += 1
        if self._on_run:
            self._on_run()
        return member.measures(row, blocks)

    def errors(self, x: Array, space: Space, blocks: int, weights: Array, members: slice = SEARCH) -> Array:
        """The :func:`robust` errors of all requests, weighted; shape (3 n,).

        ``weights``: how much each request counts, shape (n,); ``members``: simulations to average.
        """
        return self._single(self._mean(x, space, blocks, members), weights)

    def all_errors(self, x: Array, space: Space, blocks: int, weights: Array, members: slice = SEARCH) -> Array:
        """`errors`, and those of the means over the requests, which count as much as all requests: shape (3 n + 3,).

        The loss of single requests is robust: it follows the many and leaves the few that wait or are preempted for
        long, of which a mean is made.
        """
        simulated, counts = self._mean(x, space, blocks, members), self._judged * weights
        ours, theirs = (simulated * counts).sum(axis=1), (self._logged * counts).sum(axis=1)
        means = 2 * (ours - theirs) / (ours + theirs) / SCALE * np.sqrt(counts.sum(axis=1))
        return np.concatenate([self._single(simulated, weights), means])

    def _mean(self, x: Array, space: Space, blocks: int, members: slice) -> Array:
        """Measures of each request, the mean of some members, shape (3, n)."""
        row = space.laws(x).row(self.limits.max_num_seqs)
        return np.asarray(np.mean([self._run(m, row, blocks) for m in self._ensemble[members]], axis=0))

    def _single(self, simulated: Array, weights: Array) -> Array:
        per = np.hypot((simulated + self._logged) / 2 + self._beside, self._chance)
        errors = robust((simulated - self._logged) / per)
        return np.asarray((errors * self._judged * np.sqrt(weights)).ravel(), dtype=np.float64)


def robust(errors: Array) -> Array:
    """Relative errors over `SCALE`, transformed so that half their squares are soft-L1 losses."""
    z = errors / SCALE
    return np.asarray(z * np.sqrt(2.0 / (np.sqrt(1.0 + z * z) + 1.0)), dtype=np.float64)
