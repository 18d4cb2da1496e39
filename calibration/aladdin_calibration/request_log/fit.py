"""The whole fit: search, choice of the form, judgement on unseen requests, uncertainty."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aladdin_calibration.request_log.judged import figures
from aladdin_calibration.request_log.log import EngineLimits, Flags, RequestLog
from aladdin_calibration.request_log.objective import EXACT, Objective
from aladdin_calibration.request_log.parameters import FORMS, NAMES, Laws, Space
from aladdin_calibration.request_log.result import Estimate, KvRoom, LogFit
from aladdin_calibration.request_log.search import DISTINCT, Point, best_of, is_bound, local, narrow, scan
from aladdin_calibration.request_log.start import Windows
from aladdin_calibration.request_log.uncertainty import covariance, log_spreads, room_spread
from aladdin_traces import checks
from aladdin_traces.errors import InputError

Array = npt.NDArray[np.float64]

LEAST_REQUESTS = 40
_STARTS = 8  # random ones, once the KV room is known
_FOLDS = 5
_SETTLED = 6  # of the points found, how many are fitted exactly
_LEVEL = 1.96  # standard errors to each side of a 95 % interval
_CLOCKS = 1.1  # so many times its slots a server may seem to fill: clients see tokens late, some later than others
# Simulations of a fit, about; only the progress bar depends on it.
_EXPECTED = 45_000


@dataclass(frozen=True)
class _Found:
    """The best laws of the best form, and the points about them."""

    form: str
    space: Space
    best: Point
    points: list[Point]
    identified: bool

    @property
    def laws(self) -> Laws:
        """The best laws."""
        return self.space.laws(self.best.x)


def fit_request_log(
    log: RequestLog,
    limits: EngineLimits,
    *,
    train_share: float = 0.5,
    refit: bool = False,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> LogFit:
    """Find the laws and the KV capacity whose simulation reproduces ``log``.

    All arrivals and lengths go into every simulation; the laws are fitted to what became of the first requests alone
    and judged by what became of the others.

    Args:
        log: the requests of one run.
        limits: the limits of the server that served them.
        train_share: share of the requests, by arrival, whose outcomes are fitted, in (0, 1]; 1 judges nothing.
        refit: fit once more to all requests after judging; ``held_out`` then is that of the laws before.
        seed: of everything random.
        progress: called now and then with the part done, 0 to 1.

    Raises:
        InputError: too few requests to fit, a share out of its range, or a KV capacity in ``limits`` that the
            longest request would not have fitted into, or other limits that the log contradicts.
    """
    started = time.perf_counter()
    share = checks.number("train_share", train_share, above=0.0, high=1.0)
    rng = np.random.default_rng(checks.whole("seed", seed, low=0, high=2**63))
    n = len(log)
    train = np.arange(n) < round(n * share)
    if train.sum() < LEAST_REQUESTS:
        least = int(np.ceil(LEAST_REQUESTS / share))
        raise InputError("log", f"{n} requests", f"give at least {least}: {LEAST_REQUESTS} to fit to")
    report = _Progress(progress, _EXPECTED * (2 if refit else 1))
    objective = Objective(log, limits, report.tick)
    _check_limits(log, limits)
    _check_capacity(objective)
    found = _search(objective, train, rng)
    held_out = _judge(objective, found, ~train)
    if refit:
        train = np.ones(n, dtype=bool)
        found = _search(objective, train, rng)
    fit = LogFit(
        limits=limits,
        form=found.form,
        laws=found.laws,
        coefficients=_estimates(objective, found, train),
        kv=_kv_room(objective, found, train, rng),
        held_out=held_out,
        in_sample=_judge(objective, found, train),
        train_requests=round(n * share),
        test_requests=n - round(n * share),
        refitted=refit,
        simulations=objective.simulations,
        seconds=time.perf_counter() - started,
        seed=seed,
    )
    report.done()
    return fit


class _Progress:
    """Counts simulations and tells the caller, never going back and never beyond the end."""

    def __init__(self, tell: Callable[[float], None] | None, expected: int) -> None:
        self._tell = tell
        self._expected = expected
        self._count = 0

    def tick(self) -> None:
        self._count += 1
        if self._tell and self._count % 100 == 0:
            self._tell(min(0.99, self._count / self._expected))

    def done(self) -> None:
        if self._tell:
            self._tell(1.0)


def _check_limits(log: RequestLog, limits: EngineLimits) -> None:
    """Refuse limits that the log contradicts: under others its requests would not have run as they did."""
    for name in ("max_num_seqs", "max_num_batched_tokens"):
        given, told = getattr(limits, name), log.told.get(name)
        if told is not None and told.removesuffix(".0") != str(given):
            raise InputError(name, given, f"the log's own column {name} says {told}: give that")
    at_once, most = log.decoding_at_once, limits.max_num_seqs
    if at_once > _CLOCKS * most:
        mend = f"give at least {at_once}, what the server was started with: so many requests of the log decode at once"
        raise InputError("max_num_seqs", most, mend)


def _check_capacity(objective: Objective) -> None:
    given, size = objective.limits.kv_capacity_tokens, objective.limits.block_size
    if given is not None and given // size < objective.least_blocks:
        mend = f"give at least {objective.least_blocks * size}: the longest request needed as much"
        raise InputError("kv_capacity_tokens", given, mend)


def _search(objective: Objective, train: Flags, rng: np.random.Generator) -> _Found:
    """The paper's form first; then, about the KV room found with it, the form that predicts unseen requests best."""
    windows = Windows(objective.log, train)
    spaces = {name: Space(form, windows.work) for name, form in FORMS.items()}
    linear = spaces["linear"]
    starts = [windows.solved(linear), windows.at(linear.centre)]
    points = _points(objective, linear, windows, starts, train, rng)
    chosen = _choose_form(objective, spaces, best_of(points), train)
    if chosen != "linear":
        starts = [spaces[chosen].taken_over(best_of(points).x, linear)]
        points = _points(objective, spaces[chosen], windows, starts, train, rng)
    return _settled(objective, chosen, spaces[chosen], windows, points, train)


