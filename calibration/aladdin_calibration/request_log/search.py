"""The search for laws and KV room: local in the laws, a narrowing scan in the room.

The laws move the simulated times smoothly but for small jumps where a preemption changes; derivatives taken over steps
as wide as a good part of what is known beforehand see past them. In the KV room everything is jumps, so it is scanned:
coarsely on a logarithmic grid, the laws fitted anew at every point, then on a dense one with the laws of the best
points, then ever finer about the best down to single blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from aladdin_calibration.request_log.objective import SEARCH, Objective
from aladdin_calibration.request_log.parameters import Space

Array = npt.NDArray[np.float64]

_STEP, _FIRST_STEP = 0.4, 0.03  # of what is known beforehand, and of the first coordinate: far enough to see past jumps
_TOLERANCE = 1e-3  # finer than that only the jumps differ
_EVALUATIONS = 15
_COARSE, _DENSE, _FINE = 14, 300, 3  # points of the grids all over, and half the intervals of a finer one
_TRIED, _ROUNDS = 3, 2
_FINEST = 5e-4  # of the room: finer than that only the jumps differ
DISTINCT = 1.92  # a loss that much higher is out of the 95 % interval: half the quantile of chi-squared, one degree
_ROUGHNESS = 0.05  # of a loss: what chance makes of it between two local optima


@dataclass(frozen=True, eq=False)
class Point:
    """A local optimum of the laws at one KV room: coordinates, KV blocks and the loss there."""

    x: Array
    blocks: int
    loss: float


def local(objective: Objective, space: Space, at: Array, blocks: int, weights: Array, members: slice = SEARCH) -> Point:
    """The laws nearest to ``at`` that fit best with ``blocks`` KV blocks.

    Args:
        objective: the log.
        space: coordinates of the laws.
        at: coordinates to begin with, shape (size,).
        blocks: KV blocks.
        weights: how much each request counts, shape (n,).
        members: simulations of the ensemble that count.
    """
    low, high = space.bounds()

    def errors(x: Array) -> Array:
        return np.concatenate(
            [objective.all_errors(x, space, blocks, weights, members), space.surprise(x, space.centre)]
        )

    inside = np.clip(at, low + 1e-3, high - 1e-3)
    step = np.concatenate([[_FIRST_STEP], _STEP * space.spread])
    found = least_squares(
        errors,
        inside,
        bounds=(low, high),
        x_scale=step,
        diff_step=step / np.maximum(np.abs(inside), 1e-3),  # scipy multiplies it by |x|
        xtol=_TOLERANCE,
        ftol=_TOLERANCE,
        max_nfev=_EVALUATIONS,
    )
    return Point(np.asarray(found.x, dtype=np.float64), blocks, float(found.cost))


def scan(objective: Objective, space: Space, starts: list[Array], weights: Array) -> list[Point]:
    """Local optima over the KV room, by blocks, ascending; the last has room for everything.

    First on a coarse grid, each the better of those reached from ``starts`` and from the neighbour with more room. A
    shortage shows in a narrow stretch of the room, which such a grid may miss; so the best points' laws are tried on a
    dense grid, too, and fitted where these do best.
    """
    grid = _grid(objective, _COARSE)
    points: list[Point] = []
    for blocks in grid[::-1]:
        begin = starts + [point.x for point in points[:1]]
        points.insert(0, best_of([local(objective, space, x, blocks, weights) for x in begin]))
    for _ in range(_ROUNDS):
        points = sorted(points + _dense(objective, space, points, starts, weights), key=lambda p: p.blocks)
        best = best_of(points)
        # Else a better optimum of the laws, found here by chance, would pass for a shortage of memory.
        points[-1] = best_of([points[-1], local(objective, space, best.x, points[-1].blocks, weights)])
        if not is_bound(points):
            break
    return points


def _dense(objective: Objective, space: Space, points: list[Point], starts: list[Array], weights: Array) -> list[Point]:
    """Local optima at the rooms of a dense grid where memory is short and the given laws do best.

    These laws are ``starts`` and those of the best points that differ.
    """
    order = sorted(points, key=lambda p: p.loss)
    differing = [p for p, before in zip(order, [None, *order[:-1]], strict=True) if not before or p.loss > before.loss]
    added: list[Point] = []
    for x in [*starts, *(point.x for point in differing[:_TRIED])]:
        known = {p.blocks for p in points + added}
        rooms = [blocks for blocks in _grid(objective, _DENSE) if blocks not in known]
        tried = [*rooms, points[-1].blocks]
        losses = np.array([np.square(objective.errors(x, space, blocks, weights)).sum() for blocks in tried])
        short = np.flatnonzero(losses[:-1] != losses[-1])
        likely = short[np.argsort(losses[short], kind="stable")[:_TRIED]]
        added += [local(objective, space, x, rooms[i], weights) for i in likely]
    return added


def _grid(objective: Objective, points: int) -> list[int]:
    grid = np.geomspace(objective.least_blocks, objective.most_blocks, points).round().astype(int)
    return [int(blocks) for blocks in np.unique(grid)]


def narrow(objective: Objective, space: Space, points: list[Point], weights: Array) -> list[Point]:
    """Add points about the best one of ``points`` (by blocks, ascending) until its neighbours are close."""
    while True:
        best = points.index(best_of(points))
        low, high = points[max(best - 1, 0)].blocks, points[min(best + 1, len(points) - 1)].blocks
        if high - low <= 2 * max(1.0, _FINEST * high) or not is_bound(points):
            return points
        known = {point.blocks for point in points}
        between = set(np.linspace(low, high, 2 * _FINE + 1).round().astype(int).tolist()) - known
        added = [local(objective, space, points[best].x, blocks, weights) for blocks in between]
        points = sorted(points + added, key=lambda point: point.blocks)


def best_of(points: list[Point]) -> Point:
    """The point with the least loss; among equals the one with the most room."""
    return min(points, key=lambda point: (point.loss, -point.blocks))


def is_bound(points: list[Point]) -> bool:
    """Whether the log says that the KV room was short: with room for everything (the last) the fit is clearly worse."""
    least, unbound = best_of(points).loss, points[-1].loss
    return unbound - least > DISTINCT + _ROUGHNESS * least
