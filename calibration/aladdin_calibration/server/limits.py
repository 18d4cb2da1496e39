"""Bounds of a server that it does not tell, found by asking a little more of it each time."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from statistics import median

import numpy as np

from aladdin_calibration.server.client import Client, ServerFault
from aladdin_calibration.server.company import Company, NotAdmitted, require
from aladdin_calibration.server.metrics import scrape
from aladdin_calibration.server.prompts import Prompts

_TINY, _TINY_OUTPUT = 16, 512  # tokens of a request that only takes a place
_SETTLING_STEPS = 4  # by then whoever can be admitted is
_LONG_PROMPTS = 2
_CHUNK = 0.2  # a pause stretched this much, relative to the most stretched one, held a chunk of a prompt
_USUAL_BUDGETS = tuple(2**n for n in range(6, 18))
_NEAR = 0.2  # how far the measured budget may be from a usual one, relative
_FILLING_OUTPUT = 1024  # tokens: nobody may leave while others come
_STALLED, _SHORTEST_STALL_S = 10.0, 1.0
_REPEATED = 384  # tokens of a prompt that is sent twice: several blocks of any size
_SAVED = 0.5  # a second time this much shorter did not compute the prompt again


async def running_at_once(client: Client, prompts: Prompts, most: int, patience_s: float) -> int | None:
    """The server's max_num_seqs if it is below ``most``; None if it is not, or if the server does not tell.

    Doubles the number of tiny requests until some have to wait, and hangs up.
    """
    tasks: list[asyncio.Task[object]] = []
    async with Company(client, [prompts.fresh(_TINY)], _TINY_OUTPUT, patience_s) as pacer:
        try:
            while len(tasks) + 1 < most:
                more = min(max(7, len(tasks) + 1), most - 1 - len(tasks))
                for _ in range(more):
                    tasks.append(asyncio.create_task(client.complete(prompts.fresh(_TINY), _TINY_OUTPUT)))
                await _steps(pacer, _SETTLING_STEPS, patience_s)
                seen = await scrape(client)
                if seen is None or seen.running is None:
                    return None
                if seen.waiting:
                    return int(seen.running)
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def tokens_per_step(
    client: Client, prompts: Prompts, longest: int, patience_s: float
) -> tuple[int | None, int | None]:
    """The server's max_num_batched_tokens, and the longest prompt that surely fits one step; None is unknown.

    Prompts of ``longest`` tokens arrive while another request decodes; each chunk of one stretches a pause of that
    stream. Where there are several, the first one's part of the time tells its part of the prompt.
    """
    first = whole = 0.0
    counts = set()
    async with Company(client, [prompts.fresh(_TINY)], _TINY_OUTPUT, patience_s) as other:
        await _steps(other, 2 * _SETTLING_STEPS, patience_s)
        stream = other.records[0]
        usual = median(np.diff(stream.token_s))
        for _ in range(_LONG_PROMPTS):
            sent = len(stream.token_s)
            tokens = require(await client.complete(prompts.fresh(longest), 1)).prompt_tokens or longest
            await _steps(other, 1, patience_s)
            longer = np.maximum(np.diff(stream.token_s[sent - 1 :]) - usual, 0.0)
            chunks = longer[longer > _CHUNK * longer.max()]
            first, whole = first + chunks[0], whole + longer.sum()
            counts.add(len(chunks))
    count = max(counts)
    if whole < _LONG_PROMPTS * usual:  # the prompts hardly took longer than a decode step: chunks do not stand out
        return None, None
    if count == 1:
        return None, tokens
    measured = tokens * float(first / whole)
    nearest = min(_USUAL_BUDGETS, key=lambda budget: abs(budget - measured))
    if abs(nearest / measured - 1.0) > _NEAR or not count <= -(-tokens // (nearest - 1)) <= count + 1:
        return None, tokens // (count + 1)
    return nearest, nearest


async def keeps_prefixes(client: Client, prompts: Prompts) -> bool:
    """Whether the server keeps the KV of a prompt for a later one: by its counter of hits, else by its haste."""
    prompt = prompts.fresh(_REPEATED)
    before = await scrape(client)
    once = require(await client.complete(prompt, 1))
    again = require(await client.complete(prompt, 1))
    after = await scrape(client)
    if before is not None and after is not None and None not in (before.hit_tokens, after.hit_tokens):
        return (after.hit_tokens or 0.0) > (before.hit_tokens or 0.0)
    return again.ttft_s < _SAVED * once.ttft_s


async def kv_tokens(client: Client, prompts: Prompts, each: int, most: int, patience_s: float) -> int | None:
    """Tokens of KV that the server holds, by filling it; None if it is more than ``most``.

    Adds one request of ``each`` prompt tokens after another until one gets no first token in ten times the longest
    wait so far: what then runs is what fits, to within one request. A server whose slots end first shows those.
    """
    async with AsyncExitStack() as held:
        running: list[Company] = []
        slowest, patience = 0.0, patience_s
        while (len(running) + 1) * each <= most:
            began = time.perf_counter()
            try:
                company = Company(client, [prompts.fresh(each)], _FILLING_OUTPUT, patience)
                running.append(await held.enter_async_context(company))
            except NotAdmitted:
                return int(sum(company.context_tokens(each, time.perf_counter()) for company in running))
            slowest = max(slowest, time.perf_counter() - began)
            patience = min(patience_s, max(_SHORTEST_STALL_S, _STALLED * slowest))
    return None


async def _steps(company: Company, count: int, patience_s: float) -> None:
    """Wait until the first request of ``company`` has ``count`` more tokens; ServerFault after ``patience_s``."""
    record = company.records[0]
    goal, until = len(record.token_s) + count, time.perf_counter() + patience_s
    while len(record.token_s) < goal:
        if not company.check() or time.perf_counter() > until:
            raise ServerFault("a running request stopped making tokens")
        await asyncio.sleep(0.005)
