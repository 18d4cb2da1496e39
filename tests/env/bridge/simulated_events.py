"""A simulation as a live cluster would hear of it: token by token."""

from __future__ import annotations

import numpy as np

from aladdin_env.observation import blank, encode
from aladdin_env.policy import make_policy
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.core import ASK, DONE, TIME, advance, sync_all
from aladdin_env.simulator.setup import Room, draw, load, one, shape_of, write_static
from aladdin_env.simulator.state import FINISHED, RUNNING, allocate
from aladdin_env.view import ClusterView, RequestView

TICK_S = 0.003  # shorter than any step: at most one ends within it


def observed(world, scenario: Scenario, r: int) -> dict[str, np.ndarray]:
    seen = blank(scenario.fleet.slots, len(scenario.fleet.types))
    encode(
        world.workers, world.requests, world.cluster, world.types, world.laws, world.slo, world.history, r, False,
        float("inf"), seen["workers"], seen["request"], seen["cluster"],
    )  # fmt: skip
    return {name: array.copy() for name, array in seen.items() if name != "mask"}


def simulated(chosen: Scenario, policy_name: str) -> list[tuple[float, int, str, int, object]]:
    """(time, order at that time, event, request, what) of a simulation; observations at its decisions."""
    policy, unused = make_policy(policy_name, chosen), make_policy("least_request", chosen).kernel.function
    draws = draw(chosen, np.random.default_rng(0))
    world = one(allocate(1, shape_of(chosen, Room.of(chosen, draws), 1, log=False)), 0)
    write_static(world, chosen)
    load(world, chosen, draws, np.zeros(0))
    view = ClusterView(world, chosen)
    events: list[tuple[float, int, str, int, object]] = []
    counts = np.zeros(len(draws.trace), dtype=int)
    ends_s = np.zeros(chosen.fleet.slots)
    running: set[int] = set()
    beats = 0
    until_s = 0.0
    while True:
        why = advance(world, until_s, unused, False, True)
        now_s = float(world.cluster[0]["now_s"])
        if why == ASK:
            r = int(world.control[0]["asked"])
            slot = policy.place(view, RequestView(view.requests, r))
            events.append((now_s, 3, "place", r, (slot, observed(world, chosen, r))))
            world.control[0]["answer"] = slot
            running.add(r)
            continue
        assert why in (TIME, DONE)
        sync_all(world, now_s)
        while beats < world.cluster[0]["beats"]:
            beats += 1
            events.append((beats * chosen.heartbeat_s, 2, "beat", -1, None))
        for r in sorted(running):
            request = world.requests[r]
            if request["worker"] < 0:
                continue
            w = int(request["worker"])
            if request["status"] == RUNNING and request["decoding"]:
                have = int(world.workers[w]["decode_steps"] - request["joined_step"])
            else:
                have = int(request["generated"])
            if have > counts[r]:
                assert have == counts[r] + 1
                at_s = float(request["first_token_s"]) if counts[r] == 0 else ends_s[w]
                events.append((at_s, 0, "token", r, None))
                counts[r] = have
            if request["status"] == FINISHED:
                events.append((float(request["finish_s"]), 1, "finish", r, None))
                running.remove(r)
        ends_s = world.workers["step_end_s"].copy()
        if why == DONE:
            return sorted(events, key=lambda event: event[:2])
        until_s += TICK_S
