"""Fitting: known laws come back from noisy steps, held-out errors are honest, the shipped profiles come out again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aladdin_calibration import fits, forms, tables
from aladdin_calibration.steps import COLUMNS, KINDS
from aladdin_env.latency import DecodeLaw, PrefillLaw, load_profile, profile_names
from aladdin_traces.errors import InputError
from experiments.profiles import fit_shipped

MEASUREMENTS = Path(__file__).resolve().parents[2].parent / "shared" / "measurements"
PREFILL = PrefillLaw((64.0, 512.0, 4096.0), (0.008, 0.015, 0.085), 5e-10)
DECODE = DecodeLaw((1, 8, 64, 256), (0.006, 0.0065, 0.0075, 0.010), (4e-8, 4e-8, 4.5e-8, 5e-8))
OVERLAP = 0.005


def observed(prefill: PrefillLaw = PREFILL, decode: DecodeLaw = DECODE, noise: float = 0.0) -> pd.DataFrame:
    """Three repetitions of every configuration under known laws, with multiplicative noise."""
    shapes = [(n, b) for n in (16, 32, 64, 96, 128, 192, 256, 512, 768, 1024, 1536, 2048, 3072, 4096) for b in (1, 2)]
    rows = [("prefill", f"p{n}x{b}", n * b, n * n * b, 0, 0) for n, b in shapes]
    batches = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    rows += [("decode", f"d{b}x{c}", 0, 0, b, b * c) for b in batches for c in (64, 512, 2048)]
    rows += [("mixed", f"m{n}x{b}", n, n * n, b, b * 512) for n in (64, 512, 2048) for b in (1, 8, 64)]
    steps = pd.DataFrame(rows * 3, columns=list(COLUMNS[:-1]))
    factor = np.exp(np.random.default_rng(7).normal(0.0, noise, len(steps)))
    return steps.assign(seconds=forms.predict(steps, prefill, decode, OVERLAP) * factor)


def worst(steps: pd.DataFrame, fitted: fits.FittedLaws) -> float:
    """The largest relative error against the true times of ``steps``."""
    return float(np.abs(fitted.predict(steps) / steps["seconds"] - 1.0).max())


def test_the_papers_laws_come_back_exactly() -> None:
    true = PrefillLaw.linear(2e-5, 5e-3), DecodeLaw.linear(4e-8, 1e-5, 6e-3)
    steps = observed(*true)
    prefill = forms.fit_prefill(steps, forms.PREFILL_FORMS["linear"])
    decode = forms.fit_decode(steps, None)
    assert prefill.knots_s[0] == pytest.approx(5e-3, rel=1e-4)
    assert (prefill.knots_s[1] - prefill.knots_s[0]) / prefill.knots_tokens[1] == pytest.approx(2e-5, rel=1e-4)
    assert decode.alpha_s[0] == pytest.approx(6e-3, rel=1e-4) and decode.beta_s_per_token[0] == pytest.approx(4e-8)
    assert forms.fit_mixed(steps, prefill, decode, launches=True) == (prefill, pytest.approx(OVERLAP, rel=1e-3))
    assert worst(steps, fits.fit_laws(steps)) < 1e-3


def test_general_laws_come_back_from_noise() -> None:
    clean, noisy = observed(), observed(noise=0.03)
    fitted = fits.fit_laws(noisy)
    assert fitted.prefill_form not in ("linear", "linear + attention")
    assert fitted.prefill.attention_s_per_token2 == pytest.approx(5e-10, rel=0.5)
    assert fitted.mixed_overlap_s == pytest.approx(OVERLAP, rel=0.1)
    assert worst(clean, fitted) < 0.06


def test_held_out_errors_are_those_of_the_noise() -> None:
    figures = fits.error_figures(fits.held_out_errors(observed(noise=0.05)))
    cases = ("median", "p95", "configuration_median", "configuration_p95")
    assert list(figures) == [f"{kind}_{figure}" for kind in KINDS for figure in cases]
    for kind in KINDS:  # a normal law's median is 0.67 and its 95th percentile 1.96 deviations
        assert 0.02 < figures[f"{kind}_median"] < 0.06 and 0.07 < figures[f"{kind}_p95"] < 0.16
        assert figures[f"{kind}_configuration_median"] < figures[f"{kind}_median"]  # the noise of three averages out


def test_one_wild_configuration_neither_bends_the_law_nor_hides() -> None:
    steps = observed()
    steps.loc[steps["config"] == "d16x512", "seconds"] *= 3.0
    errors = fits.held_out_errors(steps).set_index("config")["error"]
    assert errors["d16x512"].to_numpy() == pytest.approx(-2.0 / 3.0, abs=0.02)
    assert errors.drop("d16x512").filter(like="d16").abs().max() < 0.05


def test_traffic_sets_the_level_of_the_laws() -> None:
    """One step in ten of the traffic takes half as long again: the middle stays, what is waited for does not."""
    steps = observed()
    served = steps[steps["kind"] != "prefill"].assign(config="traffic-8")
    long_ones = np.arange(len(served)) % 10 == 0
    served["seconds"] *= np.where(long_ones, 1.5, 1.0)
    plain, level = fits.fit_laws(steps), fits.fit_laws(pd.concat([steps, served], ignore_index=True))
    for kind in ("prefill", "decode", "mixed"):
        rows = steps[steps["kind"] == kind]
        ratio = level.predict(rows).sum() / plain.predict(rows).sum()
        assert ratio == pytest.approx(1.05, abs=0.02), kind


def test_folds_never_split_a_configuration() -> None:
    steps = observed()
    judged: list[str] = []
    for train, test in fits.folds(steps, 4):
        assert not set(train["config"]) & set(test["config"]) and len(train) + len(test) == len(steps)
        assert set(test["kind"]) == set(KINDS)
        judged += sorted(set(test["config"]))
    assert sorted(judged) == sorted(set(steps["config"]))
    assert len(list(fits.folds(steps[steps["config"] == "p16x1"], 5))) == 1


def test_no_knot_without_data() -> None:
    steps = observed()
    sparse = steps[~steps["prefill_tokens"].isin([16, 32, 64])]
    for form in forms.PREFILL_FORMS.values():
        assert forms.fit_prefill(sparse, form).knots_s[0] > 0.004
    assert 16 not in forms.fit_decode(steps[steps["batch"] != 16], forms.DECODE_FORMS["table"]).batch


def test_the_floor_that_decodes_hide_in_comes_back() -> None:
    floored = PrefillLaw((64.0, 512.0, 4096.0), (0.018, 0.020, 0.090), floor_tokens=512.0)
    steps = observed(floored, noise=0.02)
    prefill = forms.fit_prefill(steps, forms.PREFILL_FORMS["4 knots + attention"])
    with_floor, overlap_s = forms.fit_mixed(steps, prefill, DECODE, launches=True)
    assert with_floor.floor_tokens == 512.0 and overlap_s == pytest.approx(OVERLAP, rel=0.3)
    assert forms.fit_mixed(steps, prefill, DECODE, launches=False)[0] == prefill
    served = pd.concat([steps, steps[steps["kind"] == "mixed"].assign(config="traffic-8")])
    assert fits.fit_laws(served).prefill.floor_tokens >= 512.0 and fits.fit_laws(steps).prefill.floor_tokens == 0.0


def test_a_floor_is_as_high_as_its_steps_are_long_in_total() -> None:
    floored = PrefillLaw((64.0, 512.0, 4096.0), (0.018, 0.018, 0.090), floor_tokens=512.0)
    steps = observed(floored)
    slow = steps["prefill_tokens"].between(1, 512)
    some = slow & (np.arange(len(steps)) % 3 == 0)  # in one moment of three launches take half as long again
    steps.loc[some, "seconds"] *= 1.5
    higher = forms.lifted(steps, floored, DECODE, OVERLAP)
    assert 0.018 < higher.knots_s[0] < 1.2 * 0.018
    totals = steps.loc[slow, "seconds"].sum(), forms.predict(steps[slow], higher, DECODE, OVERLAP).sum()
    assert totals[0] == pytest.approx(totals[1], rel=1e-4)
    assert higher.work_start_s == pytest.approx(floored.work_start_s)  # the work is not the CPU's
    assert forms.lifted(observed(floored), floored, DECODE, OVERLAP) == floored


def test_without_mixed_steps_nothing_overlaps() -> None:
    steps = observed()
    assert forms.fit_mixed(steps[steps["kind"] != "mixed"], PREFILL, DECODE, launches=True) == (PREFILL, 0.0)


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (lambda s: s[s["kind"] != "decode"], "0 configurations of decode steps"),
        (lambda s: s[(s["kind"] != "prefill") | (s["prefill_tokens"] == 64)], "prefill steps of 4 or more"),
        (lambda s: s[(s["kind"] != "decode") | (s["batch"] == 4)].pipe(vary), "steps.batch: 4 .* 1 to 64"),
    ],
)
def test_too_few_steps_say_what_is_missing(left, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fits.fit_laws(left(observed()))
    with pytest.raises(InputError, match=message):
        fits.held_out_errors(left(observed()))


def vary(steps: pd.DataFrame) -> pd.DataFrame:
    """The same steps, each a configuration of its own."""
    return steps.assign(config=[f"c{i}" for i in range(len(steps))])


@pytest.mark.parametrize("column", ["prefill_tokens", "batch"])
def test_times_that_fall_are_refused(column: str) -> None:
    steps = observed()
    kind = "decode" if column == "batch" else "prefill"
    of_kind = steps["kind"] == kind
    steps.loc[of_kind, "seconds"] = 1.0 / (1.0 + steps.loc[of_kind, column])
    with pytest.raises(InputError, match=f"law of {kind} time that decreases in {column}"):
        fits.fit_laws(steps)


def test_fits_do_not_depend_on_the_order_of_rows() -> None:
    steps = observed(noise=0.03)
    assert fits.fit_laws(steps) == fits.fit_laws(steps)
    shuffled = fits.fit_laws(steps.sample(frac=1.0, random_state=3))
    assert worst(observed(), shuffled) == pytest.approx(worst(observed(), fits.fit_laws(steps)), abs=1e-4)


def test_reading_aiconfigurator_rows(tmp_path: Path) -> None:
    path = tmp_path / "aic.csv"
    path.write_text(
        "model,system,perf_db_version,tp,kind,batch,context_tokens,prefill_tokens_in_step,decode_seqs_in_step,latency_ms\n"
        "m,h100,0.24.0,1,prefill,4,512,2048,0,42.0\n"
        "m,h100,0.24.0,1,decode,8,1024,0,8,6.5\n"
        "m,h100,0.24.0,2,mixed,8,1024,256,8,9.0\n"
    )
    steps = tables.read_aic(path)
    assert steps["sum_squares"].tolist() == [4 * 512**2, 0, 256**2]
    assert steps["context_tokens"].tolist() == [0, 8192, 8192]
    assert steps["seconds"].tolist() == pytest.approx([0.042, 0.0065, 0.009])
    assert steps["config"].is_unique
    assert list(tables.select_aic(steps, "m", "h100", 1).columns) == [*COLUMNS, "repeat", "at_s"]
    with pytest.raises(InputError, match="did you mean 'h100'"):
        tables.select_aic(steps, "m", "h10", 1)
    with pytest.raises(InputError, match="tp"):
        tables.select_aic(steps, "m", "h100", 8)


def test_reading_iterations_of_an_engine(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(
        "config,n_prefill,sum_prefill,sum_sq,n_decode,sum_ctx,step_cpu\n"
        "a,2,256,32768,0,0,40.0\na,0,0,0,2,258,30.0\nb,1,15,22815,15,11550,93.0\n"
    )
    steps = tables.read_vllm_steps(path)
    assert steps["kind"].tolist() == ["prefill", "decode", "mixed"]
    assert steps["seconds"].tolist() == pytest.approx([0.04, 0.03, 0.093])
    assert steps["at_s"].tolist() == pytest.approx([0.0, 0.04, 0.07]) and set(steps["repeat"]) == {0}
    with pytest.raises(InputError, match="step_wall"):
        tables.read_vllm_steps(path, clock="step_wall")
    with pytest.raises(InputError, match="nowhere"):
        tables.read_vllm_steps(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(("given", "shown"), [("0.03", "0.03"), ("40000", "40000")])
def test_times_in_another_unit_are_refused(tmp_path: Path, given: str, shown: str) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(f"config,n_prefill,sum_prefill,sum_sq,n_decode,sum_ctx,step_cpu\na,0,0,0,2,258,{given}\n")
    with pytest.raises(InputError, match=rf"step_cpu\[0\]: {shown}.*give milliseconds: a decode step takes 0.05 to"):
        tables.read_vllm_steps(path)


def test_a_median_that_no_engine_has_is_another_unit(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    rows = "".join(f"a,0,0,0,2,258,{time}\n" for time in (9000, 12000, 15000))  # microseconds
    path.write_text(f"config,n_prefill,sum_prefill,sum_sq,n_decode,sum_ctx,step_cpu\n{rows}")
    with pytest.raises(InputError, match=r"step_cpu: 12000.*give milliseconds: the median decode step"):
        tables.read_vllm_steps(path)


def test_kv_capacity_by_hand() -> None:
    model = fit_shipped.Model("m", "m", 8.0e9, 32, 8, 128)
    gpu = fit_shipped.Gpu("g", "g", "g", 80e9)
    assert model.kv_bytes_per_token == 131_072
    tokens = (72e9 - 16e9 - fit_shipped.RESERVE_BYTES) / 131_072
    assert fit_shipped.kv_capacity_tokens(model, gpu, 1) == tokens // 16 * 16
    assert fit_shipped.kv_capacity_tokens(fit_shipped.Model("m", "m", 31e9, 32, 8, 128), gpu, 1) == 0


@pytest.mark.skipif(not MEASUREMENTS.is_dir(), reason="the measurement files are not beside the project")
@pytest.mark.parametrize("name", ["llama-3.1-8b-h100-tp1", "llama-2-13b-a100-tp1", "llama-110m-cpu"])
def test_the_shipped_profiles_come_out_again(name: str) -> None:
    (task,) = (t for t in fit_shipped.tasks(MEASUREMENTS) if t.name == name)
    again = fit_shipped.fit(task)
    shipped = load_profile(name)
    assert again.provenance.method == shipped.provenance.method
    assert again.provenance.errors == pytest.approx(shipped.provenance.errors, abs=5e-4)
    assert again.row(256) == pytest.approx(shipped.row(256), rel=1e-3)


@pytest.mark.skipif(not MEASUREMENTS.is_dir(), reason="the measurement files are not beside the project")
def test_every_fitted_profile_is_shipped_and_no_other() -> None:
    assert {task.name for task in fit_shipped.tasks(MEASUREMENTS)} == set(profile_names())


def test_all_kinds_that_lack_configurations_are_named_at_once() -> None:
    few = observed()
    few = few[few["config"].isin(["p16x1", "p32x1", "d1x64", "m64x1"])]
    said = (
        "steps: '2 configurations of prefill steps, 1 configurations of decode steps' is not valid; "
        "measure prefill and decode steps of 4 or more each"
    )
    with pytest.raises(InputError) as refused:
        fits.fit_laws(few)
    assert str(refused.value) == said


@pytest.mark.parametrize("kind", KINDS)
def test_steps_that_all_take_equally_long_are_refused(kind: str) -> None:
    steps = observed()
    steps.loc[steps["kind"] == kind, "seconds"] = 0.03
    with pytest.raises(InputError, match=rf"0.03 s in all \d+ configurations of {kind} steps.*check the clock"):
        fits.fit_laws(steps)


def ticks(**columns: list[object]) -> str:
    """A CSV file of iterations, the columns given in place of plain ones."""
    plain = {"config": ["a", "b"], "n_prefill": [0, 0], "sum_prefill": [0, 0], "sum_sq": [0, 0]}
    plain |= {"n_decode": [2, 4], "sum_ctx": [258, 512], "step_cpu": [30.0, 31.0]}
    return pd.DataFrame(plain | columns).to_csv(index=False)


@pytest.mark.parametrize(
    ("column", "value"), [("step_cpu", "fast"), ("step_cpu", ""), ("n_decode", "two"), ("step_wall", "-"), ("rep", "x")]
)
def test_text_where_a_number_belongs_names_column_and_row(tmp_path: Path, column: str, value: str) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(ticks(**{column: [1, value]}))
    with pytest.raises(InputError, match=rf"{column}\[1\]: .* give a number in column {column}, row 1"):
        tables.read_vllm_steps(path)


def test_a_file_without_rows_says_so(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(ticks().splitlines()[0] + "\n")
    with pytest.raises(InputError, match=r"steps.csv.*it has a head and no rows"):
        tables.read_vllm_steps(path)


def test_one_run_of_a_file_with_several(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(ticks(gpu=["x", "y"], run=[1, 2], step_cpu=["not timed", 31.0]))
    for only in ({"gpu": "y"}, {"run": "2"}, {"run": 2}, {"gpu": "y", "run": "2"}):
        steps = tables.read_vllm_steps(path, only=only)
        assert steps["seconds"].tolist() == [0.031] and steps.index.tolist() == [0], only
    for only, said in (
        ({"gpu": "z"}, "where gpu: 'z' is not valid; choose one of x, y"),
        ({"run": "one"}, "where run: 'one' is not valid; choose one of 1, 2"),
        ({"device": "x"}, "where device: 'x' is not valid; no such column; choose one of config,"),
        ({"gpu": "x", "run": 2}, "where run: 2 is not valid; choose one of 1"),
    ):
        with pytest.raises(InputError) as refused:
            tables.read_vllm_steps(path, only=only)
        assert str(refused.value).startswith(said)


def test_a_wrong_time_is_named_by_its_row_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(ticks(gpu=["x", "y"], step_cpu=[30.0, 4e9]))
    with pytest.raises(InputError, match=r"step_cpu\[1\]: 4000000000"):
        tables.read_vllm_steps(path, only={"gpu": "y"})


def test_configurations_that_are_numbers_are_names(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(ticks(config=[1, 2]))
    assert tables.read_vllm_steps(path)["config"].tolist() == ["1", "2"]
