"""Ask a server so that its answers tell how long single steps take.

The engine takes whole steps, so every wait is a sum of steps; each probe makes the sum one whose terms are known.

- A prompt alone on an idle server: its prefill is one step.
- Prompts that arrive while a *plug* (one more prompt) is prefilled start together once it is done, in one step. Whether
  they did is seen in their first tokens: those of two steps arrive apart.
- A prompt that arrives while a company decodes is cut into chunks, each in one step with a token for every member: the
  pauses in their streams are those steps.
- After that the newcomer decodes with the company: between its first and last token lie equal steps.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

import numpy as np

from aladdin_calibration.server.client import Client, ServerFault
from aladdin_calibration.server.company import Company, require
from aladdin_calibration.server.facts import ClockName
from aladdin_calibration.server.metrics import scrape
from aladdin_calibration.server.plan import Configuration, Limits, Plan, Session, Together
from aladdin_calibration.server.prompts import Prompts
from aladdin_calibration.server.steps import StepLog
from aladdin_calibration.server.stream import Completion

_WARM_TOKENS, _WARM_OUTPUT = 512, 5
_PLUG_S, _PLUG_PER_REQUEST_S = 0.05, 0.003  # how long a plug must last for this many requests to arrive meanwhile
_PLUG_SENT = 0.4  # of that time has passed when they are sent
_SAME_STEP = 0.2  # first tokens this close together, relative to the step, come from one step
_CLOCKS_AGREE = 0.25  # how far the client's and the server's clock may differ, relative
_LATE = 0.3  # of a pause: tokens of one step arrive at most this much apart


class Prober:
    """Measures configurations on one server.

    Args:
        client: The server.
        prompts: Where prompts come from.
        plan: Repeats and decode steps.
        bounds: What fits one step.
        clock: The best clock of the server.
        log: Where the steps go.

    Attributes:
        overheads_s: Client's wait for a first token beyond the server's own time, one per prompt that was alone.
    """

    def __init__(
        self, client: Client, prompts: Prompts, plan: Plan, bounds: Limits, clock: ClockName, log: StepLog
    ) -> None:
        self._client, self._prompts, self._plan, self._bounds = client, prompts, plan, bounds
        self._clock, self._log = clock, log
        self._began_s = time.perf_counter()
        self._token_s = self._step_s = 0.0
        self.overheads_s: list[float] = []

    async def warm_up(self) -> None:
        """Let the server compile what it compiles at first use, and learn its rough pace."""
        tokens = min(_WARM_TOKENS, self._bounds.step, self._bounds.prompt)
        for _ in range(2):
            record = require(await self._client.complete(self._prompts.fresh(tokens), _WARM_OUTPUT))
        self._token_s, self._step_s = record.ttft_s / tokens, record.atgt_s

    def cost_s(self, configuration: Configuration) -> float:
        """About how long the least repeats of a configuration take, seconds."""
        prompts = configuration.prompt_tokens * self._token_s
        if isinstance(configuration, Together):
            return self._plan.min_repeats * (prompts + self._plug_s(configuration.count))
        visit = prompts + len(configuration.prompts) * (configuration.steps + 2) * self._step_s
        return configuration.company * configuration.context * self._token_s + self._plan.min_repeats * visit

    async def measure(self, configuration: Configuration, most: int) -> None:
        """Repeat a configuration until its means are tight or made of ``most`` observations.

        Raises:
            NotAdmitted: The server did not run its company at once.
            ServerFault: A request failed.
        """
        if isinstance(configuration, Together):
            await self._together(configuration, most)
        else:
            await self._session(configuration, most)

    async def _together(self, together: Together, most: int) -> None:
        name = together.names[0]
        for _ in range(most):
            if self._log.enough(together.names, most):
                return
            repeat = self._log.next_repeat(name)
            seconds, tokens = await self._one_step(together)
            if seconds is not None:
                self._note("prefill", name, (sum(tokens), sum(n * n for n in tokens), 0, 0), seconds, repeat)

    async def _session(self, session: Session, most: int) -> None:
        plan, rng = self._plan, np.random.default_rng(self._plan.seed)
        members = [self._prompts.fresh(session.context) for _ in range(session.company)]
        async with Company(self._client, members, session.output_tokens(most), plan.stall_s) as company:
            for _ in range(most):
                for tokens in rng.permutation(session.prompts).tolist():
                    if self._log.enough(session.names, most):
                        return
                    await self._visit(session, company, tokens)

    async def _visit(self, session: Session, company: Company, tokens: int) -> None:
        """One prompt comes to a company, decodes with it, and leaves."""
        before = await self._prefill_time() if session.company == 0 else (0.0, 0.0)
        record = require(await self._client.complete(self._prompts.fresh(tokens), session.steps + 1))
        if not company.check():
            return  # a member has made all its tokens: who decoded beside whom is not sure
        name = session.prefill_name(tokens)
        repeat = self._log.next_repeat(name)
        if session.company:
            self._mixed(session, company, record, name, repeat)
        else:
            await self._alone(record, tokens, before, name, repeat)
        if session.steps:
            self._decode(session, company, record)

    async def _alone(self, record: Completion, asked: int, before: tuple[float, float], name: str, repeat: int) -> None:
        """The step in which a prompt was prefilled on an idle server."""
        seconds: float | None = None
        tokens, queued = record.prompt_tokens or asked, 0.0
        if record.server is not None:
            seconds, queued = record.server.first_token_s, record.server.queue_s or 0.0
        elif self._clock == "histograms":
            total, count = await self._prefill_time()
            seconds = total - before[0] if count - before[1] == 1 else None
        else:
            seconds, _ = await self._one_step(Together(1, asked))
        if seconds is None:
            return
        self._note("prefill", name, (tokens, tokens * tokens, 0, 0), seconds, repeat)
        self.overheads_s.append(record.ttft_s - queued - seconds)

    def _mixed(self, session: Session, company: Company, record: Completion, name: str, repeat: int) -> None:
        """The steps in which the prompt's chunks ran beside the company."""
        tokens = record.prompt_tokens or max(session.prompts)
        chunks = self._chunks(tokens, session.company)
        pauses = company.pauses(record.first_token_s, len(chunks) + 1)
        if pauses is None or not _plausible(record, float(pauses[0]), float(pauses[1:].sum())):
            return
        starts = record.first_token_s - np.cumsum(pauses[:0:-1])[::-1]
        past = 0
        for chunk, start, seconds in zip(chunks, starts.tolist(), pauses[1:].tolist(), strict=True):
            context = company.context_tokens(session.context, start + _LATE * min(seconds, float(pauses[0])))
            squares = chunk * (2 * past + chunk)
            self._note("mixed", name, (chunk, squares, session.company, context), seconds, repeat)
            past += chunk

    def _decode(self, session: Session, company: Company, record: Completion) -> None:
        """The mean of the equal steps between a request's first and last token."""
        seconds = record.atgt_s
        if record.server is not None and record.server.generation_s is not None:
            seconds = record.server.generation_s / session.steps
        if not seconds > 0.0:  # all tokens came at once
            return
        context = (record.prompt_tokens or session.prompts[0]) + (session.steps + 1) / 2
        if session.company:
            at_first = company.context_tokens(session.context, record.first_token_s + _LATE * seconds)
            context += at_first + session.company * (session.steps - 1) / 2
        name = session.decode_name
        self._note("decode", name, (0, 0, session.company + 1, context), seconds, self._log.next_repeat(name))

    async def _one_step(self, together: Together) -> tuple[float | None, list[int]]:
        """Seconds of the one step that prefilled these prompts, and their tokens; None where it was not one step."""
        ask = self._client.complete
        plug_s = self._plug_s(together.count)
        plug_tokens = min(max(16, int(plug_s / self._token_s)), self._bounds.step, self._bounds.prompt)
        plug = asyncio.create_task(ask(self._prompts.fresh(plug_tokens), 1))
        try:
            await asyncio.sleep(_PLUG_SENT * plug_tokens * self._token_s)
            prompts = [self._prompts.fresh(together.tokens) for _ in range(together.count)]
            records = await asyncio.gather(*(ask(prompt, 1) for prompt in prompts))
            before = require(await plug)
        finally:
            plug.cancel()
        tokens = [require(record).prompt_tokens or together.tokens for record in records]
        firsts = [record.first_token_s for record in records]
        step = median(firsts) - before.first_token_s
        if max(firsts) - min(firsts) > _SAME_STEP * step:
            return None, tokens
        times = [record.server.first_token_s or 0.0 for record in records if record.server is not None]
        if not times:
            return step, tokens
        agree = max(times) - min(times) <= _SAME_STEP * step and abs(median(times) - step) <= _CLOCKS_AGREE * step
        return median(times) if agree else None, tokens

    def _plug_s(self, count: int) -> float:
        return _PLUG_S + count * _PLUG_PER_REQUEST_S

    def _chunks(self, tokens: int, company: int) -> list[int]:
        """How the engine cuts a prompt of ``tokens`` beside ``company`` decoding requests."""
        if not self._bounds.step_known:
            return [tokens]
        room = self._bounds.step - company
        return [min(room, tokens - start) for start in range(0, tokens, room)]

    async def _prefill_time(self) -> tuple[float, float]:
        """Sum and count of the server's histogram of prefill times, where it is the clock."""
        seen = await scrape(self._client) if self._clock == "histograms" else None
        if seen is None:
            return 0.0, 0.0
        if seen.prefill_s is None or seen.prefills is None:
            raise ServerFault(f"{self._client.url} no longer shows vllm:request_prefill_time_seconds")
        return seen.prefill_s, seen.prefills

    def _note(self, kind: str, name: str, work: tuple[float, float, int, float], seconds: float, repeat: int) -> None:
        if seconds > 0.0:
            self._log.add(kind, name, work, seconds, repeat, time.perf_counter() - self._began_s)


def _plausible(record: Completion, decode_s: float, chunks_s: float) -> bool:
    """Whether the pauses agree with the server's own time to first token, where it tells one.

    An engine that prepares a step during the one before counts that one, too.
    """
    if record.server is None or record.server.first_token_s is None:
        return True
    told = record.server.first_token_s
    return (1 - _CLOCKS_AGREE) * (told - 2 * decode_s) <= chunks_s <= (1 + _CLOCKS_AGREE) * told
