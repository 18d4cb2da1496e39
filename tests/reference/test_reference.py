"""The oracle against cases worked by hand. All numbers are dyadic, so that equality is exact (laws: cases.py)."""

from __future__ import annotations

import pytest

from .cases import OVERHEAD, by_mod_two, first, scenario, when_empty, worker_type
from .laws import row_decode, row_prefill
from .model import REJECT, RefRequest, RefType, Snapshot
from .simulator import simulate_reference


def client(*engine_s: float) -> list[float]:
    return [time + OVERHEAD for time in engine_s]


def firsts(requests: list[RefRequest]) -> list[float | None]:
    return [r.first_token_s for r in requests]


def finishes(requests: list[RefRequest]) -> list[float | None]:
    return [r.finish_s for r in requests]


def test_one_request_alone() -> None:
    result = simulate_reference(scenario(worker_type()), [1.0], [8], [3], first)
    # Prefill 8/8 + 64/1024 = 1.0625; decode with context 9: 0.390625, with context 10: 0.40625.
    (request,) = result.requests
    assert (request.status, request.worker, request.admitted_s, request.generated) == ("finished", 0, 1.0, 3)
    assert (request.first_token_s, request.finish_s) == (2.0625 + OVERHEAD, 2.859375 + OVERHEAD)
    assert (result.end_s, result.worker_seconds, result.cost) == (2.859375, [2.859375], 3 * 2.859375)
    assert result.steps == {"prefill": 1, "decode": 2, "mixed": 0}


def test_prefill_first_makes_decoding_wait() -> None:
    result = simulate_reference(scenario(worker_type()), [0.0, 1.2], [8, 4], [4, 2], first)
    # 0 prefill of #0 1.0625 decode #0 (9) 1.453125 prefill of #1 (0.515625) 1.96875
    # decode both (b = 2, C = 10 + 5: 0.734375) 2.703125, #1 ends; decode #0 (11: 0.421875) 3.125.
    assert firsts(result.requests) == client(1.0625, 1.96875)
    assert finishes(result.requests) == client(3.125, 2.703125)
    assert result.requests[1].admitted_s == 1.453125
    assert result.steps == {"prefill": 2, "decode": 3, "mixed": 0}


def test_simultaneous_arrivals_are_batched_within_the_budget() -> None:
    result = simulate_reference(scenario(worker_type(budget=16)), [0.0] * 4, [8, 8, 8, 32], [1] * 4, first)
    # #0 and #1 together (S = 16, Q = 128: 2.125), #2 alone (1.0625), #3 is longer than the budget, alone (5).
    assert finishes(result.requests) == client(2.125, 2.125, 3.1875, 8.1875)
    assert [r.admitted_s for r in result.requests] == [0.0, 0.0, 2.125, 3.1875]
    result = simulate_reference(scenario(worker_type(max_num_seqs=1)), [0.0] * 2, [8, 8], [1, 1], first)
    assert finishes(result.requests) == client(1.0625, 2.125)


def test_arrival_at_a_boundary_joins_the_step_that_begins_there() -> None:
    result = simulate_reference(scenario(worker_type()), [0.0, 1.0625], [8, 8], [3, 1], first)
    assert result.requests[1].admitted_s == 1.0625
    assert firsts(result.requests) == client(1.0625, 2.125)


def test_chunked_prompt_over_the_budget_and_mixed_step() -> None:
    kind = worker_type("chunked", max_num_seqs=4, budget=8, overlap_s=0.25)
    result = simulate_reference(scenario(kind), [0.0, 0.0, 2.5], [12, 4, 4], [3, 2, 1], first)
    # Step 1: 8 of #0: 1.0625. Step 2: 4 of #0 (past 8, Q = 80) and #1 (Q = 16): 1.09375 -> 2.15625, both a token.
    # Step 3: both decode (C = 13 + 5): 0.78125 -> 2.9375, #1 ends.
    # Step 4: #0 decodes (14: 0.46875) while #2 is prefilled (0.515625), less 0.25: 0.734375 -> 3.671875.
    assert firsts(result.requests) == client(2.15625, 2.15625, 3.671875)
    assert finishes(result.requests) == client(3.671875, 2.9375, 3.671875)
    assert [r.admitted_s for r in result.requests] == [0.0, 1.0625, 2.9375]
    assert result.steps == {"prefill": 2, "decode": 1, "mixed": 1}


def test_chunked_last_chunk_of_one_token_is_prefill() -> None:
    kind = worker_type("chunked", max_num_seqs=4, budget=8)
    result = simulate_reference(scenario(kind), [0.0], [9], [1], first)
    assert finishes(result.requests) == client(1.0625 + 1 / 8 + 17 / 1024)
    assert result.steps == {"prefill": 2, "decode": 0, "mixed": 0}


