"""The compiled step of a batch of environments: apply actions, run to the next decision, reward, observe."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aladdin_env.action_masks import mask_changes, mask_placements, running_or_coming
from aladdin_env.compiled import compiled, inlined
from aladdin_env.observation import encode
from aladdin_env.policy import placement_kernel
from aladdin_env.reward import TERMS, settle
from aladdin_env.simulator.core import ASK, BEAT, DONE, TIME, advance, sync_all
from aladdin_env.simulator.fleet import accrue, scale_type
from aladdin_env.simulator.state import HOLD, NONE, REJECT, Array, World


@placement_kernel("nobody")
def NOBODY(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """Stands in for the kernel where the agent or a Python policy places; never called."""
    return HOLD


# What an environment is to do in a call of step_batch (and, where it needs Python before it goes on, RESUME again)
SKIP, ACT, RESUME = 0, 1, 2


#: Fields of ``info`` at every step, cumulative since the start of the episode; the terms of the reward follow them.
COUNTERS = ("time_s", "arrived", "finished", "slo_met", "held", "in_flight", "gpus")


class Rules(NamedTuple):
    """What differs from task to task; arrays so that compiled code takes them as they are."""

    changes: Array  # (n, 2) int64: worker type, workers more or less; the first row is "no change"; n = 0: never asked
    weights: Array  # (environments, 4) float64, order of reward.TERMS
    until_s: Array  # (environments,) float64: where an episode is cut; inf: it runs until every request has ended
    horizon_s: Array  # (environments,) float64: when requests cease to arrive
    places: Array  # (1,) int8: the agent decides placements
    holds: Array  # (1,) int8: behind the slots there is the action HOLD
    rejects: Array  # (1,) int8: behind those there is the action REJECT


class Outputs(NamedTuple):
    """What a step gives; every array but ``counters`` has a leading axis of environments."""

    workers: Array  # (environments, slots, features) float32
    request: Array  # (environments, features) float32
    cluster: Array  # (environments, features) float32
    mask: Array  # (environments, actions) int8
    reward: Array  # (environments,) float64
    booked: Array  # (environments, 4) float64: totals that have been rewarded, order of reward.TERMS
    counters: Array  # (counters, environments) float64, order of COUNTERS, then of reward.TERMS
    reason: Array  # (environments,) int64: why the simulator stopped: ASK, BEAT, DONE, TIME
    todo: Array  # (environments,) int8: SKIP, ACT, RESUME


@inlined
def _first_change(world: World, rules: Rules) -> int:
    """Number of the action "no change": behind the slots, HOLD and REJECT, as far as there are any."""
    return int(world.workers.shape[0] + rules.holds[0] + rules.rejects[0]) if rules.places[0] else 0


@inlined
def _is_end(reason: int) -> bool:
    return reason in (DONE, TIME)


@inlined
def _apply(world: World, rules: Rules, reason: int, action: int) -> None:
    """Carry out an allowed action: a slot, HOLD or REJECT, or behind those a change of the fleet."""
    slots = world.workers.shape[0]
    if reason == ASK:
        other = HOLD if action == slots and rules.holds[0] else REJECT
        world.control[0].answer = action if action < slots else other
        return
    change = action - _first_change(world, rules)
    kind = rules.changes[change, 0]
    more = rules.changes[change, 1]
    if more != 0:
        scale_type(world, kind, running_or_coming(world.workers, world.types, kind) + more)


@inlined
def _mask(world: World, rules: Rules, reason: int, out: Array) -> None:
    """The allowed actions; all of them at the end of an episode, when none is asked for."""
    if _is_end(reason):
        out[:] = 1
        return
    out[:] = 0
    if reason == ASK:
        others = rules.holds[0] + rules.rejects[0]
        mask_placements(world.workers, world.requests, world.control[0].asked, others, out)
    else:
        limit = world.control[0].max_gpus
        first = _first_change(world, rules)
        mask_changes(world.workers, world.cluster, world.types, rules.changes, limit, first, out)


@inlined
def _count(cluster: Array, booked: Array, out: Array) -> None:
    """The counters of ``info``."""
    state = cluster[0]
    out[0], out[1], out[2], out[3] = state.now_s, state.arrived, state.finished, state.slo_met
    out[4], out[5], out[6] = state.held, state.in_flight, state.gpus
    for i in range(booked.shape[0]):
        out[7 + i] = booked[i]


@inlined
def _observe(world: World, rules: Rules, out: Outputs, e: int, reason: int) -> None:
    """Reward since the last decision, observation and mask of the one that is due."""
    control = world.control[0]
    now_s = world.cluster[0].now_s
    if _is_end(reason):
        now_s = control.last_end_s if reason == DONE else now_s
        accrue(world.cluster, now_s)
    out.reward[e] = settle(world.cluster, now_s, rules.weights[e], out.booked[e])
    _count(world.cluster, out.booked[e], out.counters[:, e])
    sync_all(world, now_s)
    encode(
        world.workers, world.requests, world.cluster, world.types, world.laws, world.slo, world.history,
        control.asked if reason == ASK else NONE, reason == BEAT, rules.horizon_s[e],
        out.workers[e], out.request[e], out.cluster[e],
    )  # fmt: skip
    _mask(world, rules, reason, out.mask[e])


@compiled
def step_batch(
    batch: World, rules: Rules, out: Outputs, actions: Array, kernel: object, use_kernel: bool, needs_progress: bool
) -> int:
    """One step of every environment with something to do; ``actions`` are read where ``out.todo`` is ACT.

    Returns the first environment whose action its mask forbids, before anything has been changed, or -1. An environment
    that needs Python (``reason``: a policy's answer, a heartbeat, a full log) is left with ``todo`` RESUME, the others
    with SKIP.
    """
    environments = actions.shape[0]
    for e in range(environments):
        if out.todo[e] == ACT:
            action = actions[e]
            if action < 0 or action >= out.mask.shape[1] or out.mask[e, action] == 0:
                return e
    for e in range(environments):
        if out.todo[e] == SKIP:
            continue
        world = World(
            batch.workers[e], batch.requests[e], batch.cluster[e], batch.types[e], batch.laws[e], batch.slo[e],
            batch.lengths[e], batch.history[e], batch.memory[e], batch.truth[e], batch.prefixes[e],
            batch.prefix_ids[e], batch.cache[e], batch.cache_buckets[e], batch.engines[e], batch.control[e],
            batch.finish_heap[e], batch.phases[e], batch.heap[e], batch.event_s[e], batch.cold_starts[e],
            batch.failures[e], batch.transit_s[e], batch.transit_request[e], batch.log[e],
        )  # fmt: skip
        if out.todo[e] == ACT:
            _apply(world, rules, out.reason[e], actions[e])
        reason = advance(world, rules.until_s[e], kernel, use_kernel, needs_progress)
        out.reason[e] = reason
        asked = (reason == ASK and rules.places[0]) or (reason == BEAT and rules.changes.shape[0] > 0)
        if asked or _is_end(reason):
            _observe(world, rules, out, e, reason)
            out.todo[e] = SKIP
        else:
            out.todo[e] = RESUME
    return -1


def outputs(environments: int, slots: int, actions: int, sizes: tuple[int, int, int]) -> Outputs:
    """Zeroed outputs; ``sizes``: features of a worker, of the request, of the cluster."""
    of_worker, of_request, of_cluster = sizes
    return Outputs(
        workers=np.zeros((environments, slots, of_worker), dtype=np.float32),
        request=np.zeros((environments, of_request), dtype=np.float32),
        cluster=np.zeros((environments, of_cluster), dtype=np.float32),
        mask=np.ones((environments, actions), dtype=np.int8),
        reward=np.zeros(environments),
        booked=np.zeros((environments, len(TERMS))),
        counters=np.zeros((len(COUNTERS) + len(TERMS), environments)),
        reason=np.full(environments, DONE, dtype=np.int64),
        todo=np.zeros(environments, dtype=np.int8),
    )
