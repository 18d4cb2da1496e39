"""The exact minimum of workers for requests that are all there at once: the paper's bin packing, solved by HiGHS.

A small mixed-integer program, for a few dozen requests: the yardstick of placements and of the clairvoyant bound. That
placement is multi-dimensional bin packing is the paper's; the program over batch sizes, which holds for tables of
decode times as well as for the linear law, is our reconstruction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, lil_array

from aladdin_env.errors import InputError
from aladdin_env.scenario import WorkerType
from aladdin_traces import checks

Array = NDArray[np.float64]
_MOST = 64
_TIME_OUT = 1  # HiGHS' status of a run that its time limit ended


@dataclass(frozen=True)
class Packing:
    """Requests on the fewest workers.

    Attributes:
        workers: How many.
        assignment: Worker 0 .. workers - 1 of each request.
        is_proven: Whether fewer are proven to be too few; else the time limit came first.
    """

    workers: int
    assignment: NDArray[np.int64]
    is_proven: bool


def room_for(kind: WorkerType, atgt_s: float, most: int, theta: float = 1.0) -> Array:
    """Context tokens that a batch of 1 .. ``most`` requests may have together at the pace ``theta * atgt_s``.

    ``(theta ATGT - alpha_b) / beta_b``; negative where not even an empty context is in time.
    """
    alpha, beta = kind.latency.decode.tables(most)
    spare = theta * atgt_s - alpha[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        room: Array = np.where((beta[1:] == 0.0) & (spare >= 0.0), np.inf, spare / beta[1:])
    return room


def fewest_bins(
    kind: WorkerType,
    atgt_s: float,
    context_tokens: npt.ArrayLike,
    kv_tokens: npt.ArrayLike | None = None,
    *,
    theta: float = 1.0,
    gamma: float = 1.0,
    time_limit_s: float = 60.0,
) -> Packing:
    """Pack requests onto the fewest workers of one type, so that pace, memory and places hold on each.

    Args:
        kind: The worker type.
        atgt_s: Seconds per token allowed.
        context_tokens: Context of each request in the decode step that must be in time, tokens, 1 to 64 requests.
        kv_tokens: KV that each needs, tokens; by default its context.
        theta: Share of ``atgt_s`` that a step may take, above 0, at most 1.
        gamma: Share of the memory that may be used, above 0, at most 1.
        time_limit_s: Seconds of search, above 0.

    Raises:
        InputError: A share or a size out of range, too many requests, or one that no worker can serve in time.
    """
    checks.number("atgt_s", atgt_s, above=0.0)
    for name, share in (("theta", theta), ("gamma", gamma)):
        checks.number(name, share, above=0.0, high=1.0)
    checks.number("time_limit_s", time_limit_s, above=0.0)
    context = np.array(checks.numbers("context_tokens", context_tokens, low=0.0))
    kv = context if kv_tokens is None else np.array(checks.numbers("kv_tokens", kv_tokens, low=0.0))
    if not 1 <= len(context) <= _MOST or len(kv) != len(context):
        raise InputError("context_tokens", len(context), f"give 1 to {_MOST} requests, and as many kv_tokens")
    most = min(len(context), kind.max_num_seqs)
    room = np.minimum(room_for(kind, atgt_s, most, theta), context.sum())  # more than all is never needed
    overhead = kind.latency.kv_overhead_tokens * np.arange(1.0, most + 1.0)
    memory = np.asarray(gamma * kind.kv_blocks * kind.block_size - overhead, dtype=np.float64)
    alone = (context > room.max()) | (kv > memory[0])
    if alone.any():
        at = int(np.argmax(alone))
        raise InputError(f"context_tokens[{at}]", context[at], "no worker can serve it within the objective")
    return _solve(context, kv, room, memory, _first_fit(context, kv, room, memory), time_limit_s)


def _first_fit(context: Array, kv: Array, room: Array, memory: Array) -> NDArray[np.int64]:
    """First fit by falling context: an upper bound on the workers, and a packing to fall back on."""
    assignment = np.zeros(len(context), dtype=np.int64)
    bins: list[list[int]] = []
    for i in np.argsort(-context, kind="stable"):
        for number, held in enumerate(bins):
            both = [*held, int(i)]
            batch = len(both) - 1
            if batch < len(room) and context[both].sum() <= room[batch] and kv[both].sum() <= memory[batch]:
                held.append(int(i))
                assignment[i] = number
                break
        else:
            assignment[i] = len(bins)
            bins.append([int(i)])
    return assignment


def _solve(
    context: Array, kv: Array, room: Array, memory: Array, known: NDArray[np.int64], time_limit_s: float
) -> Packing:
    """Minimise the open workers; x[w, i]: request i is on worker w, z[w, b]: worker w has a batch of b + 1."""
    n, sizes, bins = len(context), len(room), int(known.max()) + 1
    if (context > room[0]).any():  # where beta falls with the batch, who is too slow alone may do with a companion
        bins = n
    columns = bins * (n + sizes)
    cost = np.zeros(columns)
    cost[bins * n :] = 1.0
    matrix, low, high = _constraints(context, kv, room, memory, bins)
    found = milp(
        cost,
        constraints=LinearConstraint(matrix, low, high),
        integrality=np.ones(columns, dtype=np.int64),
        bounds=Bounds(0.0, 1.0),
        options={"time_limit": time_limit_s},
    )
    if found.x is None:
        return Packing(bins, known, is_proven=False)
    chosen = found.x[: bins * n].reshape(bins, n).argmax(axis=0)
    used, assignment = np.unique(chosen, return_inverse=True)
    return Packing(len(used), assignment.astype(np.int64), is_proven=found.status != _TIME_OUT)


def _constraints(context: Array, kv: Array, room: Array, memory: Array, bins: int) -> tuple[csr_array, Array, Array]:
    """Rows: each request once; per worker one batch size at most, its count, pace, memory; open workers come first."""
    n, sizes = len(context), len(room)
    z = bins * n
    rows = n + 4 * bins + (bins - 1)
    matrix, low, high = lil_array((rows, bins * (n + sizes))), np.full(rows, -np.inf), np.zeros(rows)
    for i in range(n):
        matrix[i, i : bins * n : n] = 1.0
    low[:n] = high[:n] = 1.0
    for w in range(bins):
        mine, batches = slice(w * n, (w + 1) * n), slice(z + w * sizes, z + (w + 1) * sizes)
        at = n + 4 * w
        matrix[at, batches], high[at] = 1.0, 1.0
        matrix[at + 1, mine], matrix[at + 1, batches] = 1.0, -np.arange(1.0, sizes + 1.0)
        low[at + 1] = 0.0
        matrix[at + 2, mine], matrix[at + 2, batches] = context, -np.maximum(room, 0.0)
        matrix[at + 3, mine], matrix[at + 3, batches] = kv, -np.maximum(memory, 0.0)
        if w + 1 < bins:
            after = slice(z + (w + 1) * sizes, z + (w + 2) * sizes)
            matrix[n + 4 * bins + w, batches], matrix[n + 4 * bins + w, after] = -1.0, 1.0
    return csr_array(matrix), low, high