def _points(
    objective: Objective, space: Space, windows: Windows, starts: list[Array], train: Flags, rng: np.random.Generator
) -> list[Point]:
    """Local optima by KV blocks, ascending: all over the room and ever finer about the best; or at the given room."""
    given, weights = objective.limits.kv_capacity_tokens, train.astype(np.float64)
    if given is None:
        points = narrow(objective, space, scan(objective, space, starts, weights), weights)
    else:
        blocks = given // objective.limits.block_size
        points = [best_of([local(objective, space, x, blocks, weights) for x in starts])]
    best = best_of(points)
    others = [windows.at(space.drawn(rng)) for _ in range(_STARTS)]
    better = best_of([best, *(local(objective, space, x, best.blocks, weights) for x in others)])
    return narrow(objective, space, [better if p is best else p for p in points], weights)


def _settled(
    objective: Objective, name: str, space: Space, windows: Windows, points: list[Point], train: Flags
) -> _Found:
    """The best of ``points`` and the one with room for everything, fitted exactly; which one decides on the memory."""
    weights, given = train.astype(np.float64), objective.limits.kv_capacity_tokens is not None
    likely = sorted(points, key=lambda p: p.loss)[:_SETTLED]
    starts = [*(p.x for p in likely), points[-1].x, windows.solved(space), windows.at(space.centre)]

    def exact(x: Array, blocks: int) -> Point:
        return local(objective, space, x, blocks, weights, EXACT)

    def settled(tries: list[Point]) -> Point:
        near = best_of(tries)
        return best_of([near, exact(near.x, near.blocks)])

    most = points[-1].blocks
    unbound = settled([exact(x, most) for x in starts])
    least = settled([unbound, *(exact(p.x, p.blocks) for p in likely if p.blocks != most)])
    identified = given or is_bound([least, unbound])
    return _Found(name, space, least if identified else unbound, points, identified)


