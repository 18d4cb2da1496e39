"""Scalers: up with the load, down after it, calm in between, ahead of the cold start, within limits."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points

import numpy as np
import pytest

from aladdin_agents import aladdin, placements, scalers
from aladdin_agents.pools import prompt_spread, within_gpus
from aladdin_agents.scale_aladdin import AladdinScaler, Peaks, ScalerSettings
from aladdin_agents.scale_reactive import (
    HpaSettings,
    Kpa,
    KpaSettings,
    ReactiveSettings,
    TargetUtilisation,
    TunedReactive,
    full_batch,
    in_flight,
)
from aladdin_agents.sizing import Capacity, LengthStatistics, Safety, capacity, pace
from aladdin_agents.steering import Steering
from aladdin_env import SLO, Fleet, InputError, Scenario, WorkerType, Workload
from aladdin_env.policy import Combined
from aladdin_env.scenario import ColdStart, Failures
from aladdin_env.simulator.run import Simulator
from aladdin_traces import LENGTHS, Poisson

SCALING = ("aladdin", "target_utilisation", "kpa", "tuned_reactive")
BEAT_S = 10.0


def made(name):
    return getattr(scalers, f"make_{name}")


# As they ship they wait long before they shrink a fleet; here the runs are short.
QUICK = {
    "aladdin": lambda scenario: AladdinScaler(scenario, ScalerSettings(settle_s=0.0, memory_s=300.0)),
    "target_utilisation": lambda scenario: TargetUtilisation(scenario, HpaSettings(down_s=300.0)),
    "kpa": lambda scenario: Kpa(scenario, KpaSettings(delay_s=0.0)),
    "tuned_reactive": lambda scenario: TunedReactive(scenario, ReactiveSettings(down_s=60.0)),
}


def arrivals(rate, until_s, seed=1):
    """Poisson arrivals at a rate that varies with time, and ShareGPT lengths."""
    rng = np.random.default_rng(seed)
    most = max(rate(t) for t in np.arange(0.0, until_s))
    at = np.sort(rng.uniform(0, until_s, rng.poisson(most * until_s)))
    at = at[rng.random(len(at)) < np.array([rate(t) for t in at]) / most]
    return Workload.from_arrays(at, *LENGTHS["sharegpt"].sample(rng, len(at)))


def scenario_of(workload, *types, **changes):
    kinds = types or (worker(),)
    plain = {"slo": SLO(1.0, 0.02), "horizon_s": None, "heartbeat_s": BEAT_S}
    return Scenario("scaling", workload, Fleet(kinds), **{**plain, **changes})


def worker(name="h100", profile="llama-3.1-8b-h100-tp1", **changes):
    plain = {"initial": 3, "minimum": 1, "maximum": 12, "cold_start": ColdStart(30.0)}
    return WorkerType(name, profile, **{**plain, **changes})


def run(name, scenario, placement=aladdin.make):
    return Simulator(scenario, 1).run(Combined(placement(scenario), QUICK[name](scenario)))


def workers(result, name="h100"):
    fleet = result.fleet.set_index("time_s")
    return fleet[f"{name}_ready"] + fleet[f"{name}_starting"]


def step(t):
    return 40.0 if t < 300 else 220.0 if t < 700 else 40.0


@pytest.mark.parametrize("name", SCALING)
def test_up_with_the_load_and_down_after_it(name):
    found = workers(run(name, scenario_of(arrivals(step, 1300.0))))
    before, during, after = found.loc[200:300].mean(), found.loc[500:700].mean(), found.loc[1200:1300].mean()
    assert during > 1.5 * before
    assert after < 0.7 * during
    assert found.max() <= 12
    assert found.min() >= 1


@pytest.mark.parametrize("name", SCALING)
def test_follows_within_two_heartbeats(name):
    """A jump to five times the load is answered at once, not after the cold start."""
    found = workers(run(name, scenario_of(arrivals(step, 700.0))))
    assert found[320.0] > found[300.0]


@pytest.mark.parametrize("name", ["aladdin", "target_utilisation"])
def test_calm_at_steady_load(name):
    found = workers(run(name, scenario_of(arrivals(lambda t: 120.0, 1500.0))))
    settled = found.loc[600:1500]
    assert settled.max() - settled.min() <= 1
    assert (settled.diff().dropna() != 0).sum() <= 4


def test_the_reactive_one_breathes_by_one_worker():
    """Aladdin fills one worker after the other, and full ones are what it takes for a lack."""
    settled = workers(run("tuned_reactive", scenario_of(arrivals(lambda t: 120.0, 1500.0)))).loc[600:1500]
    assert settled.max() - settled.min() <= 1


def test_kpa_breathes_with_the_noise_but_stays_near():
    """Knative has no delay down: by its defaults it follows every wave of a minute."""
    settled = workers(run("kpa", scenario_of(arrivals(lambda t: 120.0, 1500.0)))).loc[600:1500]
    assert settled.max() - settled.min() <= 2


def test_aladdin_needs_fewer_gpus_than_the_reactive_ones_and_holds_the_slo():
    def wave(t):
        return 130.0 + 90.0 * np.sin(2 * np.pi * t / 1200.0 - np.pi / 2)

    scenario = scenario_of(arrivals(wave, 2400.0))
    found = {name: run(name, scenario).summary for name in SCALING}
    assert found["aladdin"]["slo_attainment"] >= 0.99
    for name in SCALING[1:]:
        holds = found[name]["slo_attainment"] >= 0.99
        assert not holds or found["aladdin"]["gpu_hours"] < found[name]["gpu_hours"]


def test_aladdin_is_ahead_of_the_cold_start():
    """On a ramp it asks for what will be needed when a worker started now will serve."""

    def ramp(t):
        return 60.0 + 0.15 * t

    workload = arrivals(ramp, 900.0)
    slow = scenario_of(workload, worker(cold_start=ColdStart(120.0), maximum=20))
    fast = scenario_of(workload, worker(cold_start=ColdStart(5.0), maximum=20))
    ahead, later = workers(run("aladdin", slow)), workers(run("aladdin", fast))
    assert ahead.loc[300:800].mean() > later.loc[300:800].mean() + 0.3
    assert run("aladdin", slow).summary["slo_attainment"] > 0.99


def test_limits_of_gpus_are_kept():
    types = worker("one"), worker("two", "llama-3.1-8b-h100-tp2", initial=1)
    scenario = scenario_of(arrivals(lambda t: 250.0, 120.0), *types)
    scenario = replace(scenario, fleet=replace(scenario.fleet, max_gpus=7))
    for name in SCALING:
        assert run(name, scenario).fleet["gpus"].max() <= 7


def test_within_gpus_cuts_the_last_first_and_keeps_minima():
    types = worker("a"), worker("b", "llama-3.1-8b-h100-tp2", initial=1)
    scenario = scenario_of(arrivals(lambda t: 1.0, 10.0), *types)
    assert within_gpus(scenario, [20, 0], [0, 1]) == [12, 1]
    scenario = replace(scenario, fleet=replace(scenario.fleet, max_gpus=8))
    assert within_gpus(scenario, [5, 5], [0, 1]) == [5, 1]
    assert within_gpus(scenario, [5, 5], [1, 0]) == [2, 3]


def test_aladdin_fills_the_cheapest_type_first():
    dear = worker("dear", price_per_gpu_hour=20.0, initial=1)
    cheap = worker("cheap", price_per_gpu_hour=1.0, initial=1, maximum=4)
    result = run("aladdin", scenario_of(arrivals(lambda t: 100.0, 400.0), dear, cheap))
    assert workers(result, "cheap").loc[200:400].mean() > 1.5
    assert workers(result, "dear").loc[300:400].mean() <= 2
    result = run("aladdin", scenario_of(arrivals(lambda t: 300.0, 400.0), dear, cheap))
    assert workers(result, "cheap").loc[200:400].mean() == 4
    assert workers(result, "dear").loc[200:400].mean() > 1


@pytest.mark.parametrize("name", SCALING)
def test_split_pools_are_scaled_each_on_its_own(name):
    types = (
        worker("p", scheduler="split", role="prefill", initial=2),
        worker("d", scheduler="split", role="decode", initial=2),
    )
    result = run(name, scenario_of(arrivals(step, 700.0), *types, slo=SLO(1.0, 0.015)))
    prefill, decode = workers(result, "p"), workers(result, "d")
    assert decode.loc[500:700].mean() > decode.loc[200:300].mean()
    assert prefill.loc[500:700].mean() >= prefill.loc[200:300].mean()
    assert result.summary["unfinished"] == 0


@pytest.mark.parametrize("name", SCALING)
def test_failed_workers_do_not_upset_it(name):
    scenario = scenario_of(arrivals(lambda t: 100.0, 600.0), max_retries=20)
    scenario = replace(scenario, fleet=replace(scenario.fleet, failures=Failures(200.0, 10.0)))
    assert run(name, scenario).summary["unfinished"] == 0


@pytest.mark.parametrize("name", ["static", *SCALING])
def test_each_is_registered_and_says_what_it_runs_with(name):
    scenario = scenario_of(arrivals(lambda t: 5.0, 60.0))
    point = entry_points(group="aladdin.scalers")[name]
    scaler = point.load()(scenario)
    assert scaler.name == name
    assert scaler.settings()["policy"] == name
    result = Simulator(scenario, 1).run(Combined(placements.make_least_request(scenario), scaler))
    if name == "static":
        assert (workers(result) == 3).all()


def test_a_run_does_not_depend_on_the_one_before():
    scenario = scenario_of(arrivals(step, 500.0))
    policy = Combined(aladdin.make(scenario), made("aladdin")(scenario))
    first, second = (Simulator(scenario, 1).run(policy) for _ in range(2))
    assert first.fleet.equals(second.fleet)


def test_infeasible_slo_does_not_scale_to_the_maximum():
    """No number of workers holds 5 ms per token; the fleet stays as it is meant to start."""
    scenario = scenario_of(arrivals(lambda t: 60.0, 300.0), slo=SLO(1.0, 0.0066))
    assert workers(run("aladdin", scenario)).max() == 3


def test_attainment_moves_the_margin():
    class View:
        def recent(self, beats):
            return np.array([[50, 5000, 50, self.met]] * beats)

    scaler = AladdinScaler(scenario_of(arrivals(lambda t: 5.0, 60.0)))
    view = View()
    settings = ScalerSettings()

    def after(met, used, beats=1000):
        view.met = met
        for _ in range(beats):
            scaler._tune(view, used)
        return scaler._rho

    assert after(met=40, used=1.2) == settings.rho  # misses of an overloaded fleet say nothing
    assert after(met=40, used=0.8, beats=5) == settings.rho  # nor does the time right after
    assert after(met=40, used=0.3) == settings.rho  # nor those of one that was emptier than planned
    assert after(met=40, used=0.9) == settings.rho_low
    assert after(met=50, used=0.3) == settings.rho_low  # nor does success with idle workers
    assert after(met=50, used=0.96) == settings.rho_high


def test_what_a_placement_sheds_moves_the_margin():
    """Rejected requests never finish; without them all would seem well."""

    class View:
        def recent(self, beats):
            return np.array([[50, 5000, 49, 49]] * beats)

    def after(rejected_per_beat, steer=None):
        scaler = AladdinScaler(scenario_of(arrivals(lambda t: 5.0, 60.0)), steer=steer)
        for beat in range(100):
            scaler._rejected.append(rejected_per_beat * beat)
            scaler._tune(View(), 0.9)
        return scaler._rho

    assert after(0) == ScalerSettings().rho_high
    assert after(1) < ScalerSettings().rho  # 2 %
    assert after(1, steer=lambda situation: Steering()) == ScalerSettings().rho_high


def test_where_a_placement_sheds_the_fleet_grows_until_it_hardly_does():
    """The margin is what speaks against the fleet: those that are served all meet their objectives."""
    workload = Workload.generated(Poisson(60.0), "azure-conv")
    scenario = scenario_of(workload, worker(initial=4), horizon_s=1500.0, max_hold_s=0.0)
    found = {}
    for blind in (True, False):
        scaler = AladdinScaler(scenario, ScalerSettings(settle_s=0.0))
        if blind:
            scaler.scale = _without_rejections(scaler, scaler.scale)
        result = Simulator(scenario, 1).run(Combined(placements.make_pack_to_cap(scenario), scaler))
        late = result.requests[result.requests["arrival_s"] > 900.0]
        found[blind] = float((late["status"] == "rejected").mean())
    assert found[False] < 0.5 * found[True]


def _without_rejections(scaler, scale):
    def blind(view):
        scaler._rejected.clear()
        scaler._rejected.append(float(view.cluster["rejected"]))
        return scale(view)

    return blind


def test_hpa_on_kv_and_its_settings():
    scenario = scenario_of(arrivals(step, 700.0), worker(kv_capacity_tokens=30_000))
    scaler = TargetUtilisation(scenario, HpaSettings(metric="kv"))
    found = workers(Simulator(scenario, 1).run(Combined(placements.make_least_request(scenario), scaler)))
    assert found.loc[500:700].mean() > found.loc[200:300].mean()
    with pytest.raises(InputError, match="metric"):
        TargetUtilisation(scenario, HpaSettings(metric="cpu"))


def test_kpa_does_not_go_down_in_panic():
    scenario = scenario_of(arrivals(lambda t: 20.0 if not 300 <= t < 330 else 500.0, 420.0), worker(maximum=30))
    found = workers(Simulator(scenario, 1).run(Combined(placements.make_least_request(scenario), Kpa(scenario))))
    assert found[330.0] >= 2 * found[290.0]
    assert (found.loc[320:380].diff().dropna() >= 0).all()


def test_prompt_spread_reads_the_predictors_table():
    class View:
        lengths = np.zeros((16, 49, 2))

    assert prompt_spread(View()) == (0.0, 0.0)
    View.lengths[7, 48, 0] = 98.0
    View.lengths[11, 48, 0] = 2.0
    square, p99 = prompt_spread(View())
    assert square == pytest.approx(0.98 * 192.0**2 + 0.02 * 3072.0**2)
    assert p99 == 4096.0


def test_capacity_of_nothing_costs_everything():
    from aladdin_agents.scale_aladdin import _cost

    assert _cost(1.0, Capacity(0, 0.0, 0.0, 0.0, "pace")) == np.inf


class Beats:
    """A view that has only the arrivals of the last heartbeat."""

    def __init__(self, arrived, tokens=0):
        self.rows = np.array([[arrived, tokens, 0, 0]])

    def recent(self, beats):
        return self.rows


LENGTHS_100 = LengthStatistics.of([100, 100], [50, 50])


def peaks_after(*arrived, sized_for=10.0, memory_s=600.0):
    """The level after so many arrivals per heartbeat, for a fleet that was always sized for ``sized_for`` rps."""
    scenario = scenario_of(arrivals(lambda t: 1.0, 10.0), worker(cold_start=ColdStart(20.0)))
    peaks = Peaks(scenario, ScalerSettings(memory_s=memory_s))
    for n in arrived:
        peaks.note(Beats(n), sized_for, LENGTHS_100)
    return peaks.level_rps()


def test_peaks_that_came_too_fast_are_remembered_and_forgotten():
    quiet = [100] * 10
    assert peaks_after(*quiet) == 0.0
    assert peaks_after(*quiet, 120) == 0.0  # within the noise of 100 arrivals
    assert peaks_after(*quiet, 300) == 30.0
    assert peaks_after(*quiet, 300, *[100] * 59) == 30.0
    assert peaks_after(*quiet, 300, *[100] * 60) == 0.0
    assert peaks_after(300, 300) == 0.0  # nothing is known yet of what could have been planned
    assert peaks_after(*quiet, 300, memory_s=0.0) == 0.0


def test_of_peaks_the_share_that_may_be_missed_is_not_held():
    """One request in a hundred may miss its objective: a surprise of fewer requests is let go, the next one counts."""
    assert peaks_after(*[1000] * 50, 1400, sized_for=100.0) == 140.0
    assert peaks_after(*[1000] * 59, 400, sized_for=30.0, memory_s=100.0) == 100.0
    assert peaks_after(*[100_000] * 10, 900, sized_for=0.001, memory_s=30.0) == 10_000.0
    assert peaks_after(*[100_000] * 59, 900, sized_for=10_000.0) == 0.0


def test_a_peak_may_lie_in_the_prompts():
    scenario = scenario_of(arrivals(lambda t: 1.0, 10.0), worker(cold_start=ColdStart(20.0)))
    peaks = Peaks(scenario, ScalerSettings())
    for tokens in [10_000] * 8 + [40_000]:
        peaks.note(Beats(100, tokens), 10.0, LENGTHS_100)
    assert peaks.level_rps() == 40.0


def test_recurring_bursts_are_met_from_the_second_on():
    """Bursts of 40 s every 200 s, against a cold start of 30 s and a heartbeat of 10 s."""

    def bursts(t):
        return 150.0 if t % 200 >= 160 else 15.0

    scenario = scenario_of(arrivals(bursts, 1600.0), worker(initial=1), slo=SLO(1.0, 0.02))
    met = {}
    for memory_s in (0.0, 1800.0):
        scaler = AladdinScaler(scenario, ScalerSettings(memory_s=memory_s, settle_s=0.0))
        result = Simulator(scenario, 1).run(Combined(placements.make_least_request(scenario), scaler))
        late = result.requests[result.requests["arrival_s"] > 500.0]
        met[memory_s] = late["met_slo"].mean()
    assert met[1800.0] > 0.99 > met[0.0]


def test_a_full_worker_has_the_requests_of_its_throughput():
    scenario = scenario_of(arrivals(lambda t: 1.0, 10.0), slo=SLO(1.0, 0.05))
    kind = scenario.fleet.types[0]
    chat, code = LengthStatistics.of([500], [300]), LengthStatistics.of([4000], [20])
    safety = Safety(theta=1.0, gamma=0.9)
    for lengths in (chat, code):
        most = capacity(kind, scenario.slo, lengths, safety)
        full = full_batch(scenario, kind, lengths)
        assert 1.0 <= full <= most.batch
        assert full / (lengths.decoded * pace(kind, lengths, int(full))) >= most.rate_rps * (1 - 1e-9)
    assert capacity(kind, scenario.slo, code, safety).binds == "prefill"
    assert full_batch(scenario, kind, code) < capacity(kind, scenario.slo, code, safety).batch
    assert in_flight(kind, chat, 0.0) == 0.0
    assert in_flight(kind, chat, 1e9) == kind.max_num_seqs


@pytest.mark.parametrize("name", ["target_utilisation", "kpa", "tuned_reactive", "aladdin"])
def test_what_an_autoscaler_finds_it_keeps_for_a_while(name):
    """Kubernetes' HPA and Knative's KPA start with the scale they find; ours all do."""
    scenario = scenario_of(arrivals(lambda t: 5.0, 200.0), worker(initial=6))
    found = workers(Simulator(scenario, 1).run(Combined(placements.make_least_request(scenario), made(name)(scenario))))
    assert found.loc[10:50].min() >= 5


@pytest.mark.parametrize(
    "bad",
    [
        {"rho": 0.0},
        {"rho": 2.0},
        {"rho": float("nan")},
        {"drain_s": 0.0},
        {"rho_low": 0.99},
        {"target": 1.0},
        {"target": "x"},
    ],
)
def test_settings_of_the_scaler_out_of_range_are_named(bad):
    (name,) = bad
    with pytest.raises(InputError, match=f"scaler.{name}"):
        ScalerSettings(**bad)
