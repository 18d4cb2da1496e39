"""A real vLLM, measured from outside: the client's record, the facts and a short calibration."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aladdin_calibration import fits, forms
from aladdin_calibration.measurement import Measurement
from aladdin_calibration.server import Client, Completion, Plan, measure_server
from aladdin_calibration.server.prompts import Prompts
from aladdin_traces.errors import InputError

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def url(servers: list[str]) -> str:
    return servers[1]  # the other one is calibrated by another test, which must find it idle


def ask(url: str, tokens: int, output: int) -> Completion:
    async def one() -> Completion:
        async with Client(url) as client:
            await client.models()
            return await client.complete(Prompts(client, 5).fresh(tokens), output)

    return asyncio.run(one())


def test_tokens_are_counted_and_timed(url: str) -> None:
    record = ask(url, 100, 12)
    assert record.error is None
    assert (record.prompt_tokens, record.output_tokens, len(record.token_s)) == (100, 12, 12)
    assert record.sent_s < record.first_token_s < record.last_token_s <= record.ended_s
    if record.server is not None:
        assert 0.0 < record.server.first_token_s < record.ttft_s
        assert record.server.generation_s / 11 == pytest.approx(record.server.token_s, rel=1e-3)


def test_a_prompt_beyond_the_model_is_refused_in_one_line(url: str) -> None:
    record = ask(url, 200_000, 1)
    assert record.status == 400 and record.error.startswith("the server answers 400: ")


def test_a_wrong_model_names_the_served_ones(url: str) -> None:
    async def one() -> None:
        async with Client(url, "no-such-model") as client:
            await client.models()

    with pytest.raises(InputError, match="the server has "):
        asyncio.run(one())


@pytest.mark.slow
def test_a_short_calibration_can_be_fitted_and_continued(url: str, tmp_path: Path) -> None:
    path = tmp_path / "steps.parquet"
    plan = Plan(budget_s=30.0, max_prompt_tokens=256, max_batch=4, decode_steps=8, max_num_batched_tokens=2048)
    measured = measure_server(url, plan, path)
    facts = measured.facts
    assert facts.engine == "vllm" and facts.kv_capacity_tokens and facts.block_size and facts.max_model_len
    assert {"prefill", "decode"} <= set(measured.steps["kind"])
    fitted = fits.fit_laws(measured.steps)
    assert forms.predict(measured.steps, fitted.prefill, fitted.decode, fitted.mixed_overlap_s).min() > 0.0
    again = measure_server(url, plan, path)
    assert again.steps.iloc[: len(measured.steps)].equals(Measurement.load(path).steps.iloc[: len(measured.steps)])
