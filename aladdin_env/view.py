"""What a policy sees: read-only views over the cluster's public arrays, the same in the simulator and live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.state import (
    HELD,
    NEW,
    NONE,
    READY,
    REQUEST_STATUS,
    STARTING,
    Array,
    World,
)

if TYPE_CHECKING:
    from aladdin_env.scenario import Scenario


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


class RequestView:
    """One request as a policy may see it: no true output length."""

    __slots__ = ("_record", "index")

    def __init__(self, requests: Array, index: int) -> None:
        """Wrap row ``index`` of the public request array."""
        self.index = index
        self._record = requests[index]

    @property
    def arrival_s(self) -> float:
        """When it reached the router."""
        return float(self._record["arrival_s"])

    @property
    def prompt_tokens(self) -> int:
        """Length of its prompt."""
        return int(self._record["prompt_tokens"])

    @property
    def predicted_tokens(self) -> float:
        """Predicted output length."""
        return float(self._record["predicted_tokens"])

    @property
    def klass(self) -> int:
        """SLO class, 0 to 3."""
        return int(self._record["klass"])

    @property
    def coin(self) -> float:
        """A uniform number in [0, 1) drawn beforehand: the only randomness a reproducible policy needs."""
        return float(self._record["coin"])

    @property
    def retries(self) -> int:
        """How often its worker was lost."""
        return int(self._record["retries"])

    @property
    def is_prefilled(self) -> bool:
        """Whether it looks for a decode worker (split-phase)."""
        return int(self._record["stage"]) != NEW

    @property
    def is_held(self) -> bool:
        """Whether it is offered again from the hold queue."""
        return int(self._record["status"]) == HELD

    @property
    def status(self) -> str:
        """Name of its status."""
        return REQUEST_STATUS[int(self._record["status"])]

    @property
    def worker(self) -> int:
        """Slot it is placed on; -1 for none."""
        return int(self._record["worker"])


class ClusterView:
    """The cluster as a policy may see it.

    ``workers``, ``requests``, ``cluster`` and ``types`` are read-only record arrays whose fields are documented in
    :mod:`aladdin_env.simulator.state`; ``laws`` and ``slo`` are float64 tables (see :mod:`aladdin_env.simulator.laws`).
    """

    def __init__(self, world: World, scenario: Scenario) -> None:
        """View the arrays of one environment."""
        self.scenario = scenario
        self.workers = _read_only(world.workers)
        self.requests = _read_only(world.requests)
        self.types = _read_only(world.types)
        self.laws = _read_only(world.laws)
        self.slo = _read_only(world.slo)
        self.lengths = _read_only(world.lengths)
        self.history = _read_only(world.history)
        self._cluster = _read_only(world.cluster)
        self._world = world  # compiled helpers want the writable arrays; nothing here writes

    @property
    def cluster(self) -> Array:
        """The record of cluster-wide sums (0-dimensional view; fields by name)."""
        return self._cluster[0]  # type: ignore[no-any-return]

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return float(self._cluster["now_s"][0])

    def candidates(self, request: RequestView) -> NDArray[np.int64]:
        """Slots on which ``request`` may be placed now, ascending."""
        workers = self.workers
        stage = int(self.requests["stage"][request.index])
        fits = request.prompt_tokens + stage - NEW <= workers["kv_capacity_tokens"]
        return np.flatnonzero((workers["accepts"] & stage).astype(bool) & fits)

    def can_place(self, slot: int, request: RequestView) -> bool:
        """Whether ``request`` may be placed on ``slot`` now."""
        return bool(can_place(self._world.workers, self._world.requests, slot, request.index))

    def prefix_hits(self) -> NDArray[np.int32]:
        """Prompt tokens of the request to be placed whose KV is cached on each worker that may take it, (slots,)."""
        hits: NDArray[np.int32] = self.workers["prefix_hit_tokens"].copy()
        return hits

    def running(self, slot: int) -> list[int]:
        """Requests that the engine of ``slot`` has admitted, in that order."""
        return self._list(int(self.workers["run_head"][slot]))

    def waiting(self, slot: int) -> list[int]:
        """Requests placed on ``slot`` and not admitted yet, next first."""
        return self._list(int(self.workers["wait_head"][slot]))

    def workers_of(self, type_index: int, *, including_starting: bool = True) -> int:
        """Workers of a type that serve, or also those that soon will (STARTING)."""
        kind = self.types[type_index]
        status = self.workers["status"][kind["first_slot"] : kind["first_slot"] + kind["slots"]]
        serving = status == READY
        return int(np.count_nonzero(serving | (status == STARTING) if including_starting else serving))

    def recent(self, beats: int) -> Array:
        """The last ``beats`` heartbeats (fewer at the start), oldest first.

        Rows: arrivals, their prompt tokens, finished requests, of these within their SLO.
        """
        seen = int(self._cluster["beats"][0])
        n = min(beats, seen, len(self.history))
        return self.history[np.arange(seen - n, seen) % len(self.history)]

    def _list(self, head: int) -> list[int]:
        found = []
        following = self.requests["next"]
        while head != NONE:
            found.append(head)
            head = int(following[head])
        return found
