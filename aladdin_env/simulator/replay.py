"""One trace on one worker, run again and again under other laws: what a fit of the laws to a served log needs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aladdin_env.errors import InputError
from aladdin_env.policy import placement_kernel
from aladdin_env.scenario import Fleet, Scenario, WorkerType
from aladdin_env.simulator.core import advance
from aladdin_env.simulator.setup import Room, draw, load, one, shape_of, write_static
from aladdin_env.simulator.state import Array, World, allocate
from aladdin_traces import Trace, Workload

_NEVER_S = 1e300  # one worker and nobody who scales: no heartbeat


class Outcome(NamedTuple):
    """What became of each request; arrays of the trace's length that the next run does not touch."""

    first_token_s: NDArray[np.float64]  # as the client sees it
    finish_s: NDArray[np.float64]
    preemptions: NDArray[np.int64]


@placement_kernel("only")
def _only(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """The one worker there is."""
    return 0


class Replay:
    """A single worker that serves ``trace``; :meth:`run` costs no more than the simulation itself.

    Args:
        trace: The requests.
        kind: The worker: its scheduler and limits; laws and KV room are those of each run.

    Raises:
        InputError: a worker of the split scheduler, which cannot serve alone.
    """

    def __init__(self, trace: Trace, kind: WorkerType) -> None:
        if kind.role != "mixed":
            raise InputError("scheduler", kind.scheduler, "choose 'chunked' or 'prefill_first'")
        fleet = Fleet((kind,)).fixed((1,))
        self._scenario = Scenario("replay", Workload.from_trace(trace), fleet, horizon_s=None, heartbeat_s=_NEVER_S)
        self._draws = draw(self._scenario, np.random.default_rng(0))
        self._longest = int((trace.prompt_tokens.astype(np.int64) + trace.output_tokens).max())
        shape = shape_of(self._scenario, Room.of(self._scenario, self._draws), len(_only.memory), log=False)
        self._world: World = one(allocate(1, shape), 0)
        write_static(self._world, self._scenario)

    @property
    def least_blocks(self) -> int:
        """KV blocks that the longest request needs to end."""
        kind = self._scenario.fleet.types[0]
        return -(-(self._longest - 1 + kind.latency.kv_overhead_tokens) // kind.block_size)

    def run(self, row: NDArray[np.float64], kv_blocks: int) -> Outcome:
        """Serve the whole trace under other laws.

        Args:
            row: Laws of time as :meth:`aladdin_env.latency.LatencyProfile.row` lays them out for ``max_num_seqs``.
            kv_blocks: KV blocks of the worker, ``least_blocks`` or more.

        Raises:
            InputError: fewer blocks.
        """
        if kv_blocks < self.least_blocks:
            mend = f"give at least {self.least_blocks}: the longest request needs them"
            raise InputError("kv_blocks", kv_blocks, mend)
        world, n, kind = self._world, len(self._draws.trace), self._scenario.fleet.types[0]
        world.laws[0] = row
        world.types["kv_blocks"] = world.workers["kv_blocks"] = kv_blocks
        capacity = kv_blocks * kind.block_size - kind.latency.kv_overhead_tokens
        world.workers["kv_capacity_tokens"] = world.control["smallest_capacity"] = capacity
        load(world, self._scenario, self._draws, _only.memory)
        advance(world, np.inf, _only.function, True, False)
        done = world.requests[:n]
        return Outcome(done["first_token_s"].copy(), done["finish_s"].copy(), done["preemptions"].astype(np.int64))
