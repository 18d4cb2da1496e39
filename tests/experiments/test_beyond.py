"""Beyond the paper: the laws of the loads, what the tables say, and both scripts in their quick form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aladdin_env.compare import TARGET
from aladdin_env.presets import load_scenario
from aladdin_env.yardsticks import least_workers
from aladdin_traces import Trace, Workload, merge
from experiments.beyond import overload, panels, placements, scaling, tables
from experiments.beyond.bounds import least_fleet, least_price_per_s
from experiments.beyond.laws import Recorded, Shift
from experiments.beyond.settings import Setting, changing_loads, fixed_fleets
from experiments.beyond.units import Measures

HALF_HOUR_S = 1800.0


def trace_of(requests: int) -> Trace:
    return Trace.from_arrays(np.arange(requests, dtype=float), np.full(requests, 100), np.full(requests, 10))


def test_a_shift_has_either_load_in_its_half() -> None:
    law = Shift(Workload.preset("azure-code", 2.0), Workload.preset("sharegpt", 6.0))
    assert law.mean_rate_rps == 4.0 and law.with_rate(8.0).after.mean_rate_rps == 12.0
    drawn = Workload.from_law(law).sample(np.random.default_rng(0), 2 * HALF_HOUR_S)
    late = drawn.arrival_s >= HALF_HOUR_S
    assert late.sum() == pytest.approx(6.0 * HALF_HOUR_S, rel=0.1)
    assert np.median(drawn.prompt_tokens[~late]) > 1000 and np.median(drawn.output_tokens[~late]) < 50
    assert np.median(drawn.prompt_tokens[late]) < 100 and np.median(drawn.output_tokens[late]) > 200


def test_a_recorded_trace_gives_an_episode_per_seed() -> None:
    law = Recorded(trace_of(1001), speed=2.0)
    assert law.mean_rate_rps == pytest.approx(1.0, rel=0.01)
    first, second = (law.sample(np.random.default_rng(seed), 300.0) for seed in (0, 1))
    assert first != second and first.duration_s < 300.0
    assert len(first) == pytest.approx(300, rel=0.2)


def test_the_bound_of_a_fixed_fleet_is_between_its_mean_load_and_what_policies_need() -> None:
    scenario = replace(load_scenario("sharegpt-poisson"), horizon_s=120.0)
    trace = scenario.workload.sample(np.random.default_rng(0), 120.0)
    gpus, price_per_s = least_fleet(scenario, trace)
    assert least_workers(scenario, trace, TARGET) <= gpus < 8
    assert price_per_s == pytest.approx(gpus * scenario.fleet.types[0].price_per_s)


def test_a_burst_needs_more_than_the_mean_load() -> None:
    scenario = load_scenario("sharegpt-poisson")
    rng = np.random.default_rng(0)
    quiet, busy = (Workload.preset("sharegpt", rate).sample(rng, 300.0) for rate in (5.0, 50.0))
    both = merge([quiet, replace(busy, arrival_s=busy.arrival_s + 300.0)])
    mean = least_price_per_s(scenario, Workload.preset("sharegpt", 27.5).sample(rng, 600.0))
    assert least_price_per_s(scenario, both) > 1.4 * mean


def found_with(prices: Mapping[str, Sequence[float | None]]) -> dict[str, list[Measures]]:
    return {
        who: [{} if one is None else {"price_per_h": one, "gpus": one} for one in each] for who, each in prices.items()
    }


PRICES = {"round_robin": (10.0, 20.0), "aladdin": (8.0, 15.0), "aladdin_plus": (8.0, 10.0), "bound": (6.0, 10.0)}


def test_the_gap_closed_is_that_of_each_episode() -> None:
    found = found_with(PRICES | {"lost": (None, 40.0)})
    rows = {who: placements.needed(found, who) for who in found}
    assert rows["aladdin"]["gap_closed"] == 0.5 and rows["bound"]["gap_closed"] == 1.0
    assert rows["aladdin_plus"]["over_aladdin"] == pytest.approx((1.0 + 10.0 / 15.0) / 2)
    assert rows["round_robin"]["gap_closed"] == 0.0 and rows["lost"]["gap_closed"] == -2.0
    assert rows["lost"]["held"] == 1 and tables.holding(rows["lost"], "x") == "x (1 of 2)"


def test_what_holds_nowhere_says_so() -> None:
    row = placements.needed(found_with(PRICES | {"lost": (None, None)}), "lost")
    assert tables.holding(row, "x") == "none" and tables.with_half(row, "price_per_h") == "-"
    assert tables.marked({"attainment": 0.98}, "x") == "*x*"


def test_episodes_that_no_fleet_holds_are_counted_beside_the_price() -> None:
    found = found_with(PRICES | {"aladdin": (None, 15.0), "other": (9.0, 18.0)})
    told = placements._summary(pd.DataFrame([placements.needed(found, who) for who in found]).assign(setting="here"))
    cells = [cell.strip() for cell in told.splitlines()[-1].split("|")]
    assert cells[4] == "15.0 ± 0.0 (1 of 2)" and cells[6].startswith("9.0") and "of" not in cells[6]
    assert cells[8:10] == ["`other`", "1.20 ± 0.00 (1 of 2)"] and "of" not in cells[10]


def test_a_title_takes_as_many_lines_as_it_needs() -> None:
    title = f"{'a long title ' * 12}: 4+4+2 workers"
    assert panels.above(title).replace("\n", " ") == title
    assert max(map(len, panels.above(title).splitlines())) <= 56


@pytest.mark.parametrize("known", [fixed_fleets(), changing_loads()], ids=["fixed", "changing"])
def test_settings_have_titles_and_seeds(known: dict[str, Setting]) -> None:
    titles = [one.title for one in known.values()]
    assert len(set(titles)) == len(titles)
    assert all(one.seeds == 10 or name == "2000/s" for name, one in known.items())


@pytest.mark.slow
def test_placements_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--quick", "--jobs", "1", "--out", str(tmp_path)]
    placements.SCRIPT.main(given)
    table = pd.read_csv(tmp_path / "placements.csv")
    assert set(table["setting"]) == set(placements.QUICK)
    assert {"aladdin", "round_robin", "prefix_affinity", "least_headroom", "bound"} <= set(table["policy"])
    for suffix in ("", "-ttft"):
        assert (tmp_path / f"placements{suffix}.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "gap closed" in said and "nan" not in said
    assert (table["over_bound"].dropna() >= 1.0).all()
    placements.SCRIPT.main([*given, "--resume"])
    assert capsys.readouterr().out == said
    placements.SCRIPT.main([*given, "types"])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "placements.csv"), table)


@pytest.mark.slow
def test_scaling_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scaling.SCRIPT.main(["--quick", "--jobs", "1", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "scaling.csv")
    assert {"aladdin+tuned_reactive", "least_request+kpa", "least_request, best fixed", "bound"} <= set(table["policy"])
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "gap closed" in capsys.readouterr().out


def test_an_unknown_setting_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scaling.SCRIPT.main(["--out", str(tmp_path), "floods"])
    assert "no setting 'floods'" in capsys.readouterr().err


def test_an_interrupt_keeps_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(setting: Setting, asked: object) -> pd.DataFrame:
        raise KeyboardInterrupt

    (tmp_path / "scaling.csv").write_text("setting,policy\nflood,aladdin+aladdin\n")
    with pytest.raises(SystemExit) as ended:
        replace(scaling.SCRIPT, measure=interrupted).main(["--resume", "--out", str(tmp_path)])
    assert ended.value.code == 130 and "--resume" in capsys.readouterr().err
    assert "flood" in (tmp_path / "scaling.csv").read_text()


def test_overload_in_its_quick_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overload.SCRIPT.main(["--quick", "--jobs", "1", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "overload.csv")
    assert set(table["load"]) == set(overload.LOADS) and {"aladdin_plus", "round_robin"} <= set(table["policy"])
    assert (tmp_path / "overload.png").read_bytes().startswith(b"\x89PNG")
    arrived_rps = table["goodput_rps"] / table["slo_attainment"]  # the time of the queue that is left does not count
    assert arrived_rps.to_numpy() == pytest.approx(table["rate_rps"].to_numpy(), rel=0.15)
    assert "`aladdin_plus`" in capsys.readouterr().out
