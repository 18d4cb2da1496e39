"""Stretches of one array: none overlap, and what is given back is used again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aladdin_env.bridge.emulator.arena import Arena


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=60))
def test_no_two_stretches_overlap(asked: list[tuple[int, bool]]) -> None:
    arena, taken = Arena(1024), {}
    for number, (count, is_kept) in enumerate(asked):
        first = arena.take(count)
        if first is None:
            continue
        places = set(range(first, first + count))
        assert max(places) < 1024
        assert all(places.isdisjoint(others) for others in taken.values())
        if is_kept:
            taken[number] = places
        else:
            arena.give(first, count)


def test_it_never_fills_up_with_what_was_given_back() -> None:
    arena = Arena(64)
    for _ in range(100):
        firsts = [arena.take(16) for _ in range(4)]
        assert None not in firsts
        assert arena.take(1) is None
        for first in firsts:
            arena.give(first, 16)
