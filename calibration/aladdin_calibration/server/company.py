"""Requests that decode beside a probe, and the pauses that the probe's prefill puts into their streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from types import TracebackType

import numpy as np

from aladdin_calibration.server.client import Client, Prompt, ServerFault
from aladdin_calibration.server.stream import Completion


class NotAdmitted(Exception):
    """The server did not let the whole company run at once."""


class Company:
    """Requests that decode side by side until the ``async with`` block ends; inside it all have their first token.

    Leaving hangs up on them, which ends them in the server.

    Args:
        client: Whom to ask.
        prompts: Their prompts.
        max_tokens: Output tokens that each may make at most.
        patience_s: Longest wait for all first tokens, seconds.

    Raises:
        NotAdmitted: Some had no first token within ``patience_s`` (on entering).
        ServerFault: A request failed (on entering).
    """

    def __init__(self, client: Client, prompts: Sequence[Prompt], max_tokens: int, patience_s: float) -> None:
        self._client, self._prompts = client, prompts
        self._max_tokens, self._patience_s = max_tokens, patience_s
        self._tasks: list[asyncio.Task[Completion]] = []
        self._running: dict[int, Completion] = {}
        self._all_run = asyncio.Event()

    async def __aenter__(self) -> Company:
        if not self._prompts:
            return self
        for number, prompt in enumerate(self._prompts):
            answer = self._client.complete(prompt, self._max_tokens, partial(self._heard, number))
            self._tasks.append(asyncio.create_task(answer))
        try:
            await self._all_started()
        except BaseException:
            await self._hang_up()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self._hang_up()

    @property
    def records(self) -> list[Completion]:
        """Their records, growing."""
        return [self._running[number] for number in sorted(self._running)]

    def check(self) -> bool:
        """Whether all still run; ServerFault when one has failed."""
        done = [task.result() for task in self._tasks if task.done()]
        for record in done:
            require(record)
        return not done

    def context_tokens(self, prompt_tokens: int, at_s: float) -> float:
        """Tokens of context of all together at ``at_s``, where each prompt had ``prompt_tokens`` by our count."""
        generated = [np.searchsorted(record.token_s, at_s, side="right") for record in self.records]
        prompts = [record.prompt_tokens or prompt_tokens for record in self.records]
        return float(sum(generated) + sum(prompts))

    def pauses(self, until_s: float, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
        """The last ``count`` times between two tokens before the token nearest to ``until_s``, seconds.

        Each is the median over the company. Streams in which tokens arrived together tell nothing and are left out;
        None when none is left.
        """
        seen = []
        for record in self.records:
            times = np.asarray(record.token_s)
            last = int(np.abs(times - until_s).argmin())
            if last < count:
                continue
            gaps = np.diff(times[last - count : last + 1])
            if np.all(gaps > 0.0):
                seen.append(gaps)
        return np.median(seen, axis=0) if seen else None

    def _heard(self, number: int, record: Completion) -> None:
        self._running[number] = record
        if len(self._running) == len(self._prompts):
            self._all_run.set()

    async def _all_started(self) -> None:
        started = asyncio.create_task(self._all_run.wait())
        try:
            await asyncio.wait({started, *self._tasks}, timeout=self._patience_s, return_when="FIRST_COMPLETED")
        finally:
            started.cancel()
        self.check()
        if not self._all_run.is_set():
            raise NotAdmitted(f"{len(self._running)} of {len(self._prompts)} requests run at once")

    async def _hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def require(record: Completion) -> Completion:
    """``record``, if it is whole.

    Raises:
        ServerFault: It failed, or has other than the asked number of tokens.
    """
    if record.error is not None:
        raise ServerFault(record.error)
    if record.output_tokens != record.max_tokens:
        raise ServerFault(
            f"the server gave {record.output_tokens} tokens where {record.max_tokens} were asked for: "
            "it ends answers early (no ignore_eos), so steps cannot be timed"
        )
    return record
