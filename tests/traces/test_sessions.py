"""Sessions and clients: turns, growth, shared blocks, shares; and prefix reuse by hand."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aladdin_traces import (
    Clients,
    CopulaLengths,
    Exponential,
    FixedLengths,
    Histogram,
    InputError,
    LognormalMixture,
    Poisson,
    PrefixBlocks,
    Sessions,
    Trace,
    Workload,
    gap_cv,
    hit_blocks,
    spearman,
    token_hit_ratio,
)

PLAIN = Sessions(
    starts=Poisson(1.0),
    turns=Histogram((3,), (1.0,)),
    first=FixedLengths(100, 20),
    later=FixedLengths(30, 10),
    think_mu=2.0,
    think_sigma=0.5,
    system_tokens=64,
    block_size=16,
)
BASE = LognormalMixture((1.0,), (6.0,), (0.5,))
FEW = Clients(10.0, CopulaLengths(BASE, Exponential(200.0), 0.0), count=20)


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_session(trace: Trace) -> list[np.ndarray]:
    assert trace.session is not None
    codes = np.asarray(trace.session.codes)
    return [np.flatnonzero(codes == code) for code in np.unique(codes)]


def test_prompts_grow_by_what_was_said() -> None:
    trace = PLAIN.sample(rng(), 2000.0)
    assert len(trace) / 2000.0 == pytest.approx(3.0, rel=0.05)
    whole = [part for part in by_session(trace) if len(part) == 3]
    assert len(whole) > 1500
    for part in whole[:200]:
        assert trace.prompt_tokens[part].tolist() == [164, 214, 254]
        assert trace.output_tokens[part].tolist() == [20, 10, 10]
        gaps = np.diff(trace.arrival_s[part])
        assert (gaps > 0).all()


def test_blocks_of_a_session_are_shared_up_to_what_was_whole() -> None:
    trace = PLAIN.sample(rng(), 2000.0)
    blocks = trace.prefix_blocks
    assert blocks is not None
    assert (blocks.counts == -(-trace.prompt_tokens // 16)).all()
    part = next(part for part in by_session(trace) if len(part) == 3)
    first, second, third = (blocks[int(i)].tolist() for i in part)
    assert first[:4] == [0, 1, 2, 3]  # the system prompt of all
    assert second[:10] == first[:10] and second[10] != first[10]  # 164 tokens fill ten blocks
    assert third[:13] == second[:13] and third[13] != second[13]
    others = np.concatenate([blocks[int(i)] for i in range(len(trace)) if i not in part])
    assert not set(first[4:]) & set(others.tolist())


def test_a_sample_is_in_equilibrium() -> None:
    trace = dataclasses.replace(PLAIN, think_mu=6.0).sample(rng(), 3000.0)
    counts = np.histogram(trace.arrival_s, bins=3, range=(0.0, 3000.0))[0]
    assert counts == pytest.approx([3000.0] * 3, rel=0.08)
    assert (np.diff(trace.arrival_s) >= 0).all()
    assert trace.arrival_s[-1] < 3000.0


def test_rewritten_and_forgotten_context() -> None:
    cut = dataclasses.replace(PLAIN, rewrites=1.0, system_tokens=0).sample(rng(), 2000.0)
    kept = dataclasses.replace(PLAIN, system_tokens=0).sample(rng(), 2000.0)
    forgotten = dataclasses.replace(PLAIN, history=False, system_tokens=0).sample(rng(), 2000.0)
    assert token_hit_ratio(forgotten) == 0.0
    assert 0.0 < token_hit_ratio(cut) < token_hit_ratio(kept)
    assert set(forgotten.prompt_tokens.tolist()) == {100, 30}


def test_system_prompts_have_their_shares() -> None:
    trace = dataclasses.replace(PLAIN, system_prompts=2).sample(rng(), 3000.0)
    assert trace.prefix_blocks is not None
    first = trace.prefix_blocks.ids[trace.prefix_blocks.offsets[:-1]]
    assert set(first.tolist()) == {0, 4}
    assert (first == 0).mean() == pytest.approx(2 / 3, abs=0.04)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40), st.integers(0, 100), st.floats(0.0, 1.0), st.booleans(), st.integers(1, 300), st.integers(0, 99)
)
def test_any_sessions_are_valid_requests(
    block_size: int, system: int, rewrites: float, history: bool, most: int, seed: int
) -> None:
    law = dataclasses.replace(
        PLAIN, block_size=block_size, system_tokens=system, rewrites=rewrites, history=history, max_prompt_tokens=most
    )
    trace = law.sample(rng(seed), 60.0)
    blocks = trace.prefix_blocks
    assert blocks is not None
    checked = Trace.from_arrays(trace.arrival_s, trace.prompt_tokens, trace.output_tokens, prefix_blocks=blocks)
    assert len(checked) == len(trace)
    assert (blocks.counts == -(-trace.prompt_tokens // block_size)).all()
    assert trace.prompt_tokens.max() <= max(most, system + 1)
    # An id stands for all before it: whoever has it has the same block before it.
    before: dict[int, int] = {}
    for i in range(len(blocks)):
        own = blocks[i].tolist()
        assert len(set(own)) == len(own)
        for left, here in zip([-1, *own], own, strict=False):
            assert before.setdefault(here, left) == left


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": 1.0}, "starts: 1.0 .*arrival law"),
        ({"turns": (1,)}, "turns: "),
        ({"first": BASE}, "first: .*length law"),
        ({"think_sigma": -1.0}, "think_sigma: -1.0"),
        ({"rewrites": 2.0}, "rewrites: 2.0"),
        ({"history": 1}, "history: 1 .*true or false"),
        ({"block_size": 0}, "block_size: 0"),
        ({"system_tokens": 1.5}, "system_tokens: 1.5"),
    ],
)
def test_bad_sessions(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(PLAIN, **changes)


def test_clients_have_zipf_shares_and_their_own_lengths() -> None:
    law = dataclasses.replace(
        FEW,
        prompt_spread=1.0,
        output_spread=1.0,
        spread_correlation=0.95,
        cvs=(1.0,),
        off_mean_s=600.0,
        on_mean_s=600.0,
    )
    assert law.shares.sum() == pytest.approx(1.0)
    assert law.shares[0] / law.shares[9] == pytest.approx(10.0**1.3)
    trace = law.sample(rng(), 40_000.0)
    assert len(trace) / 40_000.0 == pytest.approx(10.0, rel=0.2)
    assert spearman(trace.prompt_tokens, trace.output_tokens) > 0.2  # the lengths of one client are independent
    assert abs(spearman(*FEW.lengths.sample(rng(), 20_000))) < 0.03


def test_the_population_is_the_laws_own() -> None:
    assert np.array_equal(FEW.client_cvs, dataclasses.replace(FEW).client_cvs)
    assert not np.array_equal(FEW.client_cvs, dataclasses.replace(FEW, population=1).client_cvs)
    assert gap_cv(dataclasses.replace(FEW, count=1, cvs=(4.0,)).sample(rng(), 5000.0).arrival_s) == pytest.approx(
        4, rel=0.1
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_rps": 0.0}, "rate_rps: 0.0"),
        ({"lengths": BASE}, "lengths: "),
        ({"count": 0}, "count: 0"),
        ({"cvs": (2.0, 1.0)}, "cvs: .*ascending"),
        ({"cvs": ()}, "cvs: "),
        ({"spread_correlation": 2.0}, "spread_correlation: 2.0"),
        ({"population": -1}, "population: -1"),
    ],
)
def test_bad_clients(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(FEW, **changes)


@pytest.mark.parametrize("law", [PLAIN, FEW], ids=lambda law: law.kind)
def test_workloads_of_whole_requests(law: Sessions | Clients) -> None:
    workload = Workload.from_law(law, (0.25, 0.75))
    assert Workload.from_dict(workload.to_dict()) == workload
    assert workload.with_rate(7.0).mean_rate_rps == pytest.approx(7.0)
    trace = workload.sample(rng(), 1000.0)
    assert trace == workload.sample(rng(), 1000.0)
    assert np.bincount(trace.klass)[1] / len(trace) == pytest.approx(0.75, abs=0.03)
    assert len(Workload.from_law(law).with_rate(1e-9).sample(rng(), 1.0)) == 0
    with pytest.raises(InputError, match="horizon_s: 1000000000000"):
        workload.sample(rng(), 1e12)
    with pytest.raises(InputError, match="not both"):
        Workload(requests=law, arrivals=Poisson(1.0))


def test_hits_by_hand() -> None:
    blocks = PrefixBlocks.from_lists([[0, 1, 2], [0, 1, 3], [4], [0, 1, 2], []], 10)
    trace = Trace.from_arrays([0, 1, 2, 3, 4], [25, 30, 5, 25, 7], [1] * 5, prefix_blocks=blocks)
    assert hit_blocks(trace).tolist() == [0, 2, 0, 3, 0]
    assert token_hit_ratio(trace) == pytest.approx((20 + 25) / 92)
    # Three blocks: 0 1 3 after the second request, 0 1 4 after the third.
    assert token_hit_ratio(trace, 3) == pytest.approx((20 + 20) / 92)
    assert token_hit_ratio(trace, 1) == pytest.approx(10 / 92)
    with pytest.raises(InputError, match="capacity_blocks: 0"):
        token_hit_ratio(trace, 0)
    with pytest.raises(InputError, match="share a prefix"):
        token_hit_ratio(Trace.from_arrays([0], [1], [1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=6, unique=True), min_size=1, max_size=30), st.integers(1, 20))
def test_a_cache_that_holds_all_blocks_is_endless(lists: list[list[int]], capacity: int) -> None:
    blocks = PrefixBlocks.from_lists(lists, 4)
    n = len(lists)
    trace = Trace.from_arrays(np.arange(n), np.maximum(4 * blocks.counts, 1), np.ones(n), prefix_blocks=blocks)
    assert token_hit_ratio(trace, 13) == token_hit_ratio(trace)
    assert 0.0 <= token_hit_ratio(trace, capacity) <= token_hit_ratio(trace)
