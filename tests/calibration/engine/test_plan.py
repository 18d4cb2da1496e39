"""What a sweep inside an engine runs stays within what the engine allows."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from aladdin_calibration.engine.plan import CHUNKS_PER_LEVEL, Hold, Limits, Prompts, Traffic, configurations

LIMITS = st.builds(
    Limits,
    max_model_len=st.integers(64, 20_000),
    max_num_seqs=st.integers(2, 300),
    max_num_batched_tokens=st.integers(512, 16_384),
    kv_capacity_tokens=st.integers(1_000, 1_000_000),
    decode_steps=st.integers(1, 16),
)


@given(LIMITS, st.integers(0, 5))
def test_every_configuration_fits(limits: Limits, seed: int) -> None:
    for configuration in configurations(limits, random.Random(seed)):
        if isinstance(configuration, Prompts):
            assert configuration.tokens <= limits.longest_prompt_tokens
            assert configuration.count <= limits.max_num_seqs
            continue
        if isinstance(configuration, Traffic):
            longest = max(sum(configuration.lengths(random.Random(i))) for i in range(50))
            assert longest <= limits.max_model_len
            assert 1 <= configuration.running <= limits.max_num_seqs
            assert configuration.running * longest <= limits.kv_capacity_tokens
            continue
        batches = [level.batch for level in configuration.levels]
        steps = sum(limits.decode_steps + len(level.chunks) + 1 for level in configuration.levels)
        assert batches == sorted(set(batches), reverse=True)
        assert batches[0] < limits.max_num_seqs
        assert configuration.context + steps <= limits.max_model_len
        assert batches[0] * (configuration.context + steps) <= limits.kv_capacity_tokens
        for level in configuration.levels:
            assert len(level.chunks) <= CHUNKS_PER_LEVEL
            assert all(level.batch + chunk <= limits.max_num_batched_tokens for chunk in level.chunks)


def test_same_seed_same_plan_another_seed_another_order() -> None:
    limits = Limits(8192, 256, 8192, 400_000)
    first, again, other = (configurations(limits, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again
    assert [c.name for c in first] != [c.name for c in other]
    assert sorted(c.name for c in first) == sorted(c.name for c in other)


def test_a_hold_gives_up_its_largest_batches_to_fit_the_time() -> None:
    limits = Limits(8192, 256, 8192, 400_000)
    hold = next(c for c in configurations(limits, random.Random(0)) if isinstance(c, Hold) and c.context == 512)
    smaller = hold.within(20 * 512)
    assert smaller is not None
    assert smaller.levels[0].batch == 16
    assert hold.within(511) is None