def test_chunked_preemption_blocks_admission() -> None:
    kind = worker_type("chunked", max_num_seqs=4, budget=8, kv_blocks=2)
    result = simulate_reference(scenario(kind), [0.0, 0.0], [4, 4], [2, 2], first)
    # Step 1: both prompts (S = 8, Q = 32): 1.03125. Step 2: #0 needs a second block, #1 is preempted;
    # decode (5: 0.328125) -> 1.359375, #0 ends. Step 3: #1 recomputes 5 (0.625 + 25/1024) -> 2.0087890625, g = 2.
    assert firsts(result.requests) == client(1.03125, 1.03125)
    assert finishes(result.requests) == client(1.359375, 2.0087890625)
    assert [r.preemptions for r in result.requests] == [0, 1]
    assert result.steps == {"prefill": 2, "decode": 1, "mixed": 0}


def test_preemption() -> None:
    result = simulate_reference(scenario(worker_type(kv_blocks=4)), [0.0, 0.0], [7, 7], [6, 3], first)
    # Prefill both (S = 14, Q = 98) 1.845703125; decode both (C = 16: 0.75) 2.595703125, now n = 8 and no block free:
    # #1 preempted with g = 2, needs 9 tokens = 3 blocks, #0 holds 3 of 4. #0 decodes with 9, 10, 11, 12:
    # 0.390625 + 0.40625 + 0.421875 + 0.4375 -> 4.251953125, ends. #1 recomputes 9: 1.2041015625, g = 3, ends.
    assert firsts(result.requests) == client(1.845703125, 1.845703125)
    assert finishes(result.requests) == client(4.251953125, 5.4560546875)
    assert [r.preemptions for r in result.requests] == [0, 1]
    assert result.requests[1].admitted_s == 0.0


def test_a_request_may_preempt_itself() -> None:
    result = simulate_reference(scenario(worker_type(kv_blocks=3)), [0.0, 0.0], [6, 4], [2, 2], first)
    # Blocks 2 + 1. At 1.25 + 52/1024 #0 (n = 6) needs none, #1 (n = 4) needs one: it preempts itself.
    # #0 decodes alone (7: 0.359375) and ends; #1 recomputes 5 (0.625 + 25/1024).
    prefill = 1.25 + 52 / 1024
    assert finishes(result.requests) == client(prefill + 0.359375, prefill + 0.359375 + 0.625 + 25 / 1024)
    assert [r.preemptions for r in result.requests] == [0, 1]


def test_kv_overhead_and_truncation() -> None:
    # Capacity 4 * 4 - 3 = 13 tokens: p = 8 may make 13 - 8 + 1 = 6 tokens; p = 14 fits nowhere.
    kind = worker_type(kv_blocks=4, j=3)
    result = simulate_reference(scenario(kind, max_hold_s=1.0), [0.0, 0.0, 0.0], [8, 14, 13], [9, 1, 1], first)
    assert [r.status for r in result.requests] == ["truncated", "rejected", "finished"]
    assert [r.generated for r in result.requests] == [6, 0, 1]
    assert result.requests[1].ended_s == 1.0
    # #0 holds ceil(11 / 4) = 3 blocks, so #2 (4 blocks) waits until it ends.
    assert result.requests[2].admitted_s == result.requests[0].ended_s == 1.0625 + 5 / 4 + (9 + 10 + 11 + 12 + 13) / 64


def split(prefill_blocks: int = 64, decode_blocks: int = 64) -> tuple[RefType, RefType]:
    return (
        worker_type("split", "prefill", kv_blocks=prefill_blocks, kv_bytes=16.0),
        worker_type("split", "decode", kv_blocks=decode_blocks, kv_bytes=16.0),
    )


def test_split_transfer_keeps_blocks_at_the_source() -> None:
    result = simulate_reference(scenario(*split(prefill_blocks=2)), [0.0, 0.0, 0.0], [8, 8, 4], [3, 3, 1], first)
    # #0: prefill -> 1.0625, transfer 128/256 + 1/8 -> 1.6875, decode (9, 10) -> 2.484375.
    # #1 finds no block before 1.6875: prefill -> 2.75, transfer -> 3.375, decode -> 4.171875.
    # #2 finds none before 3.375: prefill of 4 -> 3.890625, ends there (o = 1).
    assert firsts(result.requests) == client(1.0625, 2.75, 3.890625)
    assert finishes(result.requests) == client(2.484375, 4.171875, 3.890625)
    assert [(r.prefill_worker, r.worker) for r in result.requests] == [(0, 1), (0, 1), (0, 0)]
    assert result.steps == {"prefill": 3, "decode": 4, "mixed": 0}


