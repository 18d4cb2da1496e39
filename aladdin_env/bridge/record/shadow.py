"""What a policy that only watched would have changed, and how far that can be trusted.

Both policies, the one that acted and the one that was asked, serve the recorded requests in the simulator, under the
same seeds. What the simulator makes of the acting one is held against what was recorded: that is the simulator's error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aladdin_env.bridge.decider import SHADOW
from aladdin_env.bridge.record.episode import REFUSED, Episode
from aladdin_env.bridge.record.log import Log
from aladdin_env.bridge.record.outcome import MEASURES, Blocks, Interval, interval, resampled
from aladdin_env.bridge.record.periods import Period, periods
from aladdin_env.errors import InputError
from aladdin_traces import checks

_BLOCKS = 30  # of the whole, where nobody says how long one is
_SHORTEST_S, _LONGEST_S = 10.0, 900.0
_FEWEST = 8  # blocks that an interval needs
_ERROR, _GAIN = "error", "gain"

Progress = Callable[[float], None]


@dataclass(frozen=True)
class ShadowSettings:
    """How a report is made.

    Attributes:
        seeds: Simulations of each policy.
        block_s: Length of a block of the bootstrap, seconds; None: a thirtieth of the whole, 10 s to 15 min.
        resamples: How often blocks are drawn.
    """

    seeds: int = 5
    block_s: float | None = None
    resamples: int = 1000

    def __post_init__(self) -> None:
        checks.whole("seeds", self.seeds, low=1, high=1000)
        checks.whole("resamples", self.resamples, low=100, high=100_000)
        if self.block_s is not None:
            checks.number("block", self.block_s, above=0.0)


@dataclass(frozen=True)
class Line:
    """One measure.

    Attributes:
        measure: Its name, with its unit.
        recorded: As it was, under the acting policy.
        acting: Simulated, the acting policy; mean over seeds.
        shadow: Simulated, the policy that was only asked; mean over seeds.
        error: Simulated minus recorded, of the acting policy.
        gain: Shadow minus acting, both simulated.
    """

    measure: str
    recorded: float
    acting: float
    shadow: float
    error: Interval
    gain: Interval

    @property
    def is_doubtful(self) -> bool:
        """Whether the simulator errs by more than the policies differ."""
        return not abs(self.error.value) <= abs(self.gain.value)


@dataclass(frozen=True)
class ShadowReport:
    """What :func:`shadow_report` finds.

    Attributes:
        policy: The policy that was asked.
        baseline: The one that acted.
        requests: Requests of the log under these two.
        span_s: Seconds that it covers.
        blocks: Blocks of the bootstrap.
        seeds: Simulations of each policy.
        asked: Requests about whose last decision both were asked.
        agreement: Share of these for which both answered the same.
        lines: The measures.
        notes: What a reader should know, a line each.
    """

    policy: str
    baseline: str
    requests: int
    span_s: float
    blocks: int
    seeds: int
    asked: int
    agreement: Interval
    lines: list[Line]
    notes: list[str]


def simulations(logs: Sequence[Log], settings: ShadowSettings) -> int:
    """Units of work of :func:`shadow_report`, for a progress bar."""
    return 2 * settings.seeds * len(_chosen(logs))


def shadow_report(
    logs: Sequence[Log], settings: ShadowSettings = ShadowSettings(), progress: Progress | None = None
) -> ShadowReport:
    """Compare the policy of the mode ``shadow`` with the one that acted.

    Args:
        logs: Logs of one pair of policies; of several the pair with the longest time is taken, and a note says so.
        settings: Seeds and blocks.
        progress: Told how many of :func:`simulations` are done.

    Raises:
        InputError: no policy was asked, nothing was served, or the recorded requests cannot be simulated.
    """
    chosen = _chosen(logs)
    episodes = [Episode(log, period) for log, period in chosen]
    span_s = sum(episode.span_s for episode in episodes)
    block_s = settings.block_s or min(max(span_s / _BLOCKS, _SHORTEST_S), _LONGEST_S)
    counts = [max(1, round(episode.span_s / block_s)) for episode in episodes]
    policy, baseline = chosen[0][1].pair
    tell: Progress = progress or (lambda done: None)
    acting = _simulated(episodes, counts, baseline, settings.seeds, tell)
    shadow = _simulated(
        episodes, counts, policy, settings.seeds, lambda done: tell(done + settings.seeds * len(counts))
    )
    recorded = Blocks([episode.recorded for episode in episodes], counts)
    asked, agreed = _agreement(episodes, counts)
    draws = _draws(recorded, acting, shadow, asked, agreed, settings) if sum(counts) >= _FEWEST else {}
    return ShadowReport(
        policy,
        baseline,
        sum(len(episode.requests) for episode in episodes),
        span_s,
        sum(counts),
        settings.seeds,
        int(asked.sum()),
        interval(float(agreed.sum() / asked.sum()), draws.get("agreement", np.zeros(0))),
        _lines(recorded, acting, shadow, draws),
        _notes(logs, chosen, episodes, sum(counts)),
    )


def _chosen(logs: Sequence[Log]) -> list[tuple[Log, Period]]:
    """The periods in which a policy was asked; of several pairs the one with most time."""
    found = [(log, period) for log in logs for period in periods(log) if _was_asked(log, period)]
    if not found:
        modes = ", ".join(sorted({period.regime.mode for log in logs for period in periods(log)}))
        mend = "give a log of the mode 'shadow', in which a policy is asked that does not act"
        raise InputError("log", f"no shadow answers, mode {modes or 'unknown'}", mend)
    spans: dict[tuple[str, str], float] = {}
    for _, period in found:
        spans[period.pair] = spans.get(period.pair, 0.0) + period.end_s - period.start_s
    longest = max(spans, key=lambda pair: spans[pair])
    return [(log, period) for log, period in found if period.pair == longest]


def _was_asked(log: Log, period: Period) -> bool:
    if period.regime.mode != SHADOW:
        return False
    arrived = log.requests["arrival_s"].between(period.start_s, period.end_s, inclusive="left")
    return bool(log.requests.loc[arrived, "shadow"].notna().any())


def _simulated(
    episodes: Sequence[Episode], counts: Sequence[int], spec: str, seeds: int, progress: Progress
) -> list[Blocks]:
    """One for each seed."""
    found = []
    for seed in range(seeds):
        outcomes = []
        for i, episode in enumerate(episodes):
            outcomes.append(episode.simulate(spec, seed))
            progress(seed * len(episodes) + i + 1)
        found.append(Blocks(outcomes, counts))
    return found


def _agreement(episodes: Sequence[Episode], counts: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Answers of both policies, and same answers, in each block."""
    asked, agreed = [], []
    for episode, blocks in zip(episodes, counts, strict=True):
        both = episode.requests[episode.requests["shadow"].notna()]
        block = episode.recorded.blocks_of(both["arrival_s"].to_numpy() - episode.period.start_s, blocks)
        same = (both["shadow"] == both["answer"]).to_numpy()
        asked.append(np.bincount(block, minlength=blocks))
        agreed.append(np.bincount(block[same], minlength=blocks))
    return np.concatenate(asked).astype(np.float64), np.concatenate(agreed).astype(np.float64)


