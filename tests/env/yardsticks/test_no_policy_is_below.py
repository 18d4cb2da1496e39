"""The bound is one: whatever a policy does and knows, it pays at least that for the attainment it has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aladdin_env.latency import DecodeLaw, PrefillLaw, load_profile
from aladdin_env.metrics import Result
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import SLO, Scenario, SLOClass, Transfer
from aladdin_env.simulator.run import Simulator, simulate
from aladdin_env.simulator.state import SCHEDULERS
from aladdin_env.yardsticks import least_workers, lower_bound
from aladdin_traces import PrefixBlocks, Trace
from tests.env.yardsticks.cases import (
    Outcome,
    at_once,
    busy_outcome,
    gang_case,
    pressed_case,
    profile,
    random_slo,
    scenario_of,
    worker,
)

UNITS = ("cost", "gpu_seconds")
SEEDS = st.integers(0, 2**32 - 1)
ROUNDING = 1 + 1e-9


def outcome_of(result: Result, trace: Trace) -> Outcome:
    """What the real simulator says."""
    rows = result.requests
    return Outcome(
        (rows["first_token_s"] - rows["arrival_s"]).to_numpy(),
        (rows["finish_s"] - rows["first_token_s"]).to_numpy(),
        (rows["status"] == "finished").to_numpy(),
        {unit: result.summary[unit] for unit in UNITS},
    )


def check(scenario: Scenario, trace: Trace, outcome: Outcome, units: tuple[str, ...] = UNITS) -> None:
    """The bound at exactly the attainment that was reached."""
    met = outcome.met(trace, scenario.slo)
    if met > 0:
        for unit in units:
            bound = lower_bound(scenario, trace, met / len(trace), unit)
            assert bound.misses == len(trace) - met
            assert bound.value <= outcome.costs[unit] * ROUNDING, unit


# --- random fleets, loads and policies ---


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=20, derandomize=True)
@given(seed=SEEDS)
def test_of_random_policies(scheduler: str, seed: int) -> None:
    """Fleets that scale and fail, two types, little KV, shared prefixes, held and rejected requests."""
    case = pressed_case(seed, scheduler)
    trace = case.draws.trace
    outcome = outcome_of(Simulator(case.scenario, draws=case.draws).run(case.script()), trace)
    check(replace(case.scenario, slo=random_slo(seed, outcome, trace)), trace, outcome)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=20, derandomize=True)
@given(seed=SEEDS)
def test_of_random_policies_that_pay_for_steps_only(scheduler: str, seed: int) -> None:
    case = pressed_case(seed, scheduler)
    outcome, trace = busy_outcome(case), case.draws.trace
    check(replace(case.scenario, slo=random_slo(seed, outcome, trace)), trace, outcome, ("cost",))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=40, derandomize=True)
@given(seed=SEEDS)
def test_of_workers_that_are_never_idle(scheduler: str, seed: int) -> None:
    """Like requests at once on one worker (or one of each role), steps only: often within a per cent of the bound."""
    case = gang_case(seed, scheduler)
    outcome, trace = busy_outcome(case), case.draws.trace
    check(replace(case.scenario, slo=random_slo(seed, outcome, trace)), trace, outcome, ("cost",))


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
@settings(max_examples=10, derandomize=True)
@given(seed=SEEDS)
def test_of_fixed_fleets(scheduler: str, seed: int) -> None:
    case = pressed_case(seed, scheduler)
    workers = 1 + seed % 3
    kind = case.scenario.fleet.types[0]
    scenario = replace(case.scenario, fleet=replace(case.scenario.fleet, types=(kind,))).with_workers((workers,))
    draws = replace(case.draws, cold_starts=case.draws.cold_starts[:1], failures=case.draws.failures[:0])
    trace = draws.trace
    script = replace(case.script(), wanted=[[workers]])
    outcome = outcome_of(Simulator(scenario, draws=draws).run(script), trace)
    judged = replace(scenario, slo=random_slo(seed, outcome, trace))
    check(judged, trace, outcome)
    if met := outcome.met(trace, judged.slo):
        assert least_workers(judged, trace, met / len(trace)) <= workers


# --- shipped policies on shipped scenarios ---


@pytest.mark.parametrize("preset", ["sharegpt-poisson", "azure-code", "mixed-fleet", "split-phase", "two-classes"])
@pytest.mark.parametrize("policy", ["aladdin+aladdin", "least_request+kpa"])
def test_of_shipped_policies(preset: str, policy: str) -> None:
    scenario = replace(load_scenario(preset), horizon_s=60.0)
    simulator = Simulator(scenario, 1)
    result = simulator.run(policy)
    outcome = outcome_of(result, simulator.draws.trace)
    assert outcome.met(simulator.draws.trace, scenario.slo) == round(
        result.summary["slo_attainment"] * len(simulator.draws.trace)
    )
    check(scenario, simulator.draws.trace, outcome, ("cost",))


# --- clairvoyants ---


class Clairvoyant:
    """Knows the output lengths: rejects the dearest, and serves the others in the order in which they are listed."""

    name = "clairvoyant"

    def __init__(self, rejected: int) -> None:
        self._rejected = rejected

    def place(self, view: object, request: object) -> int:
        return -2 if request.index < self._rejected else 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
@pytest.mark.parametrize("together", [1, 16, 256])
@pytest.mark.parametrize("laws", ["llama-2-13b-a100-tp1", "llama-3.1-8b-h100-tp1"])
def test_of_gangs_of_like_length(scheduler: str, together: int, laws: str) -> None:
    """All are there at time 0, longest first; the longest 1 % are rejected; one worker is busy until the end."""
    rng = np.random.default_rng(together)
    count = 200 if together == 1 else 600
    prompt, output = rng.integers(20, 800, count), np.sort(rng.integers(1, 400, count))[::-1]
    trace = at_once(prompt.tolist(), output.tolist())
    kind = worker(load_profile(laws), scheduler=scheduler, block_size=16, max_num_seqs=together)
    result = simulate(scenario_of(trace, kind), Clairvoyant(count // 100))
    outcome = outcome_of(result, trace)
    for share in (1.0, 0.9, 0.5):  # the pace that so many of the served have
        pace_s = float(np.nanquantile(outcome.decoding_s / np.maximum(trace.output_tokens - 1, 1), share))
        scenario = scenario_of(trace, kind, slo=SLO(1e6, pace_s * ROUNDING))
        check(scenario, trace, outcome, ("cost",))
    loose = lower_bound(scenario_of(trace, kind), trace, 0.99).value
    assert loose > 0.5 * outcome.costs["cost"]  # near enough for the test to mean something


# --- where it was above once ---


def test_a_slow_way_to_the_client_lends_time_to_the_pace() -> None:
    """Split: the client sees first tokens late and last tokens at once, so that decoding may take longer than ATGT."""
    laws = (PrefillLaw.linear(1e-5, 0.0), DecodeLaw.linear(0.0, 0.005, 0.01))
    prefill = worker(profile(*laws, overhead_s=0.1), "p", scheduler="split", role="prefill")
    prefill = replace(prefill, price_per_gpu_hour=0.0)
    decode = worker(profile(decode=laws[1]), "d", scheduler="split", role="decode", max_num_seqs=8)
    trace, slo = at_once([100] * 8, [4] * 8), SLO(10.0, 0.02)
    scenario = scenario_of(trace, prefill, decode, slo=slo)
    scenario = replace(scenario, fleet=replace(scenario.fleet, transfer=Transfer(1e12, 1e-6)))
    result = simulate(scenario, "least_request")
    assert result.summary["slo_attainment"] == 1.0
    check(scenario, trace, outcome_of(result, trace), ("cost",))


def test_a_recomputation_may_be_longer_than_any_prompt() -> None:
    """Prefills of constant time, cheaper than a decode step: the longer, the less a token of them costs."""
    kind = worker(
        profile(PrefillLaw((0.0,), (0.01,)), DecodeLaw.linear(0.0, 0.011, 0.0)),
        max_num_seqs=2, max_num_batched_tokens=10, kv_capacity_tokens=57,
    )  # fmt: skip
    trace = at_once([10, 10], [20, 20])
    result = simulate(scenario_of(trace, kind), "least_request")
    assert result.summary["preemptions"] == 1
    check(scenario_of(trace, kind), trace, outcome_of(result, trace))


def test_a_window_inherits_prefixes() -> None:
    """What came before a window has left its prompt in the cache."""
    kind = worker(profile(PrefillLaw.linear(1e-3, 0.0)), block_size=100, max_num_seqs=8)
    blocks = PrefixBlocks.from_lists([list(range(100))] * 2, 100)
    trace = Trace.from_arrays([0.0, 100.0], [10_000] * 2, [1] * 2, [0, 1], prefix_blocks=blocks)
    slo = SLO(classes=(SLOClass("patient", 12.0, 1.0), SLOClass("hasty", 0.2, 1.0)))
    outcome = outcome_of(simulate(scenario_of(trace, kind, slo=SLO(12.0, 1.0)), "least_request"), trace)
    assert outcome.met(trace, slo) == 2
    assert least_workers(scenario_of(trace, kind, slo=slo), trace, 1.0) == 1
