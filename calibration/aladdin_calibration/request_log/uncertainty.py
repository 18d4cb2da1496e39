"""How well a log determines the laws and the KV room.

Errors of neighbouring requests go together (they share the engine's steps), so requests count in blocks of consecutive
ones. With the Jacobian J of the errors r, the spreads S of what is known beforehand and the blocks' scores
``g_b = J_b^T r_b`` the covariance of the coordinates is ::

    H^-1 (sum_b g_b g_b^T + S^-2) H^-1,   H = J^T J + S^-2

the cluster-robust covariance of a Gauss-Newton estimate (Liang and Zeger 1986), and no wider in any direction than what
was known beforehand. (The two factors J of ``J^T J`` come from different halves of the ensemble: their noise would
pass for information.) The KV room has no derivative: its interval comes from choosing among the fitted rooms again
under exponential weights of the blocks (the Bayesian bootstrap, Rubin 1981).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aladdin_calibration.request_log.objective import MEMBERS, Objective
from aladdin_calibration.request_log.parameters import Space
from aladdin_calibration.request_log.search import Point

Array = npt.NDArray[np.float64]

_STEP = 0.1  # of a logarithm, to each side
_BLOCKS = 15  # of consecutive requests
_DRAWS = 400
_NOTHING = 1e-300  # stands for a coefficient that a form does not have


def _block_of(counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The block of each request, -1 for those not counted: shape (n,)."""
    rows = np.flatnonzero(counted)
    blocks = np.full(len(counted), -1, dtype=np.int64)
    blocks[rows] = np.arange(len(rows)) * _BLOCKS // len(rows)
    return blocks


def covariance(objective: Objective, space: Space, at: Point, counted: npt.NDArray[np.bool_]) -> Array:
    """Covariance of the coordinates of the optimum ``at``, shape (size, size)."""
    weights, size = counted.astype(np.float64), len(at.x)

    def jacobian(members: slice) -> Array:
        def errors(x: Array) -> Array:
            return objective.errors(x, space, at.blocks, weights, members)

        return np.stack([(errors(at.x + s) - errors(at.x - s)) / (2 * _STEP) for s in _STEP * np.eye(size)], axis=1)

    residual = objective.errors(at.x, space, at.blocks, weights, slice(MEMBERS))
    blocks = _block_of(counted)

    one, other = jacobian(slice(MEMBERS // 2)), jacobian(slice(MEMBERS // 2, None))
    of_request = ((one + other) / 2 * residual[:, None]).reshape(-1, len(counted), size).sum(axis=0)
    scores = np.stack([of_request[blocks == b].sum(axis=0) for b in range(_BLOCKS)])
    expected = np.diag(np.concatenate([[0.0], space.spread**-2.0]))
    bread = np.linalg.pinv(_between(one.T @ other) + expected)
    meat = scores.T @ scores * (_BLOCKS / (_BLOCKS - 1)) + expected
    scale = np.concatenate([[1.0], space.spread])
    return _between(bread @ meat @ bread / np.outer(scale, scale), most=1.0) * np.outer(scale, scale)


def _between(matrix: Array, most: float = np.inf) -> Array:
    """The nearest symmetric matrix with eigenvalues from 0, below which only noise brings them, to ``most``."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.clip(values, 0.0, most)) @ vectors.T, dtype=np.float64)


def log_spreads(space: Space, x: Array, cov: Array) -> Array:
    """Standard errors of the logarithms of the laws' coefficients (`Laws.values`), to first order."""

    def logs(at: Array) -> Array:
        return np.log(np.maximum(space.laws(at).values(), _NOTHING))

    step = 1e-4
    gradient = np.stack([(logs(x + step * e) - logs(x - step * e)) / (2 * step) for e in np.eye(len(x))], axis=1)
    return np.asarray(np.sqrt(np.maximum(np.diag(gradient @ cov @ gradient.T), 0.0)), dtype=np.float64)


def room_spread(
    objective: Objective, space: Space, points: list[Point], counted: npt.NDArray[np.bool_], rng: np.random.Generator
) -> float:
    """Standard error of the KV blocks: how far the choice among ``points`` moves under other weights."""
    weights, blocks = counted.astype(np.float64), _block_of(counted)
    losses = np.empty((len(points), _BLOCKS))
    for i, p in enumerate(points):
        squares = np.square(objective.errors(p.x, space, p.blocks, weights)).reshape(-1, len(counted)).sum(axis=0)
        losses[i] = np.bincount(blocks[counted], weights=squares[counted], minlength=_BLOCKS)
    surprises = np.array([np.square(space.surprise(p.x, space.centre)).sum() for p in points])
    drawn = rng.exponential(size=(_DRAWS, _BLOCKS))
    chosen = (drawn @ losses.T + surprises).argmin(axis=1)
    return float(np.std(np.array([p.blocks for p in points])[chosen]))
