"""Measuring a server from outside: known laws come back, and no failure loses what is there."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aladdin_calibration import fits, forms
from aladdin_calibration.measurement import Measurement, WorkerFacts
from aladdin_calibration.server import Client, Plan, ServerFault, measure_server
from aladdin_calibration.server.facts import _bytes_per_token, go_on, with_limits
from aladdin_calibration.server.limits import keeps_prefixes, kv_tokens, running_at_once, tokens_per_step
from aladdin_calibration.server.prompts import Prompts
from aladdin_traces.errors import InputError

from .mock_vllm import DECODE, OVERLAP_S, PREFILL, serving

SMALL = Plan(
    budget_s=40.0,
    max_prompt_tokens=400,
    max_batch=4,
    decode_steps=4,
    min_repeats=2,
    max_repeats=2,
    gpu="mock",
    max_num_batched_tokens=256,
    stall_s=10.0,
)
QUICK = Plan(
    budget_s=10.0, max_prompt_tokens=64, max_batch=2, decode_steps=2, min_repeats=2, max_repeats=2,
    max_num_seqs=4, max_num_batched_tokens=256, stall_s=2.0,
)  # fmt: skip

FACTS = WorkerFacts("m", "unknown", "vllm", "0.32.0", "client", "2026-11-27")


def errors(steps) -> np.ndarray:
    """Relative errors of the observed seconds against the mock's laws."""
    return np.abs(steps["seconds"].to_numpy() / forms.predict(steps, PREFILL, DECODE, OVERLAP_S) - 1.0)


@pytest.fixture(scope="module")
def measured() -> Measurement:
    with serving() as mock:
        return measure_server(mock.url, SMALL)


def test_facts_of_the_server(measured: Measurement) -> None:
    facts = measured.facts
    assert (facts.model, facts.gpu, facts.engine, facts.engine_version) == ("m", "mock", "vllm", "0.32.0")
    assert (facts.kv_capacity_tokens, facts.block_size, facts.max_model_len) == (16384, 16, 1024)
    assert (facts.max_num_seqs, facts.max_num_batched_tokens, facts.prefix_cache) == (8, 256, False)
    assert facts.clock.startswith("server's own")
    assert 0.0 < facts.overhead_s < 0.05
    assert "batches above 4 requests" in facts.not_covered and "prompts above 400 tokens" in facts.not_covered


def test_steps_on_the_servers_clock_are_exact(measured: Measurement) -> None:
    steps = measured.steps
    alone = steps[steps["config"].str.startswith("prefill-1x")]
    assert set(alone["prefill_tokens"]) >= {16, 32, 64, 128, 256} and errors(alone).max() < 1e-6
    decode = steps[steps["kind"] == "decode"]
    assert set(decode["batch"]) >= {1, 2, 4} and errors(decode).max() < 1e-3  # a token more or less of context
    together = steps[(steps["kind"] == "prefill") & ~steps["config"].str.startswith("prefill-1x")]
    assert len(together) and errors(together).max() < 1e-6


def test_mixed_steps_are_near_the_truth(measured: Measurement) -> None:
    mixed = measured.steps[measured.steps["kind"] == "mixed"]
    assert np.median(errors(mixed)) < 0.2  # the client's clock, on a busy machine
    long = mixed[mixed["config"].str.endswith("+400")]
    assert set(long["prefill_tokens"]) == {255, 145}  # cut where the token budget of a step ends
    assert set(long["sum_squares"]) == {255.0**2, 145.0 * (2 * 255 + 145)}


def test_laws_come_back(measured: Measurement) -> None:
    fitted = fits.fit_laws(measured.steps)
    steps = measured.steps[measured.steps["kind"] != "mixed"]
    seconds = forms.predict(steps, fitted.prefill, fitted.decode, fitted.mixed_overlap_s)
    assert np.abs(seconds / forms.predict(steps, PREFILL, DECODE, OVERLAP_S) - 1.0).max() < 0.02


@pytest.mark.parametrize("metrics", [True, False])
def test_without_its_own_clock(metrics: bool) -> None:
    with serving(per_request_metrics=False, metrics=metrics, max_num_seqs=4) as mock:
        measured = measure_server(mock.url, QUICK)
    assert measured.facts.clock.startswith("single prefills: server's histograms" if metrics else "client")
    assert np.median(errors(measured.steps)) < 0.25
    if metrics:
        alone = measured.steps[measured.steps["config"].str.startswith("prefill-1x")]
        assert errors(alone).max() < 1e-6
    else:
        assert measured.facts.kv_capacity_tokens is None
        assert any("others" in gap for gap in measured.facts.not_covered)


