"""Prefix caching of the oracle against cases worked by hand (laws: cases.py; numbers are dyadic, equality is exact).

A prefill of 12 tokens takes 12/8 + 144/1024 = 1.640625, one of 8 takes 1.0625. Prefix blocks are as long as KV blocks,
4 tokens, where a test does not say otherwise.
"""

from __future__ import annotations

import pytest

from .cases import NEVER, OVERHEAD, first, scenario, when_empty, worker_type
from .model import HOLD, REJECT, RefRequest, RefResult, RefType, Snapshot
from .simulator import simulate_reference


def hits(result: RefResult) -> list[int]:
    return [request.hit_tokens for request in result.requests]


def ends(result: RefResult) -> list[float | None]:
    return [request.ended_s for request in result.requests]


def test_a_hit_skips_its_prefill() -> None:
    seen: list[int] = []

    def place(snapshot: Snapshot, request: RefRequest) -> int:
        seen.append(snapshot.slots[0].hit_tokens)
        return 0

    world = scenario(worker_type(), prefix_block_tokens=4)
    result = simulate_reference(world, [0.0, 1.0, 4.0], [12, 12, 12], [1] * 3, place, None, [[1, 2, 3], [1, 2, 9], [2]])
    # #1 is seen to hit while #0 is still prefilled. It computes 4 tokens after 8: 4/8 + 4 * (16 + 4) / 1024 = 0.578125.
    # #2 begins with another block: what is block 2 elsewhere is its first one, which is in the cache too.
    assert seen == [0, 8, 4]
    assert hits(result) == [0, 8, 4]
    assert ends(result) == [1.640625, 1.640625 + 0.578125, 4.0 + 8 / 8 + 8 * (8 + 8) / 1024]
    assert (result.hit_tokens, result.asked_tokens) == (12, 36)
    assert result.requests[1].first_token_s == 2.21875 + OVERHEAD


def test_the_last_prompt_token_is_never_hit() -> None:
    world = scenario(worker_type(), prefix_block_tokens=4)
    result = simulate_reference(world, [0.0, 2.0, 3.0], [8, 8, 9], [1] * 3, first, None, [[1, 2]] * 3)
    # #1 computes its last 4 tokens again (Q = 4 * (8 + 4)), #2 only its ninth (Q = 16 + 1).
    assert hits(result) == [0, 4, 8]
    assert ends(result) == [1.0625, 2.0 + 4 / 8 + 48 / 1024, 3.0 + 1 / 8 + 17 / 1024]


def test_ids_without_a_whole_block_and_repeated_ids_are_ignored() -> None:
    world = scenario(worker_type(), prefix_block_tokens=4)
    ids = [[1, 2, 3], [1, 2, 1, 4], [1, 2, 3, 4], [1, 2, 3, 4]]
    result = simulate_reference(world, [0.0, 10.0, 20.0, 30.0], [11, 17, 16, 17], [3, 1, 1, 1], first, None, ids)
    # #0 leaves blocks 1 and 2 (13 tokens computed, but 11 of the prompt), and #1 adds none; #2 computes 3 and 4.
    assert hits(result) == [0, 8, 8, 16]


def test_a_type_without_the_cache_and_prompts_without_ids() -> None:
    seen: list[int] = []

    def place(snapshot: Snapshot, request: RefRequest) -> int:
        seen.extend(slot.hit_tokens for slot in snapshot.slots)
        return snapshot.candidates[0]

    world = scenario(worker_type(prefix_cache=False), prefix_block_tokens=8)
    off = simulate_reference(world, [0.0, 2.0], [12, 12], [3, 3], place, None, [[1], [1]])
    assert (off.hit_tokens, off.asked_tokens, set(seen)) == (0, 0, {0})
    none = simulate_reference(scenario(worker_type()), [0.0, 2.0], [12, 12], [3, 3], first)
    assert ends(off) == ends(none) and hits(off) == hits(none) == [0, 0]
    assert (none.hit_tokens, none.asked_tokens) == (0, 24)


def test_the_last_block_of_a_request_is_forgotten_first() -> None:
    world = scenario(worker_type(kv_blocks=4), prefix_block_tokens=4)
    ids = [[1, 2, 3], [], [1, 2, 3]]
    result = simulate_reference(world, [0.0, 5.0, 10.0], [12, 8, 13], [1] * 3, first, None, ids)
    # Idle after #0: 3, 2, 1, and 4 blocks free. #1 takes 2, the other 2 keep blocks 2 and 1.
    assert hits(result) == [0, 0, 8]


