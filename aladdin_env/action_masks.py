"""Which actions are allowed: compiled, over the public arrays, for the environments and for live traffic."""

from __future__ import annotations

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.state import DRAINING, FAILED, READY, STARTING, Array


@compiled
def mask_placements(workers: Array, requests: Array, r: int, others: int, out: Array) -> None:
    """Which slots may take request ``r``; the ``others`` behind the slots, HOLD and REJECT, are always allowed."""
    for w in range(workers.shape[0]):
        out[w] = 1 if can_place(workers, requests, w, r) else 0
    for i in range(others):
        out[workers.shape[0] + i] = 1


@compiled
def mask_changes(
    workers: Array, cluster: Array, types: Array, changes: Array, max_gpus: float, first: int, out: Array
) -> None:
    """Which of the ``changes`` (rows of type and workers more or less) the limits allow in full, from ``first`` on."""
    for c in range(changes.shape[0]):
        kind = types[changes[c, 0]]
        more = changes[c, 1]
        wanted = running_or_coming(workers, types, changes[c, 0]) + more
        draining = 0
        for w in range(kind.first_slot, kind.first_slot + kind.slots):
            draining += 1 if workers[w].status == DRAINING else 0
        gpus = cluster[0].gpus + max(more - draining, 0) * kind.gpus
        allowed = more == 0 or (kind.minimum <= wanted <= kind.maximum and (more < 0 or gpus <= max_gpus))
        out[first + c] = 1 if allowed else 0


@inlined
def running_or_coming(workers: Array, types: Array, k: int) -> int:
    """Workers of type ``k`` that a scale decision counts: READY, STARTING and FAILED."""
    count = 0
    for w in range(types[k].first_slot, types[k].first_slot + types[k].slots):
        status = workers[w].status
        if status == READY or status == STARTING or status == FAILED:  # noqa: SIM109
            count += 1
    return count
