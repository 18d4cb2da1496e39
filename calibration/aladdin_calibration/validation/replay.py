"""Send a trace to real servers at its own times, through a policy, and time what comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from aladdin_calibration.server.client import Client, Prompt
from aladdin_calibration.server.stream import Completion, ServerTimes
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.policy import HOLD, REJECT, Combined
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.setup import Draws
from aladdin_traces.errors import InputError

Progress = Callable[[int, int, str], None]
_LEAD_S = 0.5  # time to get ready before the first arrival
_FIRST_TOKEN_ID, _TOKEN_IDS = 3, 1000  # ids that any vocabulary has; the first few are often special
_SILENT = ServerTimes(None, None, None, None)
_WORD = "word "  # about one token in any tokeniser


@dataclass
class Replay:
    """One open-loop run: every request is sent when the trace says, whatever became of the others.

    Attributes:
        clients: One per worker, in the order of the fleet's slots.
        scenario: The fleet and the SLO; its workers stand for the servers.
        draws: The requests.
        policy: Chooses the worker of each request.
        progress: Called with (requests ended, requests, what is going on).
    """

    clients: Sequence[Client]
    scenario: Scenario
    draws: Draws
    policy: Combined
    progress: Progress | None = None
    _ended: int = 0
    _rows: dict[int, dict[str, object]] = field(default_factory=dict)

    async def run(self) -> pd.DataFrame:
        """Replay the whole trace; a row per request.

        Columns: ``arrival_s`` (as planned), ``late_s`` (how much later this process got to it), ``sent_s``,
        ``first_token_s``, ``finish_s`` (seconds from the start, by the client's clock); ``server_queue_s``,
        ``server_first_token_s``, ``server_atgt_s`` (durations by the server's own clock, NaN where it has none);
        ``worker``, ``prompt_tokens``, ``output_tokens`` (as they came), ``klass``, ``error`` (empty where all went
        well).
        """
        LiveCluster.warm_up(self.scenario, self.draws, self.policy)
        self._cluster = LiveCluster(self.scenario, self.draws, self.policy)
        self._freed = asyncio.Event()
        self._start = time.perf_counter() + _LEAD_S
        trace = self.draws.trace
        prompts = self._prompts()
        async with asyncio.TaskGroup() as group:
            for r, arrival_s in enumerate(trace.arrival_s.tolist()):
                await asyncio.sleep(max(0.0, arrival_s - self._now()))
                group.create_task(self._serve(r, prompts[r]))
        return pd.DataFrame([self._rows[r] for r in range(len(trace))])

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _prompts(self) -> list[Prompt]:
        """Contents that no cache knows, not even from an earlier replay; made before the clock starts."""
        rng = random.SystemRandom()
        lengths = self.draws.trace.prompt_tokens.tolist()
        if not self.clients[0].dialect.token_prompts:
            return [_WORD * n for n in lengths]
        return [[_FIRST_TOKEN_ID + rng.randrange(_TOKEN_IDS) for _ in range(n)] for n in lengths]

    async def _serve(self, r: int, prompt: Prompt) -> None:
        cluster = self._cluster
        late_s = self._now() - float(self.draws.trace.arrival_s[r])
        cluster.arrive(r, self._now())
        slot = await self._place(r)
        if slot == REJECT:
            cluster.reject(r, self._now())
            self._note(r, slot, late_s, Completion(0, error="rejected by the policy"))
            return
        seen = 0

        def on_token(record: Completion) -> None:
            nonlocal seen
            cluster.token(r, self._now(), len(record.token_s) - seen)
            seen = len(record.token_s)

        output_tokens = int(self.draws.trace.output_tokens[r])
        record = await self.clients[slot].complete(prompt, output_tokens, on_token)
        (cluster.finish if record.error is None else cluster.lose)(r, self._now())
        self._freed.set()
        self._note(r, slot, late_s, record)

    async def _place(self, r: int) -> int:
        """The policy's slot, asked again whenever a request has ended; REJECT when it holds for too long."""
        deadline_s = self._now() + self.scenario.max_hold_s
        while (slot := self._cluster.place(r, self._now())) == HOLD:
            self._freed.clear()
            try:
                await asyncio.wait_for(self._freed.wait(), deadline_s - self._now())
            except TimeoutError:
                return REJECT
        return slot

    def _note(self, r: int, slot: int, late_s: float, record: Completion) -> None:
        trace, server = self.draws.trace, record.server or _SILENT
        self._rows[r] = {
            "arrival_s": float(trace.arrival_s[r]),
            "late_s": late_s,
            "sent_s": record.sent_s - self._start,
            "first_token_s": record.first_token_s - self._start,
            "finish_s": record.last_token_s - self._start,
            "server_queue_s": _or_nan(server.queue_s),
            "server_first_token_s": _or_nan(server.first_token_s),
            "server_atgt_s": _or_nan(server.token_s),
            "worker": slot,
            "prompt_tokens": int(trace.prompt_tokens[r]),
            "output_tokens": record.output_tokens,
            "klass": int(trace.klass[r]),
            "error": record.error or "",
        }
        self._ended += 1
        if self.progress:
            self.progress(self._ended, len(trace), f"{self._now():.0f} s of {trace.duration_s:.0f} s")


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def check_served(rows: pd.DataFrame) -> None:
    """InputError if so many requests failed that the run says nothing."""
    failed = rows[rows["error"] != ""]
    if len(failed) > 0.1 * len(rows):
        said = failed["error"].value_counts().index[0]
        raise InputError("url", f"{len(failed)} of {len(rows)} requests failed", f"mend the server; it said: {said}")