def test_the_block_idle_longest_is_forgotten_first() -> None:
    world = scenario(worker_type(kv_blocks=4), prefix_block_tokens=4)
    ids = [[1], [2], [1], [], [1], [2]]
    arrivals = [10.0 * i for i in range(6)]
    result = simulate_reference(world, arrivals, [5, 5, 5, 12, 5, 5], [1] * 6, first, None, ids)
    # #2 used block 1 again, so that #3, which leaves room for one, lets block 2 go.
    assert hits(result) == [0, 0, 4, 0, 4, 0]


def test_idle_blocks_that_are_hit_need_memory() -> None:
    world = scenario(worker_type(kv_blocks=3), prefix_block_tokens=4)
    result = simulate_reference(world, [0.0, 5.0, 5.25], [8, 3, 9], [1, 2, 1], first, None, [[1, 2], [], [1, 2]])
    # #1 takes one of 3: 5 + 3/8 + 9/1024, decode (4) 0.3125 -> 5.6962890625. The other two are free and keep the idle
    # blocks 1 and 2; #2 needs them and one of its own, so it waits for the end of #1 and computes its ninth token.
    assert result.requests[2].admitted_s == 5.6962890625
    assert hits(result) == [0, 0, 8]
    assert result.end_s == 5.6962890625 + 1 / 8 + 17 / 1024


def test_two_requests_in_one_step_share() -> None:
    world = scenario(worker_type(kv_blocks=3), prefix_block_tokens=4)
    result = simulate_reference(world, [0.0, 0.0], [8, 8], [1, 1], first, None, [[1, 2], [1, 3]])
    # S = 8 + 4, Q = 64 + 4 * (8 + 4) = 112. Blocks 1, 2 and 3 are all that is there.
    assert ends(result) == [1.609375, 1.609375]
    assert hits(result) == [0, 4]


def test_a_block_computed_twice_is_kept_once() -> None:
    world = scenario(worker_type(kv_blocks=2), prefix_block_tokens=4)
    result = simulate_reference(world, [0.0, 0.0], [8, 8], [1, 1], first, None, [[1, 2], [1, 2]])
    # #1 hits block 1 only, but its block 2 is that of #0.
    assert ends(result) == [1.609375, 1.609375]
    assert hits(result) == [0, 4]


@pytest.mark.parametrize(("kv_blocks", "admitted"), [(4, 0.0), (3, 1.0625)])
def test_every_request_has_its_kv_overhead(kv_blocks: int, admitted: float) -> None:
    world = scenario(worker_type(kv_blocks=kv_blocks, j=3), prefix_block_tokens=4)
    result = simulate_reference(world, [0.0, 0.0], [8, 8], [1, 1], first, None, [[1, 2], [1, 2]])
    # ceil((8 + 3) / 4) = 3: the blocks 1 and 2 and one of its own for each request.
    assert [request.admitted_s for request in result.requests] == [0.0, admitted]


@pytest.mark.parametrize(("outputs", "kept"), [((1, 4), 1), ((2, 5), 2)])
def test_who_lets_go_first_when_a_step_ends_two_requests(outputs: tuple[int, int], kept: int) -> None:
    def place(snapshot: Snapshot, request: RefRequest) -> int:
        return HOLD if request.index == 0 and snapshot.now_s < 1.0 else 0

    kind = worker_type("chunked", budget=24, kv_blocks=6)
    world = scenario(kind, prefix_block_tokens=4, heartbeat_s=1.0)
    arrivals, prompts, ids = [0.0, 0.0, 10.0, 20.0, 30.0], [5, 5, 20, 5, 5], [[1], [2], [], [1], [2]]
    result = simulate_reference(world, arrivals, prompts, [*outputs, 1, 1, 1], place, None, ids)
    # #0 is held until 1, when #1 is in its third step (0.649.., 0.993.., 1.352..), and prefilled in the fourth.
    # Outputs 1 and 4: both end in the fourth step, #1 (which decoded) lets go first, so #2 has block 2 forgotten.
    # Outputs 2 and 5: both end decoding in the fifth, #0 lets go first, though #1 was admitted before it.
    assert result.requests[0].admitted_s is not None and 1.35 < result.requests[0].admitted_s < 1.36
    assert result.requests[0].ended_s == result.requests[1].ended_s
    assert hits(result) == ([0, 0, 0, 4, 0] if kept == 1 else [0, 0, 0, 0, 4])


