"""How long a prompt is: estimated, counted by a worker, counted by a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aladdin_env.bridge.gateway.asked import CHAT, COMPLETIONS, read
from aladdin_env.bridge.gateway.lengths import PromptLengths
from aladdin_env.bridge.gateway.settings import GatewaySettings
from aladdin_env.bridge.gateway.tokenisers import FileTokeniser, tokeniser
from aladdin_env.bridge.gateway.upstream import Upstream
from aladdin_env.bridge.workers.worker import Identity, LiveWorker
from aladdin_env.errors import InputError


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_the_estimate_of_a_prompt_learns_from_the_workers() -> None:
    lengths = PromptLengths(bytes_per_token=4.0)
    asked = read(COMPLETIONS, body(prompt="x" * 400))
    assert lengths.of(asked) == 100
    for _ in range(400):
        lengths.learn(asked, 200)
    assert lengths.of(asked) == pytest.approx(200, abs=3)
    exact = read(COMPLETIONS, body(prompt=[5] * 17))
    lengths.learn(exact, 20)
    assert lengths.of(exact) == 17
    assert lengths.of(read(COMPLETIONS, body(prompt=""))) == 1


class Counting:
    """A worker that counts words, or that does not count."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: web.Response | None = None

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body)
        return web.json_response({"count": len(json.dumps(self.asked[-1]).split()), "tokens": []})


@asynccontextmanager
async def counted() -> AsyncIterator[tuple[Counting, PromptLengths]]:
    counting = Counting()
    app = web.Application()
    app.router.add_post("/tokenize", counting.handle)
    server = TestServer(app)
    await server.start_server()
    worker = LiveWorker(0)
    worker.house(str(server.make_url("")).rstrip("/"))
    worker.admit(Identity("m", ("m",)))
    upstream = Upstream(GatewaySettings())
    await upstream.open()
    try:
        yield counting, PromptLengths(tokeniser("worker", [worker], upstream))
    finally:
        await upstream.close()
        await server.close()


def test_a_worker_is_asked_for_the_very_prompt() -> None:
    async def course() -> None:
        async with counted() as (counting, lengths):
            text = read(COMPLETIONS, body(model="m", prompt="one two three", max_tokens=7))
            assert lengths.needs_counting(text)
            assert await lengths.counted(COMPLETIONS, text) == 6
            chat = read(CHAT, body(model="m", messages=[{"role": "user", "content": "hello"}], tools=[], stream=True))
            await lengths.counted(CHAT, chat)
            assert counting.asked == [
                {"model": "m", "prompt": "one two three"},
                {"model": "m", "messages": [{"role": "user", "content": "hello"}], "tools": []},
            ]
            assert not lengths.needs_counting(read(COMPLETIONS, body(prompt=[1, 2, 3])))
            several = read(COMPLETIONS, body(prompt=["a" * 40, "b" * 40]))
            assert await lengths.counted(COMPLETIONS, several) == lengths.of(several)
            assert len(counting.asked) == 2

    asyncio.run(course())


@pytest.mark.parametrize(
    "answer", [web.Response(status=404), web.Response(text="no json"), web.Response(text="{}"), web.Response(text="[]")]
)
def test_a_worker_that_does_not_count_is_left_alone(answer: web.Response) -> None:
    async def course() -> None:
        async with counted() as (counting, lengths):
            counting.answer = answer
            asked = read(COMPLETIONS, body(prompt="x" * 400))
            for _ in range(5):
                assert await lengths.counted(COMPLETIONS, asked) == 100
            assert len(counting.asked) == 3

    asyncio.run(course())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A tokeniser of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_a_file_counts_text_short_and_long(file: Path) -> None:
    async def course() -> None:
        lengths = PromptLengths(FileTokeniser(file))
        assert await lengths.counted(COMPLETIONS, read(COMPLETIONS, body(prompt="hello my friend"))) == 3
        assert await lengths.counted(COMPLETIONS, read(COMPLETIONS, body(prompt="hello " * 5000))) == 5000
        chat = read(CHAT, body(messages=[{"role": "user", "content": "hello you"}] * 2))
        assert await lengths.counted(CHAT, chat) == 12

    asyncio.run(course())


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    upstream = Upstream(GatewaySettings())
    with pytest.raises(InputError, match="that exists"):
        tokeniser(str(tmp_path / "none.json"), [], upstream)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="of Hugging Face"):
        tokeniser(str(tmp_path / "bad.json"), [], upstream)
    assert tokeniser("estimate", [], upstream) is None
