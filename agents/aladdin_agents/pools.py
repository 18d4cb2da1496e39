"""What scalers read of the cluster: workers and load of each type, rates and lengths of the recent past."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from aladdin_agents.sizing import LengthStatistics
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.state import FAILED, LENGTH_BINS, READY, STARTING
from aladdin_env.view import ClusterView

_P99 = 0.99


@dataclass(frozen=True)
class Pool:
    """The workers of one type, now.

    Attributes:
        ready: Workers that serve.
        coming: Workers that will serve: starting, or to be started again after a failure.
        running: Requests in their batches.
        waiting: Requests placed on them and not admitted yet.
        kv: Mean share of KV memory in use, prompts that wait counted in.
        queue_s: Seconds of prefill that wait on them, on average, at the type's pace of a full step.
    """

    ready: int
    coming: int
    running: int
    waiting: int
    kv: float
    queue_s: float

    @property
    def wanted_so_far(self) -> int:
        """What was asked for before: all that serve or will."""
        return self.ready + self.coming

    @property
    def concurrency(self) -> int:
        """Requests on them."""
        return self.running + self.waiting


def pool_of(view: ClusterView, kind: int) -> Pool:
    """The workers of type ``kind``."""
    limits = view.types[kind]
    workers = view.workers[limits["first_slot"] : limits["first_slot"] + limits["slots"]]
    status = workers["status"]
    serving = workers[status == READY]
    coming = int(np.count_nonzero((status == STARTING) | (status == FAILED)))
    profile = view.scenario.fleet.types[kind].latency
    budget = int(limits["max_num_batched_tokens"])
    tokens = float(serving["waiting_prefill_tokens"].sum())
    blocks = serving["kv_used_blocks"] + serving["waiting_prefill_tokens"] / serving["block_size"]
    count = len(serving)
    return Pool(
        ready=count,
        coming=coming,
        running=int(serving["running"].sum()),
        waiting=int(serving["waiting"].sum() + serving["inbound"].sum()),
        kv=float((blocks / serving["kv_blocks"]).mean()) if count else 0.0,
        queue_s=tokens / count * profile.prefill_s(budget) / budget if count else 0.0,
    )


def prompt_spread(view: ClusterView) -> tuple[float, float]:
    """Mean square and 99th percentile of finished prompts, tokens, from the predictor's table of prompt lengths.

    Its buckets are octaves: each counts as its middle for the square and as its upper edge for the percentile.
    """
    counts = view.lengths[:, LENGTH_BINS, 0]
    total = float(counts.sum())
    if total == 0.0:
        return 0.0, 0.0
    edges = 2.0 ** np.arange(len(counts))
    square = float((counts * (1.5 * edges) ** 2).sum() / total)
    at = int(np.searchsorted(np.cumsum(counts), _P99 * total))
    return square, float(2.0 * edges[min(at, len(edges) - 1)])


_SUMS = ("finished", "finished_prompt_tokens", "finished_output_tokens", "finished_context_tokens")


class RecentLengths:
    """Length statistics of what finished in the last ``window_s`` seconds, asked once per heartbeat."""

    def __init__(self, window_s: float, least: int) -> None:
        """Nothing is said before ``least`` requests have finished; with fewer in the window it grows."""
        self._window_s = window_s
        self._least = least
        self._past: deque[tuple[float, dict[str, float]]] = deque()

    def update(self, view: ClusterView) -> LengthStatistics | None:
        """Statistics as of now."""
        now = {name: float(view.cluster[name]) for name in _SUMS}
        self._past.append((view.now_s, now))
        while len(self._past) > 1 and self._is_enough(self._past[1], view.now_s, now["finished"]):
            self._past.popleft()
        oldest = self._past[0][1]
        if now["finished"] < self._least:
            return None
        if now["finished"] - oldest["finished"] < self._least:
            oldest = dict.fromkeys(_SUMS, 0.0)
        recent = {name: now[name] - oldest[name] for name in _SUMS}
        return LengthStatistics.from_sums(recent, *prompt_spread(view))

    def _is_enough(self, sample: tuple[float, dict[str, float]], now_s: float, finished: float) -> bool:
        return now_s - sample[0] >= self._window_s and finished - sample[1]["finished"] >= self._least


def within_gpus(scenario: Scenario, wanted: list[int], order: list[int]) -> list[int]:
    """``wanted`` cut to the limits of each type and to the fleet's GPUs; types last in ``order`` are cut first."""
    types = scenario.fleet.types
    cut = [min(max(n, kind.minimum), kind.maximum) for n, kind in zip(wanted, types, strict=True)]
    if scenario.fleet.max_gpus is None:
        return cut
    left = scenario.fleet.max_gpus - sum(kind.minimum * kind.gpus for kind in types)
    for i in order:
        extra = min(cut[i] - types[i].minimum, max(0, left) // types[i].gpus)
        cut[i] = types[i].minimum + extra
        left -= extra * types[i].gpus
    return cut