def test_a_preempted_request_hits_its_own_blocks() -> None:
    world = scenario(worker_type(kv_blocks=4), prefix_block_tokens=4)
    result = simulate_reference(world, [0.0, 0.0], [7, 7], [6, 3], first, None, [[1], [2]])
    # As test_preemption up to 2.595703125: #1 is preempted with g = 2, block 2 becomes idle, and the one KV block that
    # #0 leaves free keeps it. #1 (3 blocks) waits for the end of #0 at 4.251953125, hits 4 tokens and computes 5:
    # 5/8 + 5 * (8 + 5) / 1024. That hit counts nowhere.
    assert ends(result) == [4.251953125, 4.251953125 + 0.625 + 65 / 1024]
    assert [request.preemptions for request in result.requests] == [0, 1]
    assert hits(result) == [0, 0]
    assert (result.hit_tokens, result.asked_tokens) == (0, 14)


def test_chunked_continuation() -> None:
    seen: list[tuple[int, int]] = []

    def place(snapshot: Snapshot, request: RefRequest) -> int:
        seen.append((snapshot.slots[0].blocks_used, snapshot.slots[0].hit_tokens))
        return 0 if request.index < 2 else REJECT

    kind = worker_type("chunked", max_num_seqs=4, budget=6, kv_blocks=6)
    world = scenario(kind, prefix_block_tokens=8)
    arrivals = [0.0, 0.5, 1.0, 2.0, 3.0]
    result = simulate_reference(world, arrivals, [20] * 5, [1] * 5, place, None, [[1, 2]] * 5)
    # Prefix blocks of 2 KV blocks. #0 computes 6, 6, 6, 2 tokens; in its last step #1 hits 16 and computes 4.
    # Ends of steps: 0.75 + 36/1024, 0.75 + 6 * (12 + 6)/1024, 0.75 + 6 * (24 + 6)/1024 and, with
    # Q = 2 * (36 + 2) + 4 * (32 + 4) = 220, 0.75 + 220/1024: 0.785.., 1.640.., 2.566.., 3.53125.
    # KV blocks of #0 in its steps: 2; block 1 and 1; blocks 1, 2 and 1; the same, and 1 of #1.
    assert seen == [(0, 0), (2, 0), (3, 8), (5, 16), (6, 16)]
    assert ends(result)[:2] == [3.53125, 3.53125]
    assert hits(result)[:2] == [0, 16]
    assert (result.hit_tokens, result.asked_tokens) == (16, 40)


def test_chunked_hit_and_budget() -> None:
    kind = worker_type("chunked", max_num_seqs=4, budget=6)
    world = scenario(kind, prefix_block_tokens=4)
    result = simulate_reference(world, [0.0, 4.0], [9, 17], [1, 1], first, None, [[1, 2], [1, 2, 3, 4]])
    # #1 hits 8 tokens and computes 6 after 8 and 3 after 14.
    assert hits(result) == [0, 8]
    assert result.requests[1].ended_s == 4.0 + 9 / 8 + 6 * (16 + 6) / 1024 + 3 * (28 + 3) / 1024


def test_a_failed_worker_forgets() -> None:
    world = scenario(worker_type(), prefix_block_tokens=4, failures=((2.25, 0),))
    result = simulate_reference(world, [0.0, 2.0], [12, 12], [1, 3], when_empty, None, [[1, 2, 3], [1, 2, 3]])
    # #1 hits 8 tokens at 2, is lost at 2.25, and computes all 12 when the worker is back at 2.25 + 2 + 0.5.
    assert result.requests[1].first_token_s == 4.75 + 1.640625 + OVERHEAD
    assert hits(result) == [0, 0]
    assert (result.hit_tokens, result.asked_tokens) == (8, 36)


@pytest.mark.parametrize(("outputs", "hit"), [(1, 0), (9, 8)])
def test_a_stopped_worker_forgets_a_draining_one_does_not(outputs: int, hit: int) -> None:
    wanted = iter([0, 1, 1, 1, 1])
    world = scenario(worker_type(), prefix_block_tokens=4, heartbeat_s=2.0)
    result = simulate_reference(
        world, [0.0, 6.0], [12, 12], [outputs, 1], first, lambda snapshot: [next(wanted)], [[1, 2, 3], [1, 2, 3]]
    )
    # At 2 the worker stops when #0 has ended at 1.640625, and is started again at 4. With 9 outputs #0 runs until
    # 1.640625 + 8/4 + (13 + ... + 20)/64 = 5.703125, and the draining worker returns at 4.
    assert hits(result) == [0, hit]
    assert result.worker_seconds == [result.end_s - (0.0 if hit else 2.0)]


