"""Scenario files: out and in without loss, and what they refuse."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aladdin_env import SLO, Fleet, InputError, Scenario, WorkerType, Workload, load_profile, profile_names
from aladdin_env.presets import load_scenario, scenario_names
from aladdin_env.scenario import (
    ColdStart,
    Failures,
    Predictor,
    RewardWeights,
    SLOClass,
    Transfer,
)
from aladdin_env.scenario_file import read_scenario, scenario_from_dict, scenario_to_dict, write_scenario
from aladdin_env.simulator.state import PREDICTORS
from aladdin_traces import (
    FixedLengths,
    Flood,
    GammaRenewal,
    OnOff,
    Poisson,
    Trace,
    write_trace,
)

MINIMAL = """
name = "mine"
[workload]
lengths = "sharegpt"
arrivals = { kind = "poisson", rate_rps = 5 }
[[fleet.types]]
name = "a"
profile = "llama-3.1-8b-h100-tp1"
"""


def through_text(scenario: Scenario) -> Scenario:
    return scenario_from_dict(tomllib.loads(tomli_w.dumps(scenario_to_dict(scenario))))


def table(**changes: Any) -> dict[str, Any]:
    return {**tomllib.loads(MINIMAL), **changes}


def worker(**changes: Any) -> dict[str, Any]:
    kind = {"name": "a", "profile": "llama-3.1-8b-h100-tp1", **changes}
    return table(fleet={"types": [{key: value for key, value in kind.items() if value is not ...}]})


# --- without loss ---


@pytest.mark.parametrize("name", scenario_names())
def test_presets_survive_the_file(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    write_scenario(scenario, tmp_path / "s.toml")
    assert read_scenario(tmp_path / "s.toml") == scenario


positive = st.floats(1e-6, 1e6)
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
cold_starts = st.builds(ColdStart, positive, st.floats(0.0, 0.5), st.sampled_from(["uniform", "lognormal"]))


@st.composite
def profiles(draw: st.DrawFn) -> Any:
    name = draw(st.sampled_from(profile_names()))
    if draw(st.booleans()):
        return name
    changed = {"name": draw(names), "overhead_s": draw(positive), "kv_capacity_tokens": draw(st.integers(10**5, 10**6))}
    return replace(load_profile(name), **changed)


@st.composite
def worker_types(draw: st.DrawFn, name: str, role: str) -> WorkerType:
    minimum, more, most = (draw(st.integers(0, 4)) for _ in range(3))
    max_num_seqs = draw(st.integers(1, 2048))
    return WorkerType(
        name=name,
        profile=draw(profiles()),
        initial=minimum + more,
        minimum=minimum,
        maximum=minimum + more + most + 1,
        price_per_gpu_hour=draw(st.floats(0.0, 100.0)),
        cold_start=draw(cold_starts),
        scheduler=draw(st.sampled_from(["prefill_first", "chunked"])) if role == "mixed" else "split",
        role=role,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.integers(0, 10**5)),
        kv_capacity_tokens=draw(st.none() | st.integers(1024, 10**7)),
        block_size=draw(st.integers(1, 1024)),
    )


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    roles = draw(st.sampled_from([("mixed",), ("mixed", "mixed", "mixed"), ("prefill", "decode")]))
    kinds = tuple(draw(worker_types(f"type {i}", role)) for i, role in enumerate(roles))
    least = sum(kind.initial * kind.gpus for kind in kinds)
    return Fleet(
        kinds,
        max_gpus=draw(st.none() | st.integers(least, least + 9)),
        failures=Failures(draw(st.floats(0.0, 1e6)), draw(positive)),
        transfer=Transfer(draw(positive), draw(positive)),
    )


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    if draw(st.booleans()):
        n = draw(st.integers(1, 5))
        counts = st.lists(st.integers(1, 4000), min_size=n, max_size=n)
        times = np.cumsum(draw(st.lists(st.floats(0.0, 100.0), min_size=n, max_size=n)))
        classes = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
        return replace(Workload.from_arrays(times, draw(counts), draw(counts), classes), rate_scale=draw(positive))
    rate = draw(positive)
    arrivals = draw(
        st.sampled_from([Poisson(rate), GammaRenewal(rate, 2.5), OnOff(on_rate_rps=rate), Flood(rate, 9 * rate, 60, 7)])
    )
    lengths = draw(st.sampled_from(["sharegpt", "azure-conv", "azure-code", FixedLengths(7, 9)]))
    return Workload.generated(arrivals, lengths, draw(st.sampled_from([(), (0.25, 0.75), (0.1, 0.2, 0.3, 0.4)])))


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    workload = draw(workloads())
    classes = st.lists(st.builds(SLOClass, names, positive, positive), max_size=4).map(tuple)
    return Scenario(
        name=draw(names),
        workload=workload,
        fleet=draw(fleets()),
        slo=draw(st.builds(SLO, positive, positive, classes)),
        horizon_s=draw(positive if workload.trace is None else st.none() | positive),
        heartbeat_s=draw(positive),
        max_hold_s=draw(st.floats(0.0, 1e6)),
        max_retries=draw(st.integers(0, 1000)),
        start_of_day_s=draw(st.floats(0.0, 86399.0)),
        predictor=draw(st.builds(Predictor, st.sampled_from(PREDICTORS), positive, positive, st.floats(0.0, 10.0))),
        reward=draw(st.builds(RewardWeights, *[st.floats(0.0, 10.0)] * 4)),
        description=draw(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)),
    )


@given(scenarios())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_scenario_survives_the_text(scenario: Scenario) -> None:
    assert through_text(scenario) == scenario


def test_numbers_of_numpy_survive() -> None:
    kind = WorkerType("a", "llama-3.1-8b-h100-tp1", initial=np.int64(3), price_per_gpu_hour=np.float64(0.1) * 3)
    scenario = Scenario("s", Workload.generated(Poisson(5.0), "sharegpt"), Fleet((kind,)), horizon_s=np.float64(0.3))
    assert through_text(scenario) == scenario


def test_profile_under_a_shipped_name_but_changed_is_stored_whole() -> None:
    profile = replace(load_profile("llama-3.1-8b-h100-tp1"), overhead_s=0.5)
    scenario = replace(load_scenario("azure-conv"), fleet=Fleet((WorkerType("a", profile),)))
    assert through_text(scenario).fleet.types[0].latency == profile


def test_what_is_left_out_has_its_default() -> None:
    found = scenario_from_dict(tomllib.loads(MINIMAL))
    kind = WorkerType("a", "llama-3.1-8b-h100-tp1")
    assert found == Scenario("mine", Workload.generated(Poisson(5.0), "sharegpt"), Fleet((kind,)))


def test_file_reads_well(tmp_path: Path) -> None:
    write_scenario(load_scenario("sharegpt-poisson"), tmp_path / "s.toml")
    text = (tmp_path / "s.toml").read_text(encoding="utf-8")
    for line in (
        'name = "sharegpt-poisson"',
        "[workload]",
        "[[fleet.types]]",
        'profile = "llama-2-13b-a100-tp1"',
        "[slo]",
    ):
        assert line in [stripped.strip() for stripped in text.splitlines()]


# --- paths ---


@pytest.fixture
def trace() -> Trace:
    return Trace.from_arrays([0.0, 1.0, 2.5], [10, 20, 30], [5, 6, 7])


def test_trace_beside_the_file_is_found_from_anywhere(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "conf"
    (folder / "data").mkdir(parents=True)
    write_trace(trace, folder / "data" / "t.csv")
    text = MINIMAL.replace('lengths = "sharegpt"\narrivals = { kind = "poisson", rate_rps = 5 }', 'file = "data/t.csv"')
    (folder / "s.toml").write_text('horizon_s = "none"\n' + text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    scenario = read_scenario("conf/s.toml")
    assert scenario.horizon_s is None
    assert scenario.workload.sample(np.random.default_rng(0), None) == trace
    monkeypatch.chdir(folder)
    assert read_scenario("s.toml") == scenario
    write_scenario(scenario, folder / "again.toml")
    assert 'file = "data/t.csv"' in (folder / "again.toml").read_text(encoding="utf-8")
    assert read_scenario(folder / "again.toml") == scenario
    other = tmp_path / "other"
    other.mkdir()
    write_scenario(scenario, other / "s.toml")
    assert read_scenario(other / "s.toml") == scenario


def test_profile_beside_the_file(tmp_path: Path) -> None:
    profile = replace(load_profile("llama-3.1-8b-h100-tp1"), name="mine")
    profile.to_json(tmp_path / "mine.json")
    (tmp_path / "s.toml").write_text(MINIMAL.replace("llama-3.1-8b-h100-tp1", "mine.json"), encoding="utf-8")
    assert read_scenario(tmp_path / "s.toml").fleet.types[0].latency == profile


# --- what is refused ---

PROFILE = load_profile("llama-3.1-8b-h100-tp1").to_dict()
BAD: list[tuple[dict[str, Any], str, str]] = [
    (table(horizn_s=1.0), "horizn_s", "did you mean 'horizon_s'"),
    (worker(max_num_seq=3), "fleet.types[0].max_num_seq", "did you mean 'max_num_seqs'"),
    (worker(cold_start={"mean": 3}), "fleet.types[0].cold_start.mean", "did you mean 'mean_s'"),
    (worker(profile="llama-3.1-8b-h100-tp3"), "fleet.types[0].profile", "did you mean 'llama-3.1-8b-h100-tp"),
    (worker(profile="gone.json"), "fleet.types[0].profile.path", "readable JSON"),
    (worker(profile=3), "fleet.types[0].profile", "name of a shipped profile"),
    (worker(profile={**PROFILE, "overheads": 1}), "fleet.types[0].profile.overheads", "did you mean 'overhead_s'"),
    (worker(profile={**PROFILE, "gpus": 0}), "fleet.types[0].profile.gpus", "whole number"),
    (worker(profile=...), "fleet.types[0].profile", "add this key"),
    (worker(name=...), "fleet.types[0].name", "add this key"),
    (worker(name=7), "fleet.types[0].name", "text"),
    (worker(initial="four"), "fleet.types[0].initial", "whole number"),
    (worker(initial=4.0), "fleet.types[0].initial", "whole number"),
    (worker(initial=True), "fleet.types[0].initial", "whole number"),
    (worker(price_per_gpu_hour=True), "fleet.types[0].price_per_gpu_hour", "number"),
    (worker(price_per_gpu_hour="2"), "fleet.types[0].price_per_gpu_hour", "number"),
    (worker(initial=17), "fleet.types[0].initial", "maximum (16)"),
    (worker(role="prefill"), "fleet.types[0].role", "scheduler 'split'"),
    (worker(scheduler="chunky"), "fleet.types[0].scheduler", "did you mean 'chunked'"),
    (worker(cold_start=60), "fleet.types[0].cold_start", "table"),
    (worker(cold_start={"law": "log"}), "fleet.types[0].cold_start.law", "lognormal"),
    (worker(kv_capacity_tokens="lots"), "fleet.types[0].kv_capacity_tokens", "whole number"),
    (table(fleet={"types": []}), "fleet.types", "at least one"),
    (table(fleet={"types": {"name": "a"}}), "fleet.types", "list"),
    (table(fleet={"types": ["a"]}), "fleet.types[0]", "table"),
    (table(fleet={}), "fleet.types", "add this key"),
    (table(fleet=[]), "fleet", "table"),
    (table(slo={"ttft": 1.0}), "slo.ttft", "did you mean 'ttft_s'"),
    (table(slo={"ttft_s": -1.0}), "slo.ttft_s", "above 0"),
    (
        table(slo={"classes": [{"name": "x", "ttft_s": 1, "atgt_s": 1}, {"name": "y", "ttft_s": 1, "atgt_s": 0}]}),
        "slo.classes[1].atgt_s",
        "above 0",
    ),
    (table(reward={"cost": -1}), "reward.cost", "0 or more"),
    (table(predictor={"kind": "bucket"}), "predictor.kind", "bucket_mean"),
    (table(predictor={"kind": "noisy_oracle", "noise": 11}), "predictor.noise", "0 to 10"),
    (table(horizon_s="none"), "horizon_s", "number of seconds"),
    (table(horizon_s=-1), "horizon_s", "above 0"),
    (table(heartbeat_s="none"), "heartbeat_s", "number"),
    (table(heartbeat_s=float("nan")), "heartbeat_s", "above 0"),
    (table(workload="sharegbt"), "workload.preset", "did you mean 'sharegpt'"),
    (table(workload=3), "workload", "table"),
    (table(workload={}), "workload", "missing"),
    (table(workload={"lengths": "sharegpt"}), "workload", "missing arrivals"),
    (
        table(workload={"lengths": "sharegbt", "arrivals": {"kind": "poisson", "rate_rps": 1}}),
        "workload.lengths",
        "sharegpt",
    ),
    (table(workload={"lengths": "sharegpt", "arrivals": {"kind": "poison"}}), "workload.arrivals.kind", "'poisson'"),
    (table(workload={"lengths": "sharegpt", "arrival": {}}), "workload.arrival", "did you mean 'arrivals'"),
    (table(workload={"file": "no/such.csv"}), "such.csv", ""),
    (table(workload={"file": 3}), "workload.file", "path of a trace"),
    ({"workload": {}, "fleet": {}}, "name", "add this key"),
]


@pytest.mark.parametrize(("given_table", "field", "mend"), BAD, ids=[f"{i}-{row[1]}" for i, row in enumerate(BAD)])
def test_refuses(given_table: dict[str, Any], field: str, mend: str) -> None:
    with pytest.raises(InputError) as caught:
        scenario_from_dict(given_table)
    found = caught.value
    assert found.field == field or (field == "such.csv" and field in str(found))
    assert mend in found.mend
    assert "\n" not in str(found)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="readable TOML file"):
        read_scenario(tmp_path / "no.toml")


def test_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('name = "x"\nhorizon_s = = 3\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        read_scenario(tmp_path / "bad.toml")


def test_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="readable TOML file"):
        read_scenario(tmp_path / "bad.toml")