def _choose_form(objective: Objective, spaces: dict[str, Space], at: Point, train: Flags) -> str:
    """The form that predicts left-out stretches of the fitted requests best.

    A form with more terms must beat the simpler one by more than the standard error of the difference over the folds.
    """
    rows = np.flatnonzero(train)
    fold = np.full(len(train), -1)
    fold[rows] = np.arange(len(rows)) * _FOLDS // len(rows)
    chosen, least = "", np.full(_FOLDS, np.inf)
    for name, space in spaces.items():
        x = space.taken_over(at.x, spaces["linear"])
        losses = np.empty(_FOLDS)
        for k in range(_FOLDS):
            fitted = local(objective, space, x, at.blocks, (train & (fold != k)).astype(np.float64))
            unseen = (fold == k).astype(np.float64)
            losses[k] = np.square(objective.errors(fitted.x, space, at.blocks, unseen)).sum()
        gain = least - losses
        if not chosen or gain.mean() > gain.std(ddof=1) / np.sqrt(_FOLDS):
            chosen, least = name, losses
    return chosen


def _judge(objective: Objective, found: _Found, judged: Flags) -> dict[str, float]:
    return figures(objective.log, objective.measures(found.laws, found.best.blocks), judged) if judged.any() else {}


def _estimates(objective: Objective, found: _Found, train: Flags) -> dict[str, Estimate]:
    """Each coefficient with its uncertainty; intervals on the logarithmic scale, for none is negative."""
    spreads = log_spreads(found.space, found.best.x, covariance(objective, found.space, found.best, train))
    estimates = {}
    for name, value, spread in zip(NAMES, found.laws.values().tolist(), spreads.tolist(), strict=True):
        factor = float(np.exp(_LEVEL * spread))
        estimates[name] = Estimate(value, value * spread, value / factor, value * factor)
    return estimates


def _kv_room(objective: Objective, found: _Found, train: Flags, rng: np.random.Generator) -> KvRoom:
    size, given, best = objective.limits.block_size, objective.limits.kv_capacity_tokens, found.best.blocks
    if given is not None:
        return KvRoom(given, given, given, identified=True)
    if not found.identified:
        return KvRoom(
            _needed_blocks(objective, found) * size, _least_room(objective, found, train) * size, np.inf, False
        )
    near = [p for p in found.points if p.loss < best_of(found.points).loss + 20 * DISTINCT]
    blocks = [p.blocks for p in found.points]
    at = blocks.index(best)
    spacing = max(blocks[min(at + 1, len(blocks) - 1)] - best, best - blocks[max(at - 1, 0)])
    half = float(np.hypot(_LEVEL * room_spread(objective, found.space, near, train, rng), spacing))
    low, high = max(best - half, float(objective.least_blocks)), best + half
    return KvRoom(best * size, low * size, high * size, identified=True)


def _needed_blocks(objective: Objective, found: _Found) -> int:
    """The fewest KV blocks that leave the simulation of the whole log as it is with room for everything."""
    whole = objective.measures(found.laws, objective.most_blocks)

    def same(blocks: int) -> bool:
        return np.array_equal(objective.measures(found.laws, blocks), whole)

    return _fewest(objective, same)


def _least_room(objective: Objective, found: _Found, train: Flags) -> int:
    """The fewest KV blocks with which the fitted requests are reproduced as well as with room for everything."""
    weights = train.astype(np.float64)

    def loss(blocks: int) -> float:
        return float(np.square(objective.errors(found.best.x, found.space, blocks, weights)).sum() / 2)

    most = loss(objective.most_blocks) + DISTINCT
    return _fewest(objective, lambda blocks: loss(blocks) <= most)


def _fewest(objective: Objective, enough: Callable[[int], bool]) -> int:
    """The fewest KV blocks that are ``enough``, between what the longest request needs and room for everything."""
    low, high = objective.least_blocks, objective.most_blocks
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high
