"""Compiled containers over the state arrays: linked lists of requests, the heap of workers, heaps of integers."""

from __future__ import annotations

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator.state import NONE, Array

# --- doubly linked lists of requests: (head, tail) live with their owner, links in the request -------------------


@inlined
def link_last(requests: Array, tail: int, r: int) -> None:
    """Put request ``r`` behind ``tail`` (NONE: the list was empty)."""
    requests[r].prev = tail
    requests[r].next = NONE
    if tail != NONE:
        requests[tail].next = r


@inlined
def link_first(requests: Array, head: int, r: int) -> None:
    """Put request ``r`` before ``head`` (NONE: the list was empty)."""
    requests[r].next = head
    requests[r].prev = NONE
    if head != NONE:
        requests[head].prev = r


@inlined
def unlink(requests: Array, r: int) -> None:
    """Join the neighbours of ``r``; its owner moves head and tail."""
    before = requests[r].prev
    after = requests[r].next
    if before != NONE:
        requests[before].next = after
    if after != NONE:
        requests[after].prev = before
    requests[r].next = NONE
    requests[r].prev = NONE


@inlined
def run_append(workers: Array, requests: Array, w: int, r: int) -> None:
    """Admit ``r``: last of the running list of worker ``w``."""
    worker = workers[w]
    link_last(requests, worker.run_tail, r)
    if worker.run_head == NONE:
        worker.run_head = r
    worker.run_tail = r
    worker.running += 1


@inlined
def run_remove(workers: Array, requests: Array, w: int, r: int) -> None:
    """Take ``r`` out of the running list of worker ``w``."""
    worker = workers[w]
    if worker.run_head == r:
        worker.run_head = requests[r].next
    if worker.run_tail == r:
        worker.run_tail = requests[r].prev
    unlink(requests, r)
    worker.running -= 1


@inlined
def wait_append(workers: Array, requests: Array, w: int, r: int) -> None:
    """Last of the waiting list of worker ``w``."""
    worker = workers[w]
    link_last(requests, worker.wait_tail, r)
    if worker.wait_head == NONE:
        worker.wait_head = r
    worker.wait_tail = r
    worker.waiting += 1


@inlined
def wait_push_front(workers: Array, requests: Array, w: int, r: int) -> None:
    """First of the waiting list of worker ``w``: where preempted requests go."""
    worker = workers[w]
    link_first(requests, worker.wait_head, r)
    worker.wait_head = r
    if worker.wait_tail == NONE:
        worker.wait_tail = r
    worker.waiting += 1


@inlined
def wait_remove(workers: Array, requests: Array, w: int, r: int) -> None:
    """Take ``r`` out of the waiting list of worker ``w``."""
    worker = workers[w]
    if worker.wait_head == r:
        worker.wait_head = requests[r].next
    if worker.wait_tail == r:
        worker.wait_tail = requests[r].prev
    unlink(requests, r)
    worker.waiting -= 1


# --- indexed heap of workers by their next event; ties by slot -----------------------------------------------------


@inlined
def _earlier(event_s: Array, a: int, b: int) -> bool:
    return event_s[a] < event_s[b] or (event_s[a] == event_s[b] and a < b)


@compiled
def reschedule(heap: Array, event_s: Array, w: int, time_s: float) -> None:
    """Set the next event of worker ``w`` (infinity: none) and restore the heap. O(log workers)."""
    event_s[w] = time_s
    at = heap[1, w]
    while at > 0:
        above = (at - 1) >> 1
        other = heap[0, above]
        if not _earlier(event_s, w, other):
            break
        heap[0, at] = other
        heap[1, other] = at
        at = above
    size = heap.shape[1]
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and _earlier(event_s, heap[0, below + 1], heap[0, below]):
            below += 1
        other = heap[0, below]
        if not _earlier(event_s, other, w):
            break
        heap[0, at] = other
        heap[1, other] = at
        at = below
    heap[0, at] = w
    heap[1, w] = at


# --- min-heap of int64 keys: ends of decoding requests ----------------------------------------------------------------


@inlined
def sift_up(keys: Array, at: int, key: int) -> None:
    """Place ``key`` at hole ``at`` or above."""
    while at > 0:
        above = (at - 1) >> 1
        if keys[above] <= key:
            break
        keys[at] = keys[above]
        at = above
    keys[at] = key


@inlined
def sift_down(keys: Array, at: int, size: int, key: int) -> None:
    """Place ``key`` at hole ``at`` or below."""
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and keys[below + 1] < keys[below]:
            below += 1
        if keys[below] >= key:
            break
        keys[at] = keys[below]
        at = below
    keys[at] = key


@compiled
def heap_discard(keys: Array, size: int, key: int) -> None:
    """Remove ``key`` from anywhere in the heap of ``size`` keys. O(size): preemptions are rare."""
    at = 0
    while keys[at] != key:
        at += 1
    last = keys[size - 1]
    if at == size - 1:
        return
    if at > 0 and keys[(at - 1) >> 1] > last:
        sift_up(keys, at, last)
    else:
        sift_down(keys, at, size - 1, last)


# --- min-heap of (time, request): KV transfers under way -----------------------------------------------------------


@inlined
def _sooner(times: Array, items: Array, a: int, time_s: float, item: int) -> bool:
    return times[a] < time_s or (times[a] == time_s and items[a] < item)


@compiled
def transit_push(times: Array, items: Array, size: int, time_s: float, item: int) -> None:
    """Add a transfer that ends at ``time_s``; ties by request."""
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if _sooner(times, items, above, time_s, item):
            break
        times[at] = times[above]
        items[at] = items[above]
        at = above
    times[at] = time_s
    items[at] = item


@compiled
def transit_remove(times: Array, items: Array, size: int, at: int) -> None:
    """Remove the transfer at heap position ``at`` (0: the next to end)."""
    time_s = times[size - 1]
    item = items[size - 1]
    size -= 1
    if at == size:
        return
    while at > 0:
        above = (at - 1) >> 1
        if _sooner(times, items, above, time_s, item):
            break
        times[at] = times[above]
        items[at] = items[above]
        at = above
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and _sooner(times, items, below + 1, times[below], items[below]):
            below += 1
        if not _sooner(times, items, below, time_s, item):
            break
        times[at] = times[below]
        items[at] = items[below]
        at = below
    times[at] = time_s
    items[at] = item
