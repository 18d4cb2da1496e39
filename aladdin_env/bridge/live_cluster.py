"""The simulator's arrays filled from live traffic, so that a policy runs on real workers unchanged.

What a client can see of a worker is what it has sent there and the tokens that came back. From them follow the counts
that policies compare. Where that is less than the simulator knows, the arrays say what an engine that admits at once
would: a request waits until its first token and decodes from then on; preemptions are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from aladdin_env.bridge import held_world, live_state
from aladdin_env.errors import InputError
from aladdin_env.latency import LatencyProfile
from aladdin_env.policy import HOLD, REJECT, Combined, Kernel
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.answers import slot_answered
from aladdin_env.simulator.setup import Draws, Room, load, one, shape_of, write_static
from aladdin_env.simulator.state import LOST, World, allocate
from aladdin_env.view import ClusterView, RequestView
from aladdin_traces import Trace

_FULL = "the bridge follows no more requests at a time: raise its limit, or send fewer at once"


class LiveCluster:
    """A fleet that runs elsewhere, as a policy sees it.

    Args:
        scenario: The fleet as it is: types, limits, profiles, SLO; all its first workers are taken to be READY.
        draws: The requests to come, known by their index. Of an output only what has come back is ever used.
        policy: Places the requests; it may be exchanged at any time.
    """

    def __init__(self, scenario: Scenario, draws: Draws, policy: Combined) -> None:
        self.policy = policy
        self._compiled: dict[int, tuple[object, Callable[[int], int]]] = {}
        self.world: World = one(allocate(1, shape_of(scenario, Room.of(scenario, draws), 1, log=False)), 0)
        write_static(self.world, scenario)
        load(self.world, scenario, draws, np.zeros(0))
        self.world.truth["output_tokens"] = 0  # nobody can read what nobody may know
        self.view = ClusterView(self.world, scenario)
        self._held = held_world.HeldWorld(self.world)
        # Views of fields: looked up once, for every request looks into them.
        self._cluster, self._control = self.world.cluster[0], self.world.control[0]
        self._accepts, self._prompts = self.world.workers["accepts"], self.world.requests["prompt_tokens"]
        self._free: list[int] = []
        self._longest = int(self.world.workers["kv_capacity_tokens"].max())
        for hook in policy.hooks("reset"):
            hook(scenario)

    @classmethod
    def open(cls, scenario: Scenario, policy: Combined, rows: int) -> LiveCluster:
        """One for requests that nobody knows beforehand, ``rows`` at a time at most; no worker is there yet."""
        types = len(scenario.fleet.types)
        ones = np.ones(rows, dtype=np.int64)
        trace = Trace.from_arrays(np.zeros(rows), ones, ones)
        draws = Draws(trace, np.zeros(rows), np.zeros((types, 1)), live_state.no_failures())
        cluster = cls(scenario, draws, policy)
        for slot in range(len(cluster.view.workers)):
            live_state.empty_slot(cluster.world, slot)
        cluster.world.control[0]["next_arrival"] = 0
        cluster._free = list(range(rows - 1, -1, -1))
        return cluster

    @classmethod
    def warm_up(cls, scenario: Scenario, draws: Draws, policy: Combined) -> None:
        """Compile everything that will be called, on a cluster of its own: the first call of anything takes seconds."""
        cluster = cls(scenario, draws, policy)
        cluster.arrive(0, 0.0)
        if cluster.place(0, 0.0) >= 0:
            cluster.token(0, 0.0, count=2)
            cluster.finish(0, 0.0)
        else:
            cluster.reject(0, 0.0)

    # --- requests ---------------------------------------------------------------------------------------------------

    def enter(self, prompt_tokens: int, klass: int, coin: float, now_s: float) -> int:
        """A request nobody knew of arrives; its row, which is its own until :meth:`forget`.

        Args:
            prompt_tokens: Length of its prompt.
            klass: SLO class, 0 to 3.
            coin: A uniform number in [0, 1), for policies that randomise.
            now_s: Seconds since the start.

        Raises:
            InputError: there are as many requests already as there are rows.
        """
        if not self._free:
            raise InputError("requests", len(self.view.requests), _FULL)
        r = self._free.pop()
        self._cluster["now_s"] = now_s
        held_world.enter(self._held, r, now_s, prompt_tokens, klass, coin)
        return r

    def forget(self, r: int) -> None:
        """The row of a request that has ended may be another one's."""
        self._free.append(r)

    def arrive(self, r: int, now_s: float) -> None:
        """Request ``r`` has arrived, ``now_s`` seconds after the start."""
        self._cluster["now_s"] = now_s
        live_state.arrived(self.world, r)

    def place(self, r: int, now_s: float) -> int:
        """Ask the policy where ``r`` goes, note the answer, and return it: a slot, HOLD (ask again) or REJECT.

        A request that is rejected stays as it is until :meth:`reject`.

        Raises:
            InputError: The policy named a slot that cannot take the request.
        """
        answer = self.ask(self.policy, r, now_s)
        self.carry_out(r, answer)
        return answer

    def ask(self, policy: Combined, r: int, now_s: float) -> int:
        """What a policy, the acting one or another, would do with ``r``; nothing is changed.

        Raises:
            InputError: it named a slot that cannot take the request.
        """
        self._cluster["now_s"] = now_s
        placement = policy.placement
        known = self._compiled.get(id(placement))
        if known is not None and known[0] is placement:
            answer = int(known[1](r))
        elif isinstance(placement, Kernel) and not hasattr(placement, "reset"):  # it has no memory of its own
            asked = placement.bound_to(placement.memory.copy(), self.view)
            self._compiled[id(placement)] = placement, asked
            answer = int(asked(r))
        else:
            answer = slot_answered(placement.name, placement.place(self.view, RequestView(self.view.requests, r)))
        if answer not in (HOLD, REJECT) and not self.can_take(answer, r):
            raise InputError("policy", policy.name, f"it placed a request on slot {answer}, which cannot")
        return answer

    @property
    def accepts_any(self) -> bool:
        """Whether any worker takes new requests."""
        return bool(self._control["accepting_new"] > 0)

    def accepts(self, r: int) -> bool:
        """Whether any worker may take ``r`` now."""
        if not self._control["accepting_new"]:
            return False
        return self._fits_all(r) or bool(live_state.has_taker(self.world, r))

    def has_room_for(self, prompt_tokens: int) -> bool:
        """Whether a prompt of this length fits into any slot, whoever is there."""
        return prompt_tokens <= self._longest

    @contextmanager
    def without(self, slots: Sequence[int]) -> Iterator[None]:
        """While active, the workers in these slots take nobody; unless that would leave none at all."""
        shut = [slot for slot in slots if self.view.workers[slot]["accepts"]]
        if not shut or len(shut) >= self.world.control[0]["accepting_new"]:
            yield
            return
        for slot in shut:
            live_state.shut(self.world, slot)
        try:
            yield
        finally:
            for slot in shut:
                live_state.unshut(self.world, slot)

    def can_take(self, slot: int, r: int) -> bool:
        """Whether there is such a slot, and it may take ``r`` now."""
        if not 0 <= slot < len(self._accepts) or not self._accepts[slot]:
            return False
        return self._fits_all(r) or bool(live_state.can_take(self.world, slot, r))

    def _fits_all(self, r: int) -> bool:
        """Whether its prompt fits into every slot: seen at once, where the compiled code costs a call."""
        return bool(self._prompts[r] < self._control["smallest_capacity"])

    def carry_out(self, r: int, answer: int) -> None:
        """``r`` is on its way to a slot, or is held."""
        if answer >= 0:
            held_world.send(self._held, r, answer)
        elif answer == HOLD:
            live_state.hold(self.world, r)

    def token(self, r: int, now_s: float, count: int = 1) -> None:
        """``count`` more tokens of ``r`` have come back."""
        self._cluster["now_s"] = now_s
        held_world.tokens(self._held, r, now_s, count)

    def finish(self, r: int, now_s: float) -> None:
        """``r`` has its last token."""
        self._cluster["now_s"] = now_s
        held_world.finish(self._held, r, now_s)

    def came_whole(self, r: int, first_s: float, now_s: float, count: int) -> None:
        """``r`` has all its ``count`` tokens at once, the first dated back to ``first_s``, and ends."""
        self._cluster["now_s"] = now_s
        held_world.came_whole(self._held, r, first_s, now_s, count)

    def lose(self, r: int, now_s: float) -> None:
        """``r`` failed on its worker, and that was its end; nothing is learnt from its length."""
        self._cluster["now_s"] = now_s
        live_state.lose(self.world, r, now_s)
        live_state.unserved(self.world, r, LOST, now_s)

    def take_back(self, r: int, now_s: float) -> None:
        """``r`` failed on its worker before its first token, and looks for another one."""
        self._cluster["now_s"] = now_s
        live_state.lose(self.world, r, now_s)
        live_state.retry(self.world, r)

    def leave(self, r: int, now_s: float) -> None:
        """The client of ``r`` has hung up: wherever it was, it is no more, and it counts for nothing."""
        self._cluster["now_s"] = now_s
        live_state.leave(self.world, r, now_s)

    def reject(self, r: int, now_s: float) -> None:
        """``r`` was never placed and never will be."""
        self._cluster["now_s"] = now_s
        live_state.reject(self.world, r, now_s)

    # --- the fleet --------------------------------------------------------------------------------------------------

    def set_worker(self, slot: int, status: int, now_s: float, ready_in_s: float = 0.0) -> None:
        """A worker is OFF, STARTING, READY, DRAINING or FAILED from now on; requests on it stay until they are told of.

        Args:
            slot: Which one.
            status: As in ``aladdin_env.simulator.state``.
            now_s: Seconds since the start.
            ready_in_s: STARTING, FAILED: seconds until it is expected to be READY.
        """
        self._cluster["now_s"] = now_s
        live_state.set_worker(self.world, slot, status, now_s, ready_in_s)

    def set_kv(self, slot: int, capacity_tokens: int, block_size: int) -> None:
        """A worker has said how many tokens its KV memory holds for requests, and in which blocks."""
        worker = self.world.workers[slot]
        worker["kv_blocks"], worker["block_size"] = capacity_tokens // block_size, block_size
        worker["kv_capacity_tokens"] = capacity_tokens
        self.world.control[0]["smallest_capacity"] = int(self.world.workers["kv_capacity_tokens"].min())
        self._longest = int(self.world.workers["kv_capacity_tokens"].max())

    def see_kv(self, slot: int, used: float) -> None:
        """A worker has said which share of its KV memory is in use, which may be more than what we sent there."""
        live_state.see_kv(self.world, slot, used)

    def set_laws(self, type_index: int, profile: LatencyProfile) -> None:
        """The workers of a type follow these laws from now on."""
        row = self.world.laws.shape[1]
        self.world.laws[type_index] = profile.row(int(self.world.types[type_index]["max_num_seqs"]), row)

    def beat(self, now_s: float) -> Sequence[int] | None:
        """A heartbeat: what the policy wants of each worker type, None for no change; nothing is carried out."""
        self.heartbeat(now_s)
        return self.policy.scale(self.view)

    def heartbeat(self, now_s: float) -> None:
        """Note what happened since the heartbeat before."""
        self._cluster["now_s"] = now_s
        live_state.heartbeat(self.world, now_s)