def test_split_decode_preempts_and_recomputes() -> None:
    result = simulate_reference(scenario(*split(decode_blocks=4)), [0.0, 0.0], [8, 8], [2, 2], first)
    # Prefill both 2.125, transfers end 2.75; both admitted with 2 blocks each, #0 needs a third: #1 is preempted,
    # #0 decodes (9) -> 3.140625, ends. #1 recomputes 9: 1.2041015625 on the decode worker, g = 2.
    assert finishes(result.requests) == client(3.140625, 3.140625 + 1.2041015625)
    assert [r.preemptions for r in result.requests] == [0, 1]


def test_split_rejected_after_prefill_frees_the_blocks() -> None:
    def no_decode(snapshot: Snapshot, request: RefRequest) -> int:
        return REJECT if request.prefilled and request.index == 0 else snapshot.candidates[0]

    result = simulate_reference(scenario(*split(prefill_blocks=2)), [0.0, 0.0], [8, 8], [3, 1], no_decode)
    assert [r.status for r in result.requests] == ["rejected", "finished"]
    assert result.requests[1].finish_s == 2.125 + OVERHEAD
    assert result.requests[0].ended_s == 1.0625


def test_hold_until_a_request_leaves() -> None:
    asked: list[tuple[float, int]] = []

    def place(snapshot: Snapshot, request: RefRequest) -> int:
        asked.append((snapshot.now_s, request.index))
        return when_empty(snapshot, request)

    result = simulate_reference(scenario(worker_type(), heartbeat_s=1.0), [0.0, 0.5, 0.5], [8, 8, 8], [3, 1, 1], place)
    # #0 ends at 1.859375; #1 is placed then, #2 only when #1 has left at 2.921875. The queue is asked head first.
    assert finishes(result.requests) == client(1.859375, 2.921875, 3.984375)
    assert asked == [
        *[(0.0, 0), (0.5, 1), (0.5, 2), (1.0, 1), (1.859375, 1), (1.859375, 2)],
        *[(2.0, 2), (2.921875, 2)],
    ]
    assert [time for time, _ in result.heartbeats] == [1.0, 2.0, 3.0]


def test_hold_deadline_comes_before_the_router() -> None:
    # #0 leaves at 1.859375, just when the hold of #1 (arrived at 0.859375) reaches 1 s; #2 was held for less.
    result = simulate_reference(
        scenario(worker_type(), max_hold_s=1.0), [0.0, 0.859375, 1.0], [8, 8, 8], [3, 1, 1], when_empty
    )
    assert [r.status for r in result.requests] == ["finished", "rejected", "finished"]
    assert [r.ended_s for r in result.requests] == [1.859375, 1.859375, 2.921875]


def test_holding_is_rejecting_without_hold_time() -> None:
    result = simulate_reference(scenario(worker_type(), max_hold_s=0.0), [0.0, 0.5], [8, 8], [1, 1], when_empty)
    assert [(r.status, r.ended_s) for r in result.requests] == [("finished", 1.0625), ("rejected", 0.5)]


def test_drain() -> None:
    kind = worker_type(count=3)
    result = simulate_reference(
        scenario(kind, heartbeat_s=0.5), [0.0, 0.0, 0.0, 0.75], [8] * 4, [3, 3, 3, 1], by_mod_two, lambda snapshot: [1]
    )
    # Slots: #0, #2 on 0; #1 on 1; none on 2. At 0.5 slot 2 goes OFF at once, slot 1 drains, #3 must go to slot 0.
    # Slot 1: 1.0625 + 0.390625 + 0.40625 = 1.859375, then OFF.
    assert result.worker_seconds[1:] == [1.859375, 0.5]
    assert [r.worker for r in result.requests] == [0, 1, 0, 0]
    assert result.heartbeats[0] == (0.5, {"OFF": 1, "STARTING": 0, "READY": 1, "DRAINING": 1, "FAILED": 0})
    assert result.heartbeats[3][1] == {"OFF": 2, "STARTING": 0, "READY": 1, "DRAINING": 0, "FAILED": 0}
    assert result.worker_seconds[0] == result.end_s
    assert result.cost == 3.0 * sum(result.worker_seconds)


