"""Send a trace to real servers at its own times, through a policy, and time what comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from aladdin_calibration.server.client import Client, Prompt, ServerFault
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
_REJECTED = "rejected by the policy"
_TOLERATED = 0.1  # share of the requests
_GONE = 10  # requests in a row without any answer after which a server is no longer asked


@dataclass
class Replay:
    """One open-loop run: every request is sent when the trace says, whatever became of the others.

    Attributes:
        clients: One per worker, in the order of the fleet's slots.
        scenario: The fleet and the SLO; its workers stand for the servers.
        draws: The requests.
        policy: Chooses the worker of each request.
        progress: Called with (requests ended, requests, what is going on).
        fault: Why the replay was ended early: a server has stopped answering, or the policy made a mistake.
    """

    clients: Sequence[Client]
    scenario: Scenario
    draws: Draws
    policy: Combined
    progress: Progress | None = None
    fault: ServerFault | InputError | None = None
    _unanswered: Counter[int] = field(default_factory=Counter)
    _ended: int = 0
    _rows: dict[int, dict[str, object]] = field(default_factory=dict)

    async def run(self) -> pd.DataFrame:
        """Replay the whole trace; a row per request, those that had ended where there is a ``fault``.

        The index is the request's place in the trace.
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
        try:
            async with asyncio.TaskGroup() as group:
                for r, arrival_s in enumerate(trace.arrival_s.tolist()):
                    await asyncio.sleep(max(0.0, arrival_s - self._now()))
                    group.create_task(self._serve(r, prompts[r]))
        except* (ServerFault, InputError) as faults:
            self.fault = _first(faults)
        ended = sorted(self._rows)
        return pd.DataFrame([self._rows[r] for r in ended], index=ended)

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
            self._note(r, slot, late_s, Completion(0, error=_REJECTED))
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
        self._check_alive(slot, record)

    def _check_alive(self, slot: int, record: Completion) -> None:
        """ServerFault, which ends the replay, once so many requests in a row found nobody there to answer."""
        self._unanswered[slot] = 0 if record.status is not None else self._unanswered[slot] + 1
        if self._unanswered[slot] >= _GONE:
            url = self.clients[slot].url
            raise ServerFault(
                f"{url} stopped answering ({record.error}, {_GONE} times in a row): the replay was ended after "
                f"{self._ended} of {len(self.draws.trace)} requests; start the server again"
            )

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


def _first(faults: BaseExceptionGroup[ServerFault | InputError]) -> ServerFault | InputError:
    """One of them: several requests may find out at the same time."""
    first = faults.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def check_served(rows: pd.DataFrame) -> None:
    """An error if so many requests were not served that the run says nothing.

    Raises:
        ServerFault: The servers failed.
        InputError: The policy turned them away.
    """
    rejected = rows["error"] == _REJECTED
    failed = rows.loc[(rows["error"] != "") & ~rejected, "error"]
    if len(failed) > _TOLERATED * len(rows):
        said = failed.value_counts().index[0]
        raise ServerFault(f"{len(failed)} of {len(rows)} requests failed, most often: {said}; mend the server")
    if rejected.sum() > _TOLERATED * len(rows):
        mend = "give a policy that places them, or fewer requests"
        raise InputError("policy", f"{rejected.sum()} of {len(rows)} requests rejected", mend)