def _draws(
    recorded: Blocks,
    acting: Sequence[Blocks],
    shadow: Sequence[Blocks],
    asked: NDArray[np.float64],
    agreed: NDArray[np.float64],
    settings: ShadowSettings,
) -> dict[str, NDArray[np.float64]]:
    """Errors, gains and agreement under resampled blocks, by what they are and the measure."""

    def measured(weights: NDArray[Any], seed: int) -> dict[str, float]:
        was, did, would = (one.measures(weights) for one in (recorded, acting[seed], shadow[seed]))
        found = {f"{_ERROR} {name}": did[name] - was[name] for name in MEASURES}
        found |= {f"{_GAIN} {name}": would[name] - did[name] for name in MEASURES}
        both = float(weights @ asked)
        return found | {"agreement": float(weights @ agreed) / both if both else np.nan}

    return resampled(measured, recorded.size, settings.resamples, settings.seeds)


def _lines(
    recorded: Blocks, acting: Sequence[Blocks], shadow: Sequence[Blocks], draws: dict[str, NDArray[np.float64]]
) -> list[Line]:
    was = recorded.measures()
    did, would = ({name: _mean(one, name) for name in MEASURES} for one in (acting, shadow))
    none = np.zeros(0)
    return [
        Line(
            name,
            was[name],
            did[name],
            would[name],
            interval(did[name] - was[name], draws.get(f"{_ERROR} {name}", none)),
            interval(would[name] - did[name], draws.get(f"{_GAIN} {name}", none)),
        )
        for name in MEASURES
    ]


def _mean(blocks: Sequence[Blocks], measure: str) -> float:
    return float(np.mean([one.measures()[measure] for one in blocks]))


def _notes(
    logs: Sequence[Log], chosen: Sequence[tuple[Log, Period]], episodes: Sequence[Episode], blocks: int
) -> list[str]:
    total = sum(len(log.requests) for log in logs)
    used = sum(int((episode.requests["outcome"] != REFUSED).sum()) for episode in episodes)
    notes = ["Guard rails, failures and restarts of workers are not simulated, and scalers begin without a history."]
    if used < total:
        pair = " and ".join(chosen[0][1].pair)
        notes.append(f"{total - used} of {total} requests came under another mode or other policies than {pair}.")
    unserved = sum(int((~episode.requests["outcome"].isin(["finished", "left"])).sum()) for episode in episodes)
    if unserved:
        notes.append(f"{unserved} requests were not served: in the simulator they are as long as others were.")
    for what, count in (
        ("cut off at the end of a file", sum(log.truncated for log in logs)),
        ("lost, for they could not be written", sum(log.lost for log in logs)),
    ):
        if count:
            notes.append(f"{count} lines were {what}.")
    if blocks < _FEWEST:
        notes.append(f"No intervals: {blocks} blocks of time, and they take {_FEWEST}.")
    return notes