def test_text_prompts_where_the_server_takes_no_ids() -> None:
    with serving(token_prompts=False, extras=False) as mock:
        measured = measure_server(mock.url, QUICK)
    assert isinstance(mock.bodies[-1]["prompt"], str) and "ignore_eos" not in mock.bodies[-1]
    assert np.median(errors(measured.steps)) < 0.25


def test_limits_of_a_server() -> None:
    async def look(url: str) -> list[object]:
        async with Client(url, "m") as client:
            prompts = Prompts(client, 1)
            found = [await running_at_once(client, prompts, most, 5.0) for most in (4, 16)]
            found += [await keeps_prefixes(client, prompts)]
            return [*found, *[await tokens_per_step(client, prompts, n, 5.0) for n in (100, 800)]]

    with serving(max_num_seqs=5, prefix_label=False, pace=5.0) as mock:  # long steps stand out on a busy machine
        assert asyncio.run(look(mock.url)) == [None, 5, True, (None, 100), (256, 256)]


def test_kv_capacity_by_filling() -> None:
    async def fill(url: str) -> list[int | None]:
        async with Client(url, "m") as client:
            prompts = Prompts(client, 1)
            return [await kv_tokens(client, prompts, 500, most, 5.0) for most in (1000, 4000)]

    with serving(kv_tokens=2200) as mock:
        too_little, found = asyncio.run(fill(mock.url))
    assert too_little is None and found is not None
    assert 1700 < found < 2200 + 4 * 500  # what was generated meanwhile is held, too


def test_prompts_are_never_repeated() -> None:
    with serving() as mock:
        measure_server(mock.url, QUICK)
    long = [tuple(body["prompt"]) for body in mock.bodies if len(body["prompt"]) >= 16]
    assert len(set(long)) == len(long)


