"""The simulator's worker, fed with requests as they come and read token by token. No clock: time is told to it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aladdin_env.bridge.emulator.arena import Arena
from aladdin_env.bridge.emulator.steps import HEARD, SUMS, TOLD, begin_first_step, enter, finish_steps, leave
from aladdin_env.errors import InputError
from aladdin_env.scenario import Fleet, Scenario, WorkerType
from aladdin_env.simulator.setup import Room, draw, load, one, shape_of, write_static
from aladdin_env.simulator.state import IDLE, LARGEST_MAX_NUM_SEQS, World, allocate
from aladdin_traces import PrefixBlocks, Trace, Workload

_NEVER_S = 1e300  # nobody scales: no heartbeat
_ROWS = 4096
_PREFIX_IDS = 1 << 22  # blocks of all prompts at once: 67 million tokens in blocks of 16
_HEARD = 4 * LARGEST_MAX_NUM_SEQS


class Full(Exception):
    """As many requests are in the engine as it has rows for."""


class Heard(NamedTuple):
    """A token that a request got."""

    time_s: float  # when the engine had made it
    row: int
    generated: int  # tokens of the request so far
    ended: int  # 1 with its last one, else 0


#: Told of tokens, in the order of time.
Listener = Callable[[list[Heard]], None]


@dataclass(frozen=True)
class Times:
    """One request, seconds on the engine's clock; NaN for what has not happened. First token and end as a client sees.

    Attributes:
        arrival_s: When it came.
        admitted_s: When it joined the batch for the first time.
        first_token_s: When its first token is with the client.
        finish_s: When its last token is.
        preemptions: How often it was put back into the queue.
        hit_tokens: Prompt tokens found in the prefix cache.
    """

    arrival_s: float
    admitted_s: float
    first_token_s: float
    finish_s: float
    preemptions: int
    hit_tokens: int


@dataclass(frozen=True)
class Load:
    """What the engine holds.

    Attributes:
        running: Requests in the batch.
        waiting: Requests in the queue.
        kv_used_blocks: KV blocks in use.
        preemptions: Since the start.
        prefix_queries: Prompt tokens looked for in the prefix cache since the start.
        prefix_hits: Those among them that were found.
    """

    running: int
    waiting: int
    kv_used_blocks: int
    preemptions: int
    prefix_queries: int
    prefix_hits: int


class Engine:
    """One worker with the simulator's own scheduler, laws and memory.

    Time only moves forward: every ``now_s`` is at least the one before, seconds since the engine's start. Requests that
    enter at one instant are batched together if nothing else is asked of the engine in between.

    Args:
        kind: The worker: laws, scheduler, limits.
        listener: Told of the tokens.
        gap_edges_s: Upper edges of the counts of times between two tokens, ascending.
        rows: Most requests at once.

    Attributes:
        gap_counts: How many times between two tokens of a request were at most each edge and above the one before; the
            last one counts those above all edges.

    Raises:
        InputError: a worker of the split scheduler, which cannot serve alone.
    """

    def __init__(
        self, kind: WorkerType, listener: Listener, gap_edges_s: Sequence[float] = (), rows: int = _ROWS
    ) -> None:
        if kind.role != "mixed":
            raise InputError("scheduler", kind.scheduler, "choose 'chunked' or 'prefill_first'")
        self.kind = kind
        self._listener = listener
        self._arena = Arena(_PREFIX_IDS) if kind.prefix_cache else None
        self._world = _world_of(kind, rows)
        self._worker, self._control = self._world.workers[0], self._world.control[0]
        self._free = deque(range(rows))  # first in, first out: rows are in the order of arrival as long as possible
        self._told, self._heard = np.zeros(rows, dtype=TOLD), np.zeros(_HEARD, dtype=HEARD)
        self._room = _HEARD - 2 * LARGEST_MAX_NUM_SEQS  # what a step may need is free
        self._edges_s: NDArray[np.float64] = np.array(gap_edges_s, dtype=np.float64)
        self.gap_counts: NDArray[np.int64] = np.zeros(len(gap_edges_s) + 1, dtype=np.int64)
        self._sums = np.zeros(1, dtype=SUMS)

    @classmethod
    def warm_up(cls, kind: WorkerType) -> None:
        """Compile everything, or load it: the first call of anything takes seconds."""
        engine = cls(replace(kind, prefix_cache=True), lambda heard: None)
        engine.enter(0.0, 2 * kind.block_size, 3, [1, 2])
        gone = engine.enter(0.0, 1, 3)
        engine.advance(engine.next_s)  # the step begins
        engine.leave(gone, engine.now_s)
        while engine.next_s < math.inf:
            engine.advance(engine.next_s)

    @property
    def now_s(self) -> float:
        """Up to when the engine is simulated."""
        return float(self._world.cluster[0]["now_s"])

    @property
    def next_s(self) -> float:
        """When the engine is to be advanced next, if nothing comes before: now for a step to begin, or its end."""
        if self._control["boundaries"]:
            return self.now_s
        return math.inf if self._worker["step"] == IDLE else float(self._worker["step_end_s"])

    def enter(self, now_s: float, prompt_tokens: int, output_tokens: int, blocks: Sequence[int] = ()) -> int:
        """A request arrives.

        Args:
            now_s: When.
            prompt_tokens: Length of its prompt, 1 to what the KV holds.
            output_tokens: How many tokens it will get, 1 or more, as far as the KV holds them.
            blocks: One number (int32) for each whole KV block of the prompt and all before it; what the prefix cache
                goes by. Not looked at without one.

        Returns:
            The row that stands for it until it ends or leaves.

        Raises:
            Full: There is no room for one more.
        """
        if not self._free:
            raise Full
        self._advance(now_s, inclusive=False)
        row = self._free.popleft()
        if self._arena is not None:
            self._note_blocks(self._arena, row, blocks[: prompt_tokens // self.kind.block_size])
        enter(self._world, self._told, row, float(now_s), prompt_tokens, output_tokens)
        return row

    def _note_blocks(self, arena: Arena, row: int, blocks: Sequence[int]) -> None:
        if len(set(blocks)) < len(blocks):  # two prefixes of one number: those from the second one on are not cached
            blocks = blocks[: next(i for i, block in enumerate(blocks) if block in blocks[:i])]
        first = arena.take(len(blocks)) if blocks else None
        if first is None:
            self._world.prefixes[row] = (0, 0, 0, 0)
            return
        self._world.prefix_ids[first : first + len(blocks)] = blocks
        self._world.prefixes[row] = (first, len(blocks), 0, 0)

    def _release(self, row: int) -> None:
        """``row`` stands for nobody any more."""
        self._free.append(row)
        if self._arena is not None:
            entry = self._world.prefixes[row]
            if entry["count"]:
                self._arena.give(int(entry["first"]), int(entry["count"]))

    def leave(self, row: int, now_s: float) -> None:
        """The client of ``row`` is gone. :meth:`advance` comes first: the request must not have ended by ``now_s``."""
        leave(self._world, row, float(now_s))
        self._release(row)

    def advance(self, now_s: float) -> None:
        """Simulate up to ``now_s``, steps that end then included; the listener hears of every token."""
        self._advance(now_s, inclusive=True)

    def _advance(self, now_s: float, inclusive: bool) -> None:
        if self._control["boundaries"] and (inclusive or self.now_s < now_s):
            begin_first_step(self._world)
        while True:
            count = finish_steps(
                self._world, self._told, self._heard, self._room, float(now_s), inclusive,
                self._edges_s, self.gap_counts, self._sums,
            )  # fmt: skip
            heard = [Heard(*entry) for entry in self._heard[:count].tolist()]
            if heard:
                self._listener(heard)
                for one in heard:
                    if one.ended:
                        self._release(one.row)
            if count <= self._room:
                return

    def times(self, row: int) -> Times:
        """What happened to the request of ``row``; of one that has ended, until the listener returns."""
        request = self._world.requests[row]
        hits = int(self._world.prefixes[row]["hit_tokens"]) if self._arena is not None else 0
        arrival_s, admitted_s, first_token_s, finish_s = (
            float(request[name]) for name in ("arrival_s", "admitted_s", "first_token_s", "finish_s")
        )
        return Times(arrival_s, admitted_s, first_token_s, finish_s, int(request["preemptions"]), hits)

    def load(self) -> Load:
        """What the engine holds in the step under way."""
        worker, cluster = self._worker, self._world.cluster[0]
        counts = (worker[name] for name in ("running", "waiting", "kv_used_blocks"))
        sums = (cluster[name] for name in ("preemptions", "prefix_asked_tokens", "prefix_hit_tokens"))
        return Load(*(int(value) for value in (*counts, *sums)))

    @property
    def gaps_s(self) -> float:
        """Sum of all times between two tokens of a request, seconds."""
        return float(self._sums[0]["gaps_s"])

    @property
    def tokens(self) -> int:
        """Tokens generated since the start."""
        return int(self._sums[0]["tokens"])


def _world_of(kind: WorkerType, rows: int) -> World:
    """A world of one READY worker of ``kind``, with no request and room for ``rows``."""
    fleet = Fleet((kind,)).fixed((1,))
    blocks = PrefixBlocks.from_lists([[1]], kind.block_size) if kind.prefix_cache else None
    sample = Trace.from_arrays([0.0], [kind.block_size], [1], prefix_blocks=blocks)
    scenario = Scenario("emulated", Workload.from_trace(sample), fleet, horizon_s=None, heartbeat_s=_NEVER_S)
    draws = draw(scenario, np.random.default_rng(0))
    room = Room.of(scenario, draws)._replace(requests=rows, prefix_ids=_PREFIX_IDS if kind.prefix_cache else 0)
    world = one(allocate(1, shape_of(scenario, room, 0, log=True)), 0)
    write_static(world, scenario)
    load(world, scenario, draws, np.zeros(0))
    world.control[0]["log_on"] = True
    world.control[0]["total"] = 0  # nobody arrives by himself
    return world
