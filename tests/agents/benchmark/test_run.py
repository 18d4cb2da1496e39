"""Running: which rows, resumed rows, interrupted rows, policies that do not fit, the bound of a fixed fleet."""

import hashlib
from dataclasses import replace

import pytest

from aladdin_agents.benchmark import entrants
from aladdin_agents.benchmark.entrants import BOUND, HEURISTICS, entrant
from aladdin_agents.benchmark.results import Ledger, read_rows
from aladdin_agents.benchmark.run import Asked, benchmark, plan, run
from aladdin_agents.benchmark.scenarios import TARGET, case_of, cases
from aladdin_agents.benchmark.units import most_served
from aladdin_agents.scale_out.engine import LocalProcesses
from aladdin_env.compare import Contender
from aladdin_env.compare.work import Lab
from aladdin_env.errors import InputError
from aladdin_env.simulator.run import simulate

SMALL = Asked("validate", ("placement",), ("steady",), ("least_request", "round_robin"), 2)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "r.csv"


def test_a_row_per_policy_and_seed_and_the_bound(out):
    rows = benchmark(SMALL, out, jobs=1)
    seeds = case_of("validate", "placement", "steady").first_seeds(2)
    expected = [(name, seed) for seed in seeds for name in (BOUND, "least_request", "round_robin")]
    assert [(row.policy, row.seed) for row in rows] == expected
    assert [row.key for row in read_rows(out)] == [row.key for row in rows]
    summary = simulate(case_of("validate", "placement", "steady").scenario, "least_request", seeds[0]).summary
    row = rows[1]
    assert all(
        row[name] == summary[name] for name in ("cost", "slo_attainment", "goodput_rps", "ttft_p99_s", "requests")
    )
    assert row.numpy and row.numba and row.aladdin_env and row.policy_sha256 == ""


def test_what_the_file_has_is_not_run_again(out):
    benchmark(replace(SMALL, seeds=1), out, jobs=1)
    ledger = Ledger(out)
    planned = plan(replace(SMALL, policies=("least_request", "lmetric")), ledger)
    assert planned.kept == 2
    assert {(unit.row_key[3], unit.seed) for unit in planned.units} == {
        ("lmetric", 20_000), (BOUND, 20_001), ("least_request", 20_001), ("lmetric", 20_001),
    }  # fmt: skip


def test_an_interrupted_run_keeps_its_rows_and_goes_on(out, same):
    def stop(done):
        if done > 2:
            raise KeyboardInterrupt

    ledger = Ledger(out)
    with pytest.raises(KeyboardInterrupt):
        run(plan(SMALL, ledger), ledger, engine=LocalProcesses(1), progress=stop)
    assert len(read_rows(out)) == 2
    rows = benchmark(SMALL, out, jobs=1)
    assert all(map(same, rows, benchmark(SMALL, out.with_name("other.csv"), jobs=1)))


@pytest.mark.slow
def test_several_processes_give_the_same(out, same):
    alone = {row.key: row for row in benchmark(SMALL, out, jobs=1)}
    together = {row.key: row for row in benchmark(SMALL, out.with_name("other.csv"), jobs=2)}
    assert alone.keys() == together.keys()
    assert all(same(alone[key], together[key]) for key in alone)


def test_the_bound_of_a_scaling_fleet_is_a_cost(out):
    (bound, row) = benchmark(Asked("train", ("joint",), ("lengths",), ("least_request+static",), 1), out, jobs=1)
    assert bound.policy == BOUND and bound.slo_attainment == TARGET and 0 < bound.cost < row.cost


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"split": "testing"}, "--split"),
        ({"tasks": ("place",)}, "--task"),
        ({"seeds": 0}, "--seeds"),
    ],
)
def test_mistakes_in_what_is_asked(changes, field):
    with pytest.raises(InputError, match=field):
        replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenarios": ("steddy",)}, "did you mean 'steady'"),
        ({"policies": ("least_requests",)}, "least_request"),
        ({"policies": ("bound",)}, "always computed"),
        ({"policies": ("least_request+kpa",)}, "fixed fleet"),
        ({"policies": ("missing.npz",)}, "no such file"),
    ],
)
def test_mistakes_in_names(out, changes, message):
    with pytest.raises(InputError, match=message):
        plan(replace(SMALL, **changes), Ledger(out))


def test_by_default_the_heuristics_take_part(out):
    asked = Asked("validate", seeds=1)
    planned = plan(asked, Ledger(out))
    assert planned.notes == []
    assert len(planned.units) == sum(
        len(cases("validate", task)) * (len(HEURISTICS[task]) + 1) for task in ("placement", "scaling", "joint")
    )


@pytest.mark.parametrize(
    ("task", "given", "name"),
    [
        ("placement", "lmetric", "lmetric"),
        ("scaling", "kpa", "aladdin+kpa"),
        ("scaling", "least_request+kpa", "least_request+kpa"),
        ("joint", " lmetric ", "lmetric+aladdin"),
        ("joint", "lmetric + kpa", "lmetric+kpa"),
    ],
)
def test_names_in_rows(task, given, name):
    assert entrant(case_of("validate", task, "steady"), given).policy == name


def test_a_policy_file_is_told_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setattr(entrants, "_contender", lambda case, label, spec: Contender(label, spec))
    case = case_of("validate", "scaling", "steady")
    file = tmp_path / "mine.npz"
    file.write_bytes(b"weights")
    found = entrant(case, str(file))
    assert found.policy == f"aladdin+{file}" and found.contender.spec == f"aladdin+{file}"
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    moved = entrant(case, "aladdin+elsewhere/mine.npz", tmp_path)
    assert moved.sha256 == found.sha256
    assert moved.policy == "aladdin+elsewhere/mine.npz" and moved.contender.spec == f"aladdin+{file}"
    file.write_bytes(b"other weights")
    assert entrant(case, str(file)).sha256 != found.sha256


def test_who_fits_nowhere_is_a_mistake_and_who_fits_somewhere_a_note(out, monkeypatch):
    whole = entrants._contender

    def picky(case, label, spec):
        if case.name == "large" or label == "random":
            raise InputError("policy", label, "it has 16 slots")
        return whole(case, label, spec)

    monkeypatch.setattr(entrants, "_contender", picky)
    both = replace(SMALL, scenarios=("steady", "large"), policies=("lmetric",))
    planned = plan(both, Ledger(out))
    assert {unit.key[2] for unit in planned.units} == {"steady"}
    assert len(planned.notes) == 1 and "validate/placement/large" in planned.notes[0]
    with pytest.raises(InputError, match="16 slots"):
        plan(replace(both, policies=("lmetric", "random")), Ledger(out))


def test_no_policy_serves_more_than_the_bound_says():
    scenario = case_of("train", "placement", "overload-1.4").scenario
    flooded = replace(scenario.with_workload(scenario.workload.with_rate(150.0)), horizon_s=120.0)
    share = most_served(Lab(flooded), 3)
    assert 0.2 < share < 0.9
    for policy in ("aladdin_plus", "aladdin", "least_request"):
        assert simulate(flooded, policy, 3).summary["slo_attainment"] <= share
    calm = replace(scenario.with_workload(scenario.workload.with_rate(5.0)), horizon_s=40.0)
    assert most_served(Lab(calm), 3) == 1.0
