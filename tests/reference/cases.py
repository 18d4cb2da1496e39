"""Small fleets and policies for the oracle's tests.

Laws throughout: prefill(S, Q) = S / 8 + Q / 1024, decode(b, C) = b / 4 + C / 64; blocks of 4 tokens.
"""

from __future__ import annotations

from .laws import linear_decode, linear_prefill
from .model import HOLD, RefRequest, RefScenario, RefType, Snapshot

OVERHEAD = 1 / 16
NEVER = 1e9


def worker_type(
    scheduler: str = "prefill_first",
    role: str = "mixed",
    count: int = 1,
    initial: int | None = None,
    max_num_seqs: int = 8,
    budget: int = 64,
    kv_blocks: int = 64,
    j: int = 0,
    overlap_s: float = 0.0,
    kv_bytes: float = 0.0,
    cold_starts_s: tuple[float, ...] = (0.5,),
    prefix_cache: bool = True,
) -> RefType:
    return RefType(
        scheduler=scheduler,
        role=role,
        count=count,
        initial=count if initial is None else initial,
        minimum=0,
        gpus=2,
        price_per_s=3.0,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget,
        kv_blocks=kv_blocks,
        block_size=4,
        kv_overhead_tokens=j,
        overhead_s=OVERHEAD,
        prefill=linear_prefill(1 / 8, attention_s=1 / 1024),
        decode=linear_decode(1 / 64, 1 / 4),
        mixed_overlap_s=overlap_s,
        kv_bytes_per_token=kv_bytes,
        cold_starts_s=list(cold_starts_s),
        prefix_cache=prefix_cache,
    )


def scenario(
    *types: RefType,
    max_gpus: int = 100,
    heartbeat_s: float = NEVER,
    max_hold_s: float = NEVER,
    max_retries: int = 1,
    failures: tuple[tuple[float, int], ...] = (),
    prefix_block_tokens: int = 0,
) -> RefScenario:
    return RefScenario(
        types=list(types),
        max_gpus=max_gpus,
        heartbeat_s=heartbeat_s,
        max_hold_s=max_hold_s,
        max_retries=max_retries,
        repair_s=2.0,
        transfer_bandwidth_bytes_per_s=256.0,
        transfer_latency_s=1 / 8,
        failures=list(failures),
        prefix_block_tokens=prefix_block_tokens,
    )


def first(snapshot: Snapshot, request: RefRequest) -> int:
    return snapshot.candidates[0]


def by_mod_two(snapshot: Snapshot, request: RefRequest) -> int:
    return request.index % 2 if request.index % 2 in snapshot.candidates else snapshot.candidates[0]


def when_empty(snapshot: Snapshot, request: RefRequest) -> int:
    return next((s for s in snapshot.candidates if not snapshot.slots[s].running + snapshot.slots[s].waiting), HOLD)
