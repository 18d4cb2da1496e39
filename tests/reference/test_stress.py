"""The oracle under random load, scale decisions and failures: everything ends, and in order."""

from __future__ import annotations

import random

import pytest

from .cases import scenario, worker_type
from .model import HOLD, REJECT, RefRequest, Snapshot
from .simulator import simulate_reference


@pytest.mark.parametrize("flavour", ["prefill_first", "chunked", "split"])
@pytest.mark.parametrize("seed", range(4))
def test_every_request_ends_under_stress(flavour: str, seed: int) -> None:
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

    result = simulate_reference(
        scenario(*types, max_gpus=8, heartbeat_s=1.0, max_hold_s=20.0, failures=tuple(failures)),
        arrivals,
        [rng.randint(1, 50) for _ in arrivals],
        [rng.randint(1, 40) for _ in arrivals],
        place,
        lambda snapshot: [rng.randint(0, 3), rng.randint(1, 3)],
    )
    for request in result.requests:
        assert request.status in ("finished", "truncated", "rejected", "failed")
        assert request.blocks == 0 and request.kv_at is None
        if request.status == "finished":
            assert request.generated == request.output_tokens
        if request.finish_s is not None:
            assert request.admitted_s is not None and request.first_token_s is not None
            assert request.arrival_s <= request.admitted_s < request.first_token_s <= request.finish_s
    statuses = {request.status for request in result.requests}
    assert "finished" in statuses and sum(r.preemptions + r.retries for r in result.requests) > 0
