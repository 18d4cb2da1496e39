"""Profile of a measurement, readers by columns, and the report: all that is unknown is named."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from aladdin_calibration.measurement import Measurement, WorkerFacts
from aladdin_calibration.measurement_files import read_measurement
from aladdin_calibration.profiles import KV_BYTES_PER_TOKEN, gaps, profile_of
from aladdin_calibration.report import _shown, write_report
from aladdin_env.latency import LatencyProfile
from aladdin_traces.errors import InputError
from tests.calibration.test_fits import DECODE, MEASUREMENTS, PREFILL, observed

FACTS = WorkerFacts(
    model="m", gpu="g", engine="vLLM", engine_version="0.32.0", clock="engine wall", date="2026-11",
    kv_capacity_tokens=50_000, kv_bytes_per_token=1024.0, overhead_s=0.01, max_num_seqs=256,
)  # fmt: skip


@pytest.fixture(scope="module")
def measurement() -> Measurement:
    return Measurement(observed(noise=0.02).assign(repeat=0, at_s=0.0), FACTS)


@pytest.fixture(scope="module")
def profile(measurement: Measurement) -> LatencyProfile:
    return profile_of(measurement, "mine", source="a test")


def test_a_profile_has_laws_facts_and_errors(measurement: Measurement, profile: LatencyProfile) -> None:
    true = replace(profile, prefill=PREFILL, decode=DECODE)
    assert profile.prefill_s(700) == pytest.approx(true.prefill_s(700), rel=0.05)
    assert profile.decode_s(20, 9000) == pytest.approx(true.decode_s(20, 9000), rel=0.05)
    assert (profile.kv_capacity_tokens, profile.kv_bytes_per_token, profile.overhead_s) == (50_000, 1024.0, 0.01)
    errors = profile.provenance.errors
    assert 0.005 < errors["decode_median"] < 0.03 and errors["decode_repeat_median"] < 0.03
    assert gaps(measurement) == () and "Not covered" not in profile.provenance.method


def test_a_profile_keeps_the_limits_that_are_known(profile: LatencyProfile) -> None:
    assert profile.provenance.limits == {"max_num_seqs": 256}
    assert LatencyProfile.from_dict(profile.to_dict()) == profile


def test_what_is_unknown_is_named(measurement: Measurement) -> None:
    steps = measurement.steps[measurement.steps["kind"] != "mixed"]
    bare = WorkerFacts("m", "g", "vLLM", "0.32.0", "wall", "2026-11", not_covered=("no long prompts",))
    unknown = Measurement(steps, bare)
    profile = profile_of(unknown, "bare")
    assert profile.kv_capacity_tokens == int(steps["context_tokens"].max())
    assert profile.kv_bytes_per_token == KV_BYTES_PER_TOKEN and profile.overhead_s == profile.mixed_overlap_s == 0.0
    told = gaps(unknown)
    assert told[0] == "no long prompts" and len(told) == 5
    assert all(sentence in profile.provenance.method for sentence in told)


def test_a_report_is_a_page_and_a_picture(measurement: Measurement, profile: LatencyProfile, tmp_path: Path) -> None:
    page, picture = write_report(measurement, profile, tmp_path / "mine")
    text = page.read_text(encoding="utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG") and "](mine.png)" in text
    for told in ("50,000 tokens", "256 requests", "engine wall", "Nothing is known to be missing", "| decode | a step"):
        assert told in text
    with pytest.raises(InputError, match="cannot be written"):
        write_report(measurement, profile, tmp_path / "nowhere" / "mine")


def test_a_report_of_steps_with_a_pace_and_without_mixed_ones(profile: LatencyProfile, tmp_path: Path) -> None:
    steps = observed(noise=0.05)
    steps = steps[steps["kind"] != "mixed"].assign(at_s=lambda s: 1.0 * s.index, repeat=lambda s: s.index // 80)
    page, _ = write_report(Measurement(steps, FACTS), profile, tmp_path / "other")
    assert "mixed steps not measured" in page.read_text(encoding="utf-8")


def test_readers_by_columns(measurement: Measurement, tmp_path: Path) -> None:
    measurement.save(tmp_path / "a.parquet")
    assert read_measurement(tmp_path / "a.parquet").facts == FACTS
    vllm = tmp_path / "steps.csv"
    vllm.write_text(
        "config,rep,n_prefill,sum_prefill,sum_sq,n_decode,sum_ctx,step_wall,exec_cpu\na,1,2,256,32768,0,0,40,38\n"
    )
    read = read_measurement(vllm, known={"model": "tiny", "kv_capacity_tokens": 4096})
    assert read.steps["seconds"].tolist() == pytest.approx([0.04]) and read.facts.clock == "step_wall"
    assert read.facts.kv_capacity_tokens == 4096 and read.facts.gpu == "unknown"
    assert read_measurement(vllm, clock="exec_cpu").steps["seconds"].tolist() == pytest.approx([0.038])
    aic = tmp_path / "aic.csv"
    aic.write_text(
        "model,system,perf_db_version,tp,kind,batch,context_tokens,prefill_tokens_in_step,decode_seqs_in_step,latency_ms\n"
        "m,h100,0.24.0,1,prefill,4,512,2048,0,42.0\nm,h100,0.24.0,2,decode,8,1024,0,8,6.5\n"
    )
    with pytest.raises(InputError, match=r"tp: None.*choose one of 1, 2"):
        read_measurement(aic)
    only_two = read_measurement(aic, only={"tp": 2})
    assert only_two.facts.tensor_parallel == 2 and only_two.facts.not_covered and len(only_two.steps) == 1


def test_a_report_goes_over_no_other_file(measurement: Measurement, profile: LatencyProfile, tmp_path: Path) -> None:
    page, picture = write_report(measurement, profile, tmp_path / "mine")
    assert write_report(measurement, profile, tmp_path / "mine") == (page, picture)  # over its own
    page.write_text("# A project\n", encoding="utf-8")
    before = picture.read_bytes()
    with pytest.raises(InputError, match=r"stem: .*mine' .* go over .*mine\.md, which is not one: give another name"):
        write_report(measurement, profile, tmp_path / "mine")
    page.unlink()
    with pytest.raises(InputError, match=r"go over .*mine\.png"):
        write_report(measurement, profile, tmp_path / "mine")
    assert picture.read_bytes() == before and not page.exists()


def test_facts_are_shown_with_the_digits_that_they_mean() -> None:
    assert [_shown(v) for v in (24_600.023460410557, 0.0048301219976565335, 10_880, True, "m")] == [
        "24,600", "0.00483", "10,880", "True", "m"
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "", "config,n_prefill,sum_prefill,sum_sq,n_decode,sum_ctx\n"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(text)
    with pytest.raises(InputError, match="path"):
        read_measurement(path)
    with pytest.raises(InputError, match="nowhere"):
        read_measurement(tmp_path / "nowhere.csv")


@pytest.mark.slow
@pytest.mark.skipif(not MEASUREMENTS.is_dir(), reason="the measurement files are not beside the project")
def test_laws_of_a_real_engine_hold_on_configurations_not_seen() -> None:
    errors = profile_of(read_measurement(MEASUREMENTS / "vllm_cpu_llama110m.csv"), "cpu").provenance.errors
    limits = {"prefill": (0.03, 0.10), "decode": (0.025, 0.08), "mixed": (0.05, 0.12)}
    for kind, (median, p95) in limits.items():
        assert errors[f"{kind}_configuration_paced_median"] < median and errors[f"{kind}_configuration_paced_p95"] < p95
        # A single step scatters around its own mean by about as much as the laws are off.
        assert errors[f"{kind}_median"] < 1.35 * errors[f"{kind}_repeat_median"]


def test_measurements_with_impossible_times_are_refused() -> None:
    steps = observed().assign(repeat=0, at_s=0.0)
    with pytest.raises(InputError, match=r"steps.seconds\[0\].*give seconds: a prefill step"):
        Measurement(steps.assign(seconds=steps["seconds"] / 1e3), FACTS)
    with pytest.raises(InputError, match="missing"):
        Measurement(pd.DataFrame({"kind": []}), FACTS)


@pytest.mark.parametrize("facts", [b'{"model":', b"[1]", b"7", b"\xff"])
def test_broken_facts_are_refused(measurement: Measurement, tmp_path: Path, facts: bytes) -> None:
    path = tmp_path / "steps.parquet"
    measurement.save(path)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"aladdin_measurement": facts}), path)
    with pytest.raises(InputError, match=r"steps.parquet.*facts are broken: measure again") as refused:
        read_measurement(path)
    assert "\n" not in str(refused.value)


def test_a_measurement_has_no_runs_to_choose_from(measurement: Measurement, tmp_path: Path) -> None:
    measurement.save(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"where: .*of one worker"):
        read_measurement(tmp_path / "a.parquet", only={"gpu": "h100"})
