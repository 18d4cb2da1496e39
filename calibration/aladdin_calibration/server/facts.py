"""What can be learnt of a server before its steps are timed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from aladdin_calibration.measurement import WorkerFacts
from aladdin_calibration.server.client import Client, Dialect, ServerFault
from aladdin_calibration.server.limits import keeps_prefixes, kv_tokens, running_at_once, tokens_per_step
from aladdin_calibration.server.metrics import Scrape, idle
from aladdin_calibration.server.plan import Plan, limits
from aladdin_calibration.server.prompts import Prompts
from aladdin_traces.errors import InputError

ClockName = Literal["server", "histograms", "client"]
CLOCKS: dict[ClockName, str] = {
    "server": "server's own (per-request metrics); mixed and batched prefill steps: client, differences of arrivals",
    "histograms": "single prefills: server's histograms; all else: client, differences of arrivals",
    "client": "client, differences of arrivals",
}
_DIALECTS = (Dialect(), Dialect(token_prompts=False), Dialect(extras=False), Dialect(False, False))
_SAME = (
    "model",
    "gpu",
    "tensor_parallel",
    "engine",
    "engine_version",
    "clock",
    "kv_capacity_tokens",
    "block_size",
    "max_model_len",
)
_SAME_KV = 0.02
_EXPLORED = ("kv_capacity_tokens", "prefix_cache", "overhead_s")
_LABELS = {"gpu": "unknown", "tensor_parallel": 1}  # only the user tells these; and what stands there if he does not
_LIMITS = ("max_num_seqs", "max_num_batched_tokens")  # a restart may change them: looked for again every time


@dataclass(frozen=True)
class Greeting:
    """A server that answered, and how to go on with it.

    Attributes:
        facts: What it tells of itself.
        clock: The best clock that it offers.
    """

    facts: WorkerFacts
    clock: ClockName


async def greet(client: Client, prompts: Prompts, plan: Plan) -> Greeting:
    """Learn what the server tells, and set the client's dialect. Nearly no load.

    Raises:
        InputError: The address, the model or the key is wrong.
        ServerFault: The server is not ready, serves others, or cannot be measured.
    """
    entries = await client.models()
    entry = next(e for e in entries if e["id"] == client.model)
    version = await _version(client)
    seen = await idle(client)
    if seen is not None and seen.engines > 1:
        raise ServerFault(f"{client.url} shares its requests among {seen.engines} engines: measure a worker with one")
    clock = await _first_words(client, prompts, seen)
    cache = {} if seen is None else seen.cache
    facts = WorkerFacts(
        model=str(client.model),
        gpu=plan.gpu,
        engine=str(entry.get("owned_by", "unknown")) if seen is None else "vllm",
        engine_version=version,
        clock=CLOCKS[clock],
        date=datetime.now(UTC).date().isoformat(),
        tensor_parallel=plan.tensor_parallel,
        kv_capacity_tokens=_capacity(cache),
        block_size=_whole(cache.get("block_size")),
        max_num_seqs=plan.max_num_seqs,
        max_num_batched_tokens=plan.max_num_batched_tokens,
        max_model_len=_whole(entry.get("max_model_len")),
        prefix_cache={"True": True, "False": False}.get(cache.get("enable_prefix_caching", "")),
        kv_bytes_per_token=_bytes_per_token(cache),
    )
    if seen is None:
        facts = facts.with_gap("whether others used the server meanwhile: it shows no vLLM metrics")
    return Greeting(facts, clock)


async def explore(client: Client, prompts: Prompts, plan: Plan, facts: WorkerFacts) -> tuple[WorkerFacts, int | None]:
    """Learn what takes some load: slots, token budget, prefix cache.

    Returns:
        The facts with what was found, and the longest prompt that surely fits one step (None: unknown).
    """
    if facts.prefix_cache is None:
        facts = replace(facts, prefix_cache=await keeps_prefixes(client, prompts))
    if facts.max_num_seqs is None:
        most = int(plan.max_batch / plan.max_share) + 1
        found = await running_at_once(client, prompts, most, plan.stall_s)
        facts = replace(facts, max_num_seqs=found)
        if found is None:
            facts = facts.without("max_num_seqs", f"not reached with {most} requests")
        await idle(client)
    one_step = facts.max_num_batched_tokens
    if one_step is None:
        longest = limits(plan, facts).prompt
        budget, one_step = await tokens_per_step(client, prompts, longest, plan.stall_s)
        facts = replace(facts, max_num_batched_tokens=budget)
        if budget is None:
            facts = facts.without("max_num_batched_tokens", f"not found with a prompt of {longest} tokens")
    if facts.kv_capacity_tokens is None:
        facts = await _fill(client, prompts, plan, facts)
    return facts, one_step


async def _fill(client: Client, prompts: Prompts, plan: Plan, facts: WorkerFacts) -> WorkerFacts:
    """The facts with the KV capacity, if all of it may be taken and it is within bounds."""
    name = "kv_capacity_tokens"
    if plan.max_share < 1.0:
        return facts.without(name, "the server does not tell it, and only max_share=1 allows to fill it")
    each = limits(plan, facts).prompt
    found = await kv_tokens(client, prompts, each, plan.max_batch * each, plan.stall_s)
    if found is None:
        return facts.without(name, f"{plan.max_batch * each} tokens did not fill it")
    return replace(facts, kv_capacity_tokens=found).without(name, f"by filling, to within {each} tokens")


def go_on(facts: WorkerFacts, kept: WorkerFacts, path: str) -> WorkerFacts:
    """The facts with what an earlier run found out or was told; InputError unless that run was on this server."""
    for name in _SAME:
        ours, theirs = getattr(facts, name), getattr(kept, name)
        if ours != theirs and not _may_differ(name, ours, theirs):
            mend = f"it is of another server ({name} {theirs!r}, here {ours!r}): give another file, or remove it"
            raise InputError("path", path, mend)
    for name in _EXPLORED:
        if getattr(facts, name) is None:
            facts = facts.taking_over(name, kept)
    unsaid = [name for name, nothing in _LABELS.items() if getattr(facts, name) == nothing]
    return replace(facts, **{name: getattr(kept, name) for name in unsaid})


def _may_differ(name: str, ours: Any, theirs: Any) -> bool:
    """Whether two runs on one server may know this differently.

    One may not have found it, or not have been told. And vLLM takes for KV what memory is free: a restart makes it a
    few blocks more or less.
    """
    if name in _LABELS:
        return _LABELS[name] in (ours, theirs)
    if ours is None:
        return name in _EXPLORED
    return name == "kv_capacity_tokens" and theirs is not None and abs(ours / theirs - 1.0) <= _SAME_KV


def with_limits(facts: WorkerFacts, kept: WorkerFacts, path: str) -> WorkerFacts:
    """The facts with limits that only an earlier run found; InputError where both found one and they differ."""
    for name in _LIMITS:
        ours, theirs = getattr(facts, name), getattr(kept, name)
        if theirs is None:
            continue
        if ours is None:
            facts = facts.taking_over(name, kept)
        elif ours != theirs:
            mend = f"the server was restarted with another {name} ({theirs} then, {ours} now): give another file"
            raise InputError("path", path, mend)
    return facts


async def _version(client: Client) -> str:
    status, text = await client.get("/version")
    try:
        return str(json.loads(text)["version"]) if status == 200 else "unknown"
    except (ValueError, LookupError, TypeError):
        return "unknown"


async def _first_words(client: Client, prompts: Prompts, seen: Scrape | None) -> ClockName:
    """Find the dialect by a tiny request in each, and the best clock by its answer."""
    said = []
    for dialect in _DIALECTS:
        client.dialect = dialect
        answer = await client.complete(prompts.fresh(16), 4)
        if answer.error is None and answer.output_tokens == 4:
            if answer.server is not None and None not in (answer.server.first_token_s, answer.server.generation_s):
                return "server"
            return "histograms" if seen is not None and seen.prefill_s is not None else "client"
        said.append(answer.error or f"{answer.output_tokens} tokens where 4 were asked for")
        if answer.error is not None and answer.status not in (400, 415, 422):
            break
    raise ServerFault(f"{client.url} cannot be measured: {said[0]}")


def _capacity(cache: dict[str, str]) -> int | None:
    """Tokens of KV that requests can fill, by the labels of ``vllm:cache_config_info``.

    One block is none of theirs: vLLM sets it aside as the null block, and counts it in all that it tells.
    """
    told, size = _told_tokens(cache), _whole(cache.get("block_size"))
    return told - size if told is not None and size is not None else told


def _told_tokens(cache: dict[str, str]) -> int | None:
    told = _whole(cache.get("kv_cache_size_tokens"))
    blocks, size = _whole(cache.get("num_gpu_blocks")), _whole(cache.get("block_size"))
    return blocks * size if told is None and blocks and size else told


def _bytes_per_token(cache: dict[str, str]) -> float | None:
    """KV memory of a token: the memory set aside over the tokens in it, less what is left of the memory.

    The rest is smaller than a block, so one more block would not fit: the truth lies between the two quotients. A
    model's is 2 x layers x heads x head size x bytes, many times two, which tells it from its neighbours.
    """
    memory, tokens = _whole(cache.get("kv_cache_memory_bytes")), _told_tokens(cache)
    if memory is None or tokens is None:
        return None
    block = _whole(cache.get("block_size")) or 1
    return float(_roundest(memory / (tokens + block), memory / tokens))


def _roundest(above: float, most: float) -> float:
    """The number in (above, most] that can be halved most often; ``most`` where no whole number lies there."""
    for power in reversed(range(int(most).bit_length())):
        found = int(most) >> power << power
        if found > above:
            return float(found)
    return most


def _whole(value: Any) -> int | None:
    """A positive whole number from a label or a field; None for anything else."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None