def test_draining_worker_returns_and_cold_starts_follow() -> None:
    wanted = iter([0, 3, 3, 3, 3])
    kind = worker_type(count=3, initial=1, cold_starts_s=(0.5, 0.25))
    result = simulate_reference(
        scenario(kind, heartbeat_s=1.0, max_gpus=4),
        [0.0, 1.0, 2.0],
        [8, 8, 8],
        [5, 1, 1],
        when_empty,
        lambda snapshot: [next(wanted)],
    )
    # At 1 slot 0 drains (#0 runs until 2.71875); #1 is held. At 2 slot 0 returns and slot 1 starts (0.5 s); the GPU
    # limit of 4 leaves slot 2 OFF. At 2.5 slot 1 is ready and takes #1; #2 goes to slot 0 when #0 has left.
    assert result.heartbeats[0][1] == {"OFF": 2, "STARTING": 0, "READY": 0, "DRAINING": 1, "FAILED": 0}
    assert result.heartbeats[1][1] == {"OFF": 1, "STARTING": 1, "READY": 1, "DRAINING": 0, "FAILED": 0}
    assert [r.admitted_s for r in result.requests] == [0.0, 2.5, 2.71875]
    assert [r.worker for r in result.requests] == [0, 1, 0]
    assert result.worker_seconds == [3.78125, 1.78125, 0.0]


def test_failure_with_retry() -> None:
    result = simulate_reference(scenario(worker_type(count=2), failures=((1.25, 0),)), [0.0], [8], [3], first)
    # Its prefill ended at 1.0625; all is lost at 1.25 and it starts anew on slot 1.
    (request,) = result.requests
    assert (request.worker, request.retries, request.admitted_s, request.status) == (1, 1, 1.25, "finished")
    assert (request.first_token_s, request.finish_s) == (2.3125 + OVERHEAD, 3.109375 + OVERHEAD)
    assert result.steps == {"prefill": 2, "decode": 2, "mixed": 0}


def test_failure_repair_cold_start_and_too_many_retries() -> None:
    result = simulate_reference(
        scenario(worker_type(), failures=((1.25, 0), (2.0, 0), (4.0, 0))), [0.0, 0.0], [8, 8], [9, 1], when_empty
    )
    # Slot 0 fails at 1.25 (at 2.0 it is FAILED already), is repaired at 3.25, ready at 3.75. #1 was held from the
    # start, #0 joins the queue behind it. #1 runs from 3.75 and fails at 4.0; ready again at 6.5: #0, then #1.
    assert [(r.retries, r.admitted_s) for r in result.requests] == [(1, 6.5), (1, 11.125)]
    assert result.requests[0].ended_s == 6.5 + 1.0625 + 8 / 4 + sum(range(9, 17)) / 64 == 11.125
    assert [r.status for r in result.requests] == ["finished", "finished"]
    result = simulate_reference(scenario(worker_type(), max_retries=0, failures=((1.0, 0),)), [0.0], [8], [3], first)
    assert [(r.status, r.retries, r.ended_s, r.finish_s) for r in result.requests] == [("failed", 1, 1.0, None)]


def test_failure_of_either_side_of_a_transfer() -> None:
    for slot in (0, 1):
        result = simulate_reference(scenario(*split(), failures=((1.5, slot),)), [0.0], [8], [2], first)
        # The transfer runs from 1.0625 to 1.6875. The failed slot is ready again at 1.5 + 2 + 0.5 = 4.
        (request,) = result.requests
        restart = 4.0 if slot == 0 else 1.5
        decode = restart + 1.6875 if slot == 0 else 4.0 + 0.625
        assert (request.retries, request.admitted_s) == (1, restart)
        assert request.finish_s == decode + 0.390625 + OVERHEAD


def test_an_answer_that_is_no_candidate_raises() -> None:
    with pytest.raises(ValueError, match="is not one of"):
        simulate_reference(scenario(worker_type()), [0.0], [8], [3], lambda snapshot, request: 1)


def test_row_laws() -> None:
    row = [0.0] * 78
    row[0], row[3], row[4] = 0.5, 3.0, 2.0
    row[8:11], row[40:43] = [10.0, 20.0, 40.0], [1.0, 3.0, 4.0]
    row[72:75], row[75:78] = [0.0, 1.0, 1.5], [0.0, 0.25, 0.125]
    prefill, decode = row_prefill(row), row_decode(row)
    assert [prefill(x, 0.0) for x in (1.0, 10.0, 15.0, 20.0, 30.0, 60.0)] == [1.0, 1.0, 2.0, 3.0, 3.5, 5.0]
    assert prefill(15.0, 4.0) == 4.0
    assert [decode(1, 8.0), decode(2, 8.0)] == [3.0, 2.5]
