"""The exact KV peak of a worker over the expected future of its requests."""

from __future__ import annotations

from aladdin_agents.expectations import expected_rest, tokens_of
from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.state import NONE, Array


@inlined
def _swap(memory: Array, a: int, b: int, stride: int) -> None:
    rest, size = memory[a], memory[a + stride]
    memory[a], memory[a + stride] = memory[b], memory[b + stride]
    memory[b], memory[b + stride] = rest, size


@inlined
def _sink(memory: Array, first: int, at: int, count: int, stride: int) -> None:
    while True:
        child = 2 * at + 1
        if child >= count:
            return
        if child + 1 < count and memory[first + child + 1] < memory[first + child]:
            child += 1
        if memory[first + at] <= memory[first + child]:
            return
        _swap(memory, first + at, first + child, stride)
        at = child


@compiled
def sort_by_rest(memory: Array, first: int, count: int, stride: int) -> None:
    """Sort ``count`` entries from ``first`` on by falling value; partners lie ``stride`` further. Heapsort in place."""
    for back in range(count // 2):
        _sink(memory, first, count // 2 - 1 - back, count, stride)
    for back in range(count - 1):
        last = count - 1 - back
        _swap(memory, first, first + last, stride)
        _sink(memory, first, 0, last, stride)


@compiled
def kv_peak(
    workers: Array, requests: Array, laws: Array, memory: Array, table: int, first: int, stride: int, w: int, r: int
) -> float:
    """Constraint 4, KV: the most tokens that w will hold at once with q, at equal growth of all [R].

    ``max_k sum over i with rest_i >= rest_k of (l_i + rest_k + j)``: when the k-th ends, those with more to come hold
    what they hold now and as much again as it generated. Not the sum of final sizes: who ends frees room. ``rest`` =
    expected length (re-estimated where outlived, table at ``memory[table]``) - g. ``memory[first : first + 2 stride]``
    is working space; more than ``stride`` requests count as infinite. Requests whose KV is on its way count with the
    mean of w's sums.
    """
    worker = workers[w]
    members = worker.members + 1
    if members > stride:
        return 1e300
    count = 0
    prompts = 0.0
    predicted = 0.0
    for part in range(2):
        i = worker.run_head if part == 0 else worker.wait_head
        while i != NONE:
            request = requests[i]
            generated = tokens_of(workers, requests, w, i)
            memory[first + count] = expected_rest(requests, memory, table, i, generated)
            memory[first + stride + count] = float(request.prompt_tokens + generated)
            prompts += request.prompt_tokens
            predicted += request.predicted_tokens
            count += 1
            i = request.next
    for _ in range(worker.inbound):
        memory[first + count] = max(1.0, (worker.member_predicted_tokens - predicted) / worker.inbound)
        memory[first + stride + count] = max(0.0, (worker.member_prompt_tokens - prompts) / worker.inbound)
        count += 1
    memory[first + count] = max(1.0, requests[r].predicted_tokens - requests[r].generated)
    memory[first + stride + count] = float(requests[r].prompt_tokens + requests[r].generated)
    count += 1
    sort_by_rest(memory, first, count, stride)
    overhead = laws[worker.type_index, law.KV_OVERHEAD]
    held = 0.0
    peak = 0.0
    for k in range(count):
        held += memory[first + stride + k] + overhead
        peak = max(peak, held + (k + 1) * memory[first + k])
    return float(peak)
