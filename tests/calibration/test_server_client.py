"""The client of completion servers: what it times, and how each failure of a server looks."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest

from aladdin_calibration.server import Client, Completion, Dialect, ServerFault
from aladdin_calibration.server.stream import EventReader, StreamError
from aladdin_env.bridge.workers.address import worker_url
from aladdin_traces.errors import InputError

from .mock_vllm import MockVllm, serving


def ask(mock: MockVllm, prompt=(5, 6, 7), tokens: int = 4, **options) -> Completion:
    async def one() -> Completion:
        async with Client(mock.url, "m", **options) as client:
            return await client.complete(prompt, tokens)

    return asyncio.run(one())


def models(url: str, model: str | None = None, **options) -> str | None:
    async def one() -> str | None:
        async with Client(url, model, **options) as client:
            await client.models()
            return client.model

    return asyncio.run(one())


def test_every_token_is_timed_on_both_clocks() -> None:
    with serving() as mock:
        record = ask(mock, tokens=6)
    assert record.error is None and record.status == 200
    assert (record.prompt_tokens, record.output_tokens, len(record.token_s)) == (3, 6, 6)
    assert record.sent_s < record.first_token_s < record.last_token_s <= record.ended_s
    seconds = [step[-1] for step in mock.steps]
    assert record.server.first_token_s == pytest.approx(seconds[0])
    assert record.server.generation_s == pytest.approx(sum(seconds[1:])) and record.server.queue_s == 0.0
    assert record.server.token_s == pytest.approx(sum(seconds[1:]) / 5)
    assert record.ttft_s > seconds[0] and record.atgt_s == pytest.approx(record.server.token_s, rel=0.5)


def test_servers_that_tell_less() -> None:
    with serving(per_request_metrics=False, extras=False, token_prompts=False) as mock:
        record = ask(mock, "the of and", dialect=Dialect(False, False))
        refused = ask(mock)
    assert record.server is None and (record.prompt_tokens, record.output_tokens) == (3, 4)
    assert refused.error == "the server answers 400: prompt must be a string"
    assert "ignore_eos" not in mock.bodies[0]


FAULTS = {
    "status": "the server answers 503: overloaded",
    "redirect": "the server answers 307: Temporary Redirect",
    "json": "the server does not stream (it answers application/json)",
    "garbage": "the server streams something that is no completion: b'<html>'",
    "error": "the server says: EngineCore died",
    "broken": "the stream broke off after 1 tokens",
    "hang": "no answer within 0.3 s",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_in_the_record(fault: str) -> None:
    with serving(fault=fault) as mock:
        record = ask(mock, stall_s=0.3 if fault == "hang" else 5.0)  # a busy machine must not look like a fault
    assert record.error == FAULTS[fault]
    assert record.ended_s - record.sent_s < 5.0


def test_nothing_listens() -> None:
    with serving() as mock:
        pass
    assert ask(mock).error == "no connection (Connection refused)"
    with pytest.raises(InputError, match=r"url: .* start the server or mend the address .*Connection refused"):
        models(mock.url)


def test_the_key_is_sent_and_never_shown(monkeypatch) -> None:
    monkeypatch.setenv("TEST_KEY", "s3cret")
    with serving(api_key="s3cret") as mock:
        assert models(mock.url, api_key_env="TEST_KEY") == "m"
        with pytest.raises(InputError, match="answers 401"):
            models(mock.url)
        monkeypatch.setenv("TEST_KEY", "wr0ng")
        with pytest.raises(InputError, match="name the environment variable") as refused:
            models(mock.url, api_key_env="TEST_KEY")
    assert "wr0ng" not in str(refused.value)
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(InputError, match=r"TEST_KEY.*set this environment variable"):
        Client(mock.url, api_key_env="TEST_KEY")


def test_a_wrong_model_is_answered_with_the_right_ones() -> None:
    with serving(model="llama") as mock:
        assert models(mock.url) == "llama"
        with pytest.raises(InputError, match=r"model: 'x' .* the server has llama"):
            models(mock.url, "x")


def test_an_address_is_checked() -> None:
    assert worker_url(" https://host:8000/prefix/v1/ ") == "https://host:8000/prefix"
    for wrong in ("worker:8000", "http://", "http://h:x", "ftp://h", "http://h/?q=1"):
        with pytest.raises(InputError, match="http://worker:8000"):
            worker_url(wrong)
    with pytest.raises(InputError, match="without user and password") as named:
        worker_url("http://me:s3cret@host")
    assert "s3cret" not in str(named.value)


def test_events_may_come_in_pieces_and_garbage_is_named() -> None:
    record = Completion(2)
    reader = EventReader(record)
    assert not reader.feed(b': ping\n\ndata: {"choices": [{"te', 1.0)
    assert reader.feed(b'xt": "", "token_ids": [1, 2]}]}\n\n', 2.0)
    with pytest.raises(StreamError, match="broke off after 2 tokens"):
        reader.close()
    reader.feed(b"data: [DONE]\n", 3.0)
    reader.close()
    assert record.token_s == [2.0, 2.0]
    for wrong in (b"hello\n", b"data: 1\n", b'data: {"choices": 3}\n', b'data: {"choices": [{}]}\n'):
        with pytest.raises(StreamError, match="streams something"):
            EventReader(Completion(1)).feed(wrong, 0.0)


def test_server_fault_is_no_input_error() -> None:
    with serving() as mock:
        url = mock.url

        async def get() -> None:
            async with Client(url) as client:
                mock.settings.metrics = False
                assert (await client.get("/metrics"))[0] == 404
            async with Client("http://127.0.0.1:9") as client:
                await client.get("/metrics")

        with pytest.raises(ServerFault, match="no connection"):
            asyncio.run(get())


def test_importing_it_needs_no_http_library() -> None:
    code = (
        "import sys; sys.modules.update(aiohttp=None, prometheus_client=None); import aladdin_calibration.server as s\n"
    )
    code += "try: s.Client('http://h')\nexcept ValueError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "pip install 'aladdin-env[serve]'" in done.stdout


def test_a_port_that_takes_connections_and_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aladdin_calibration.server.client._FIRST_ANSWER_S", 0.2)

    async def one(url: str) -> None:
        async with Client(url) as client:
            await client.models()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=r"no answer within 0\.2 s"):
            asyncio.run(one(url))
