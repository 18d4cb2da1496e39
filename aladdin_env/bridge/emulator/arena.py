"""Room for lists of numbers in one long array."""

from __future__ import annotations

from collections import defaultdict


class Arena:
    """Gives out stretches of an array of ``size`` places; what comes back serves lists of about the same length."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._unused = 0  # nothing from here on was ever given out: memory that is never touched costs nothing
        self._free: dict[int, list[int]] = defaultdict(list)

    def take(self, count: int) -> int | None:
        """The first of ``count`` places in a row; None where there are none left."""
        room = _room(count)
        if self._free[room]:
            return self._free[room].pop()
        if self._unused + room > self._size:
            return None
        self._unused += room
        return self._unused - room

    def give(self, first: int, count: int) -> None:
        """What :meth:`take` gave for ``count`` is free again."""
        self._free[_room(count)].append(first)


def _room(count: int) -> int:
    """The next power of two."""
    return 1 << max(count - 1, 0).bit_length()