def split(prefill_blocks: int = 64, decode_blocks: int = 64) -> list[RefType]:
    return [
        worker_type("split", "prefill", kv_blocks=prefill_blocks, kv_bytes=16.0),
        worker_type("split", "decode", kv_blocks=decode_blocks, kv_bytes=16.0),
    ]


def test_split_prefill_worker_holds_its_blocks_until_the_transfer_ends() -> None:
    seen: list[tuple[int, list[int]]] = []

    def place(snapshot: Snapshot, request: RefRequest) -> int:
        seen.append((request.index, [slot.hit_tokens for slot in snapshot.slots]))
        return snapshot.candidates[0]

    world = scenario(*split(prefill_blocks=2), prefix_block_tokens=4)
    ids = [[1, 2], [1, 2], [7], [1]]
    arrivals, prompts, outputs = [0.0, 1.125, 1.125, 5.0], [8, 8, 4, 5], [3, 3, 1, 1]
    result = simulate_reference(world, arrivals, prompts, outputs, place, None, ids)
    # #0: prefill -> 1.0625, transfer of 0.625 -> 1.6875, decode (9, 10) -> 2.484375.
    # #1 hits block 1 and shares block 2: it needs nothing free. Prefill of 4 (Q = 48) 1.125 -> 1.671875,
    # transfer -> 2.296875, decode 2.484375 -> 3.28125.
    # #2 finds no block until the transfer of #1 has ended, and block 2 is forgotten: prefill of 4 2.296875 -> 2.8125.
    # #3 hits block 1.
    assert [request.admitted_s for request in result.requests] == [0.0, 1.125, 2.296875, 5.0]
    assert ends(result)[:3] == [2.484375, 3.28125, 2.8125]
    assert hits(result) == [0, 4, 0, 4]
    assert seen == [(0, [0, 0]), (0, [0, 0]), (1, [4, 0]), (2, [0, 0]), (1, [0, 0]), (3, [4, 0])]
    assert (result.hit_tokens, result.asked_tokens) == (8, 25)


def test_split_kv_that_is_dropped_leaves_its_blocks_idle() -> None:
    world = scenario(*split(), prefix_block_tokens=4, failures=((1.5, 1),))
    result = simulate_reference(world, [0.0], [8], [2], first, None, [[1, 2]])
    # The decode worker fails during the transfer; the second attempt begins at 1.5 and hits the blocks of the first.
    (request,) = result.requests
    assert (request.retries, request.admitted_s, request.hit_tokens) == (1, 1.5, 4)
    assert request.first_token_s == 1.5 + 4 / 8 + 48 / 1024 + OVERHEAD
    assert (result.hit_tokens, result.asked_tokens) == (4, 16)

    def no_decode(snapshot: Snapshot, request: RefRequest) -> int:
        return REJECT if request.prefilled else snapshot.candidates[0]

    world = scenario(*split(prefill_blocks=2), prefix_block_tokens=4)
    result = simulate_reference(world, [0.0, 2.0], [8, 8], [2, 1], no_decode, None, [[1, 2], [1, 2]])
    assert [request.status for request in result.requests] == ["rejected", "finished"]
    assert hits(result) == [0, 4]


def test_split_decode_worker_keeps_nothing() -> None:
    world = scenario(*split(decode_blocks=4), prefix_block_tokens=4)
    result = simulate_reference(world, [0.0, 0.0], [8, 8], [2, 2], first, None, [[1, 2], [3, 4]])
    # As test_split_decode_preempts_and_recomputes: #1 computes all 9 tokens again.
    assert ends(result) == [3.140625, 3.140625 + 1.2041015625]
    assert [request.preemptions for request in result.requests] == [0, 1]


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
def test_blocks_that_nobody_shares_change_nothing(scheduler: str) -> None:
    kind = worker_type(scheduler, budget=24, kv_blocks=40, j=2, max_num_seqs=3)
    arrivals = [0.75 * i for i in range(20)]
    prompts, outputs = [7 + 5 * i % 31 for i in range(20)], [1 + 3 * i % 17 for i in range(20)]
    ids = [[100 * i + k for k in range(9)] for i in range(20)]
    plain = simulate_reference(scenario(kind), arrivals, prompts, outputs, first)
    named = simulate_reference(
        scenario(kind, prefix_block_tokens=8, heartbeat_s=NEVER), arrivals, prompts, outputs, first, None, ids
    )
    assert sum(request.preemptions for request in plain.requests) == 0
    assert ends(plain) == ends(named)
    assert named.hit_tokens == 0 and named.asked_tokens == sum(prompts)