@pytest.mark.parametrize("fault", ["status", "broken", "garbage", "hang"])
def test_a_server_that_fails_half_way(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "steps.parquet"
    with serving(fault=fault, fault_after=7) as mock:
        with pytest.raises(ServerFault, match=rf"steps are kept in {path}: the same command goes on") as failed:
            measure_server(mock.url, QUICK, path)
        assert "\n" not in str(failed.value)
        kept = Measurement.load(path)
        mock.settings.fault = "none"
        whole = measure_server(mock.url, QUICK, path)
    assert len(whole.steps) > len(kept.steps) > 0
    assert whole.steps.iloc[: len(kept.steps)].equals(kept.steps)
    assert Measurement.load(path).steps.equals(whole.steps)
    assert not any("not measured" in gap for gap in whole.facts.not_covered)
    assert [file.name for file in tmp_path.iterdir()] == ["steps.parquet"]


def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    path = tmp_path / "steps.parquet"
    with serving() as mock:
        once = measure_server(mock.url, QUICK, path)
        asked = len(mock.bodies)
        again = measure_server(mock.url, QUICK, path)
        assert len(mock.bodies) - asked <= 5  # the dialect, and the pace
    assert again.steps.equals(once.steps)


def test_another_servers_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "steps.parquet"
    with serving() as mock:
        measure_server(mock.url, QUICK, path)
    before = path.read_bytes()
    with (
        serving(model="other") as mock,
        pytest.raises(InputError, match=r"of another server \(model 'm', here 'other'"),
    ):
        measure_server(mock.url, QUICK, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["strangers", "hang_ups", "early_hang_ups"])
def test_others_on_the_server_end_the_run(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "steps.parquet"
    with serving() as mock:

        def come(done: int, total: int, message: str) -> None:
            setattr(mock.settings, kind, int(done >= 3))

        with pytest.raises(ServerFault, match=r"others use .*requests came in between.*steps are kept"):
            measure_server(mock.url, QUICK, path, progress=come)
    assert len(Measurement.load(path).steps)


def test_a_server_that_works_for_others_is_not_measured() -> None:
    async def while_busy(url: str) -> None:
        async with Client(url, "m") as client:
            task = asyncio.create_task(client.complete([1] * 16, 1000))
            await asyncio.sleep(0.2)
            try:
                await asyncio.to_thread(measure_server, url, QUICK)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    with serving() as mock, pytest.raises(ServerFault, match="others use"):
        asyncio.run(while_busy(mock.url))


def test_ctrl_c_keeps_what_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "steps.parquet"

    def stop(done: int, total: int, message: str) -> None:
        if done == 1:  # one configuration is measured
            signal.raise_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with serving() as mock, pytest.raises(KeyboardInterrupt, match=rf"steps are kept in {path}: the same command"):
            measure_server(mock.url, replace(QUICK, budget_s=60.0), path, progress=stop)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert len(Measurement.load(path).steps)


def test_servers_that_cannot_be_measured() -> None:
    with serving(engines=2) as mock, pytest.raises(ServerFault, match="among 2 engines"):
        measure_server(mock.url, QUICK)
    with (
        serving(fault="json") as mock,
        pytest.raises(ServerFault, match="cannot be measured: the server does not stream"),
    ):
        measure_server(mock.url, QUICK)
    with serving(fault="status") as mock, pytest.raises(ServerFault, match="answers 503: overloaded"):
        measure_server(mock.url, QUICK)


def test_the_load_is_asked_for_and_bounded() -> None:
    asked: list[str] = []
    with serving() as mock:
        with pytest.raises(ServerFault, match="not approved"):
            measure_server(mock.url, QUICK, approve=lambda load: bool(asked.append(load)))
        assert len(mock.bodies) == 1
    assert "up to 2 requests and 8192 tokens of context at once, for about 1 min" in asked[0]


def test_the_time_budget_holds() -> None:
    plan = Plan(budget_s=1.0, max_num_seqs=8, max_num_batched_tokens=256, max_prompt_tokens=64)
    with serving() as mock:
        measured = measure_server(mock.url, plan)
    assert measured.steps["at_s"].max() < 2.0
    assert any("not measured" in gap for gap in measured.facts.not_covered)


def test_mistakes_of_the_user(tmp_path: Path) -> None:
    for wrong in ({"budget_s": 0}, {"max_share": 1.5}, {"min_repeats": 4, "max_repeats": 3}, {"max_batch": 0}):
        with pytest.raises(InputError):
            Plan(**wrong)
    with pytest.raises(InputError, match="folder that exists"):
        measure_server("http://127.0.0.1:9", path=tmp_path / "no" / "steps.parquet")
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="Parquet"):
        measure_server("http://127.0.0.1:9", path=tmp_path / "x.parquet")


def test_a_server_restarted_with_other_limits_is_not_continued(tmp_path: Path) -> None:
    path, plan = tmp_path / "steps.parquet", replace(QUICK, max_num_seqs=None)
    with serving(max_num_seqs=4) as mock:
        measure_server(mock.url, plan, path)
    before = path.read_bytes()
    with serving(max_num_seqs=3) as mock, pytest.raises(InputError, match=r"another max_num_seqs \(4 then, 3 now\)"):
        measure_server(mock.url, plan, path)
    assert path.read_bytes() == before


def test_a_limit_that_an_earlier_run_found_is_a_gap_no_longer() -> None:
    found = replace(FACTS, max_num_seqs=8, max_num_batched_tokens=256)
    for name in ("max_num_seqs", "max_num_batched_tokens"):
        lost = replace(found, **{name: None}).without(name, "not found this time").with_gap("batches above 4 requests")
        assert with_limits(lost, found, "x") == replace(found, not_covered=("batches above 4 requests",))
    unknown = replace(FACTS, max_num_seqs=None).without("max_num_seqs", "not reached with 9 requests")
    assert with_limits(unknown, replace(FACTS, max_num_seqs=None), "x") == unknown
    assert unknown.knowing(max_num_seqs=4).not_covered == ()


def test_a_roughly_known_capacity_stays_rough() -> None:
    filled = replace(FACTS, kv_capacity_tokens=900).without("kv_capacity_tokens", "by filling, to within 99 tokens")
    assert go_on(replace(FACTS, kv_capacity_tokens=None), filled, "x") == filled


def test_labels_that_only_the_user_gives_do_not_make_another_server() -> None:
    labelled = replace(FACTS, gpu="H100", tensor_parallel=2)
    assert go_on(labelled, FACTS, "x") == labelled  # given this time
    assert go_on(FACTS, labelled, "x") == labelled  # given then
    with pytest.raises(InputError, match=r"another server \(gpu 'A100', here 'H100'\)"):
        go_on(labelled, replace(FACTS, gpu="A100"), "x")
    with pytest.raises(InputError, match=r"another server \(tensor_parallel 4, here 2\)"):
        go_on(labelled, replace(FACTS, tensor_parallel=4), "x")


def test_kv_bytes_per_token_are_the_models() -> None:
    """vLLM tells the memory that it set aside, some of which is too little for a block."""
    blocks, block = 682, 32 * 24_576  # a model of 24,576 bytes a token in 512 MiB
    told = {"kv_cache_memory_bytes": str(512 * 2**20), "num_gpu_blocks": str(blocks), "block_size": "32"}
    assert 512 * 2**20 // block == blocks and _bytes_per_token(told) == 24_576.0
    assert _bytes_per_token({**told, "kv_cache_memory_bytes": "None"}) is None
