"""A worker that is faster than its laws, the length of its context, and the real clock."""

from __future__ import annotations

import asyncio

import pytest

from aladdin_env.bridge.emulator import EmulatorSettings
from aladdin_env.bridge.emulator.clock import LoopClock
from aladdin_env.bridge.emulator.settings import faster
from aladdin_env.latency import load_profile
from aladdin_env.scenario import WorkerType
from tests.env.bridge.emulator.cases import PATIENCE_S, toy_kind


def test_speed_shortens_every_time_and_nothing_else() -> None:
    slow = load_profile("llama-3.1-8b-h100-tp1")
    fast = faster(slow, 8.0)
    for tokens in (1, 300, 5000, 100_000):
        assert fast.prefill_s(tokens) == pytest.approx(slow.prefill_s(tokens) / 8, rel=1e-12)
        for batch in (1, 7, 256):
            assert fast.decode_s(batch, tokens) == pytest.approx(slow.decode_s(batch, tokens) / 8, rel=1e-12)
            mixed = fast.mixed_s(tokens, batch, 9 * tokens)
            assert mixed == pytest.approx(slow.mixed_s(tokens, batch, 9 * tokens) / 8, rel=1e-12)
    assert fast.overhead_s == slow.overhead_s / 8 > 0
    assert fast.kv_capacity_tokens == slow.kv_capacity_tokens
    assert faster(slow, 1.0) == slow


def test_context_is_what_the_kv_holds_unless_that_is_more_than_any_model_has() -> None:
    assert EmulatorSettings(toy_kind(kv_tokens=1000)).longest == 992, "whole blocks"
    large = WorkerType("w", "llama-3.1-8b-h100-tp1", 1, 1, 1)
    assert EmulatorSettings(large).longest == 131_072
    assert EmulatorSettings(large, max_model_len=400_000).longest == 400_000
    assert EmulatorSettings(large).model_name == "meta-llama/Meta-Llama-3.1-8B"


def test_the_real_clock_calls_in_order_never_early_and_not_what_was_cancelled() -> None:
    async def main() -> list[str]:
        clock = LoopClock()
        called: list[str] = []
        late: list[float] = []
        done = asyncio.Event()
        start_s = clock.now_s()

        def note(name: str, when_s: float) -> None:
            called.append(name)
            late.append(clock.now_s() - when_s)
            if name == "last":
                done.set()

        for name, delay_s in (("last", 0.03), ("second", 0.02), ("gone", 0.015), ("first", 0.01), ("past", -1.0)):
            timer = clock.call_at(start_s + delay_s, lambda n=name, w=start_s + delay_s: note(n, w))
            if name == "gone":
                timer.cancel()
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        assert min(late) >= 0.0
        clock.call_at(clock.now_s(), lambda: called.append("after the end"))
        clock.close()
        return called

    called = asyncio.run(main())
    assert called[:4] == ["past", "first", "second", "last"]
