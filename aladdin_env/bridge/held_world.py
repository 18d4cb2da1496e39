"""The arrays of a live cluster behind one reference, for what happens to every request.

To hand all arrays to compiled code costs 3 us a call, as numba looks at each; a reference to a structure that holds
them costs a fifth of that. What rarely happens takes the arrays as they are.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.experimental import structref

from aladdin_env.bridge import live_state
from aladdin_env.compiled import compiled_counting
from aladdin_env.simulator.state import World


@structref.register
class _HeldType(types.StructRef):  # type: ignore[misc]
    """Its type for the compiler."""


class HeldWorld(structref.StructRefProxy):  # type: ignore[misc]
    """A reference to the arrays of one cluster, which must not be exchanged for others."""

    def __new__(cls, world: World) -> HeldWorld:
        """Hold them."""
        return structref.StructRefProxy.__new__(cls, world)  # type: ignore[no-any-return]


structref.define_proxy(HeldWorld, _HeldType, ["world"])


@compiled_counting
def enter(held: Any, r: int, now_s: float, prompt_tokens: int, klass: int, coin: float) -> None:
    """As in :mod:`aladdin_env.bridge.live_state`, like all that follow."""
    live_state.enter(held.world, r, now_s, prompt_tokens, klass, coin)


@compiled_counting
def send(held: Any, r: int, w: int) -> None:
    """It is on its way."""
    live_state.send(held.world, r, w)


@compiled_counting
def tokens(held: Any, r: int, now_s: float, count: int) -> None:
    """More of its tokens."""
    live_state.tokens(held.world, r, now_s, count)


@compiled_counting
def finish(held: Any, r: int, now_s: float) -> None:
    """It has its last token."""
    live_state.finish(held.world, r, now_s)


@compiled_counting
def came_whole(held: Any, r: int, first_s: float, now_s: float, count: int) -> None:
    """It has all its tokens at once."""
    live_state.came_whole(held.world, r, first_s, now_s, count)
