"""The oracle under random load, scale decisions and failures: everything ends, and in order.

With prefix blocks the prompts are turns of conversations: each begins with some blocks of its conversation, and two
conversations have the same first block. The worker's own checks (RefWorker.check) run at every instant.
"""

from __future__ import annotations

import random

import pytest

from .cases import scenario, worker_type
from .model import HOLD, REJECT, RefRequest, Snapshot
from .simulator import simulate_reference


@pytest.mark.parametrize("flavour", ["prefill_first", "chunked", "split"])
@pytest.mark.parametrize("prefix_block_tokens", [0, 4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_every_request_ends_under_stress(flavour: str, seed: int, prefix_block_tokens: int) -> None:
    rng = random.Random(seed)
    roles = [("prefill", 2), ("decode", 3)] if flavour == "split" else [("mixed", 3), ("mixed", 2)]
    types = [
        worker_type(flavour, role, count, 2, max_num_seqs=4, budget=24, kv_blocks=16 + 4 * k, j=k, kv_bytes=2.0)
        for k, (role, count) in enumerate(roles)
    ]
    arrivals = sorted(rng.choice([rng.uniform(0, 100), float(rng.randrange(100))]) for _ in range(150))
    failures = sorted((rng.uniform(0, 100), rng.randrange(5)) for _ in range(8))

    def place(snapshot: Snapshot, request: RefRequest) -> int:
        return rng.choice([*snapshot.candidates, *snapshot.candidates, HOLD, REJECT if rng.random() < 0.05 else HOLD])

    prefixes = None
    if prefix_block_tokens > 0:
        conversations = [[c // 2] + [100 * c + k for k in range(1, 12)] for c in range(8)]
        prefixes = [rng.choice(conversations)[: rng.randint(0, 12)] for _ in arrivals]
    result = simulate_reference(
        scenario(
            *types,
            max_gpus=8,
            heartbeat_s=1.0,
            max_hold_s=20.0,
            failures=tuple(failures),
            prefix_block_tokens=prefix_block_tokens,
        ),
        arrivals,
        [rng.randint(1, 50) for _ in arrivals],
        [rng.randint(1, 40) for _ in arrivals],
        place,
        lambda snapshot: [rng.randint(0, 3), rng.randint(1, 3)],
        prefixes,
    )
    assert (result.hit_tokens > 0) == (prefix_block_tokens > 0) and result.hit_tokens < result.asked_tokens
    for request in result.requests:
        assert 0 <= request.hit_tokens < request.prompt_tokens
        assert request.status in ("finished", "truncated", "rejected", "failed")
        assert request.blocks == 0 and request.kv_at is None
        if request.status == "finished":
            assert request.generated == request.output_tokens
        if request.finish_s is not None:
            assert request.admitted_s is not None and request.first_token_s is not None
            assert request.arrival_s <= request.admitted_s < request.first_token_s <= request.finish_s
    statuses = {request.status for request in result.requests}
    assert "finished" in statuses and sum(r.preemptions + r.retries for r in result.requests) > 0
