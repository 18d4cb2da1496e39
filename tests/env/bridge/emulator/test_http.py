"""What clients see of an emulated worker: OpenAI's answers as vLLM gives them, token by token, and its refusals."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from aladdin_env.bridge.emulator.text import Tokens
from tests.env.bridge.emulator.cases import HandClock, one_by_one, serving, toy_kind, until

PROMPT = "Tell me of the sea"
FAST = 1e4


def ask(chat: bool, **body: object) -> tuple[str, dict[str, object]]:
    """Path and body of a completion."""
    if chat:
        return "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": PROMPT}], **body}
    return "/v1/completions", {"model": "m", "prompt": PROMPT, **body}


def events_of(data: bytes) -> list[dict]:
    """The events of a whole stream, without the last one, which must say that it is the last."""
    *lines, last, end = data.decode().split("\n\n")
    assert (last, end) == ("data: [DONE]", "")
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line[6:]) for line in lines]


async def post(client: aiohttp.ClientSession, path: str, body: dict, **options: object) -> tuple[int, dict]:
    async with client.post(path, json=body, **options) as response:
        return response.status, await response.json()


async def stream(client: aiohttp.ClientSession, path: str, body: dict) -> list[dict]:
    async with client.post(path, json={"stream": True, **body}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        return events_of(await response.read())


def text_of(event: dict, chat: bool) -> str:
    (choice,) = event["choices"]
    return choice["delta"]["content"] if chat else choice["text"]


@pytest.mark.parametrize("chat", [False, True])
def test_stream_says_what_the_whole_answer_says(chat: bool) -> None:
    async def main() -> None:
        async with serving(speed=FAST) as (_, client):
            path, body = ask(chat, max_tokens=6, ignore_eos=True)
            status, whole = await post(client, path, body)
            events = await stream(client, path, body)
        assert status == 200
        assert whole["object"] == ("chat.completion" if chat else "text_completion")
        assert whole["model"] == "m"
        (choice,) = whole["choices"]
        assert choice["finish_reason"] == "length"
        assert choice["index"] == 0
        said = choice["message"]["content"] if chat else choice["text"]
        assert len(Tokens.of_text(said)) == 6
        prompt = whole["usage"]["prompt_tokens"]
        assert whole["usage"] == {"prompt_tokens": prompt, "completion_tokens": 6, "total_tokens": prompt + 6}
        assert {event["object"] for event in events} == {"chat.completion.chunk" if chat else "text_completion"}
        assert len({event["id"] for event in events}) == 1
        assert whole["id"].startswith("chatcmpl-" if chat else "cmpl-")
        assert "".join(text_of(event, chat) for event in events) == said
        reasons = [event["choices"][0]["finish_reason"] for event in events]
        assert reasons == [None] * (len(events) - 1) + ["length"]
        if chat:
            assert choice["message"]["role"] == "assistant"
            assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
            assert all("role" not in event["choices"][0]["delta"] for event in events[1:])
        assert all("usage" not in event for event in events)

    asyncio.run(main())


@pytest.mark.parametrize("chat", [False, True])
def test_usage_and_token_ids_where_they_are_asked_for(chat: bool) -> None:
    async def main() -> None:
        clock = HandClock()
        async with serving(clock=clock) as (server, client):
            options = {"include_usage": True, "continuous_usage_stats": True}
            path, body = ask(chat, max_tokens=3, ignore_eos=True, stream_options=options, return_token_ids=True)
            told = await one_by_one(server, client, clock, path, body)
        *events, last = events_of(b"".join(event for _, event in told))
        assert last["choices"] == []
        prompt = last["usage"]["prompt_tokens"]
        assert last["usage"] == {"prompt_tokens": prompt, "completion_tokens": 3, "total_tokens": prompt + 3}
        counts = [event["usage"]["completion_tokens"] for event in events]
        assert counts == ([0, 1, 2, 3] if chat else [1, 2, 3])
        ids = [one for event in events for one in event["choices"][0].get("token_ids", [])]
        assert Tokens.of_ids(ids).text == "".join(text_of(event, chat) for event in events)
        assert len(ids) == 3
        first = events[0] if chat else events[0]["choices"][0]
        assert len(first["prompt_token_ids"]) == prompt
        assert all("prompt_token_ids" not in event["choices"][0] for event in events[1:])

    asyncio.run(main())


def test_tokens_come_one_by_one_each_at_its_time() -> None:
    async def main() -> None:
        clock = HandClock()
        kind = toy_kind(prefill_s=0.5, decode_s=0.25, overhead_s=0.125)
        async with serving(kind, clock) as (server, client):
            path, body = ask(False, max_tokens=4, ignore_eos=True)
            told = await one_by_one(server, client, clock, path, body)
        seen = [time_s for time_s, event in told if b"choices" in event]
        assert seen == [0.625, 0.875, 1.125, 1.375]

    asyncio.run(main())


def test_same_prompt_has_the_same_answer_on_every_worker() -> None:
    async def main() -> None:
        answers = []
        for kind, seed in ((toy_kind(), 1), (toy_kind(scheduler="prefill_first", prefill_s=0.3), 1), (toy_kind(), 2)):
            async with serving(kind, speed=FAST, seed=seed, output_tokens=40.0) as (_, client):
                path, body = ask(True, max_tokens=1000)
                _, answer = await post(client, path, body)
                ids = {"prompt": Tokens.of_text(PROMPT).ids, "max_tokens": 5, "ignore_eos": True}
                _, as_ids = await post(client, "/v1/completions", ids)
                _, as_text = await post(client, "/v1/completions", ids | {"prompt": PROMPT})
                assert as_ids["choices"] == as_text["choices"]
                answers.append(answer["choices"][0])
        assert answers[0] == answers[1]
        assert answers[0]["finish_reason"] == "stop"
        assert answers[0] != answers[2], "another seed, another answer"

    asyncio.run(main())


def test_limits_of_length_are_kept() -> None:
    async def main() -> None:
        async with serving(speed=FAST, output_tokens=3.0, max_model_len=300) as (_, client):
            path, body = ask(False)
            counts = {}
            for name, extra in {
                "default": {"ignore_eos": True},
                "cut": {"max_tokens": 1},
                "least": {"max_tokens": 200, "min_tokens": 100},
                "all": {"max_tokens": 250, "ignore_eos": True},
            }.items():
                _, answer = await post(client, path, body | extra)
                counts[name] = answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]
            _, chat = await post(client, *ask(True, ignore_eos=True))
        assert counts["default"] == (16, "length"), "OpenAI's default"
        assert counts["cut"] == (1, "length")
        assert counts["least"][0] >= 100
        assert counts["all"] == (250, "length")
        assert chat["usage"]["total_tokens"] == 300, "a chat goes on to the end of the context"

    asyncio.run(main())


def test_per_request_metrics_are_the_workers_own_clock() -> None:
    async def main() -> None:
        clock = HandClock()
        kind = toy_kind(prefill_s=0.5, decode_s=0.25, overhead_s=0.125)
        async with serving(kind, clock, per_request_metrics=True) as (server, client):
            path, body = ask(False, max_tokens=3, ignore_eos=True, stream_options={"include_usage": True})
            answer = asyncio.create_task(stream(client, path, body))
            await until(lambda: server.worker.in_flight == 1)
            while clock.step():
                pass
            *_, last = await answer
        assert last["metrics"] == pytest.approx(
            {
                "time_to_first_token_ms": 500.0,
                "generation_time_ms": 500.0,
                "queue_time_ms": 0.0,
                "mean_itl_ms": 250.0,
                "tokens_per_second": 3.0,
            }
        )

    asyncio.run(main())


BAD = {
    "n": ({"n": 2}, "n"),
    "best_of": ({"best_of": 3}, "best_of"),
    "several prompts": ({"prompt": ["a", "b"]}, "prompt"),
    "no prompt": ({"prompt": None}, "prompt"),
    "an empty prompt": ({"prompt": ""}, "prompt"),
    "an empty list": ({"prompt": []}, "prompt"),
    "a token that is none": ({"prompt": [1, -1]}, "prompt"),
    "a token that is too large": ({"prompt": [2**32]}, "prompt"),
    "a token of text": ({"prompt": [1, "a"]}, "prompt"),
    "a long prompt": ({"prompt": [7] * 300}, "max_tokens"),
    "a long answer": ({"max_tokens": 300}, "max_tokens"),
    "no answer": ({"max_tokens": 0}, "max_tokens"),
    "half a token": ({"max_tokens": 1.5}, "max_tokens"),
    "true tokens": ({"max_tokens": True}, "max_tokens"),
    "more than the most": ({"max_tokens": 5, "min_tokens": 6}, "min_tokens"),
    "stream": ({"stream": "yes"}, "stream"),
    "options without a stream": ({"stream_options": {}}, "stream_options"),
    "options": ({"stream": True, "stream_options": []}, "stream_options"),
    "logprobs": ({"logprobs": 1}, "logprobs"),
    "echo": ({"echo": True}, "echo"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_completion_is_refused(name: str) -> None:
    change, param = BAD[name]

    async def main() -> None:
        async with serving(speed=FAST, max_model_len=256) as (server, client):
            path, body = ask(False)
            status, answer = await post(client, path, body | change)
            assert server.worker.measures.prompt_tokens == 0
        assert status == 400
        assert answer["error"]["type"] == "BadRequestError"
        assert answer["error"]["code"] == 400
        assert answer["error"]["param"] == param
        assert answer["error"]["message"]

    asyncio.run(main())


@pytest.mark.parametrize(
    "messages",
    [None, [], "hello", ["hello"], [{"content": "hello"}], [{"role": "user", "content": 5}],
     [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]],
)  # fmt: skip
def test_a_bad_chat_is_refused(messages: object) -> None:
    async def main() -> None:
        async with serving(speed=FAST) as (_, client):
            path, body = ask(True)
            status, answer = await post(client, path, body | {"messages": messages})
        assert status == 400
        assert answer["error"]["param"] == "messages"

    asyncio.run(main())


def test_a_message_may_come_in_parts() -> None:
    async def main() -> None:
        parts = [{"type": "text", "text": PROMPT[:7]}, {"type": "text", "text": PROMPT[7:]}]
        async with serving(speed=FAST) as (_, client):
            path, body = ask(True, max_tokens=5, ignore_eos=True)
            _, whole = await post(client, path, body)
            _, in_parts = await post(client, path, body | {"messages": [{"role": "user", "content": parts}]})
        assert whole["choices"] == in_parts["choices"]

    asyncio.run(main())


def test_what_is_no_completion_is_refused_with_its_status() -> None:
    async def main() -> None:
        async with serving(speed=FAST, max_body_bytes=1000) as (_, client):
            path, body = ask(False)
            answers = {}
            for name, sent in {
                "model": client.post(path, json=body | {"model": "other"}),
                "json": client.post(path, data=b'{"prompt": ', headers={"Content-Type": "application/json"}),
                "depth": client.post(path, data=b"[" * 900, headers={"Content-Type": "application/json"}),
                "list": client.post(path, json=[1]),
                "kind": client.post(path, data=json.dumps(body), headers={"Content-Type": "text/plain"}),
                "size": client.post(path, json=body | {"prompt": "x" * 2000}),
                "path": client.get("/v1/nothing"),
                "method": client.get(path),
            }.items():
                async with sent as response:
                    assert response.content_type == "application/json"
                    error = (await response.json())["error"]
                    assert error["code"] == response.status, name
                    answers[name] = response.status, error["type"]
            async with client.post(path, json=body) as response:
                assert response.status == 200, "and goes on"
        assert answers["model"] == (404, "NotFoundError")
        assert answers["json"] == answers["depth"] == answers["list"] == (400, "BadRequestError")
        assert answers["kind"] == (415, "UnsupportedMediaTypeError")
        assert answers["size"][0] == 413
        assert answers["path"] == (404, "NotFoundError")
        assert answers["method"][0] == 405

    asyncio.run(main())


def test_the_small_paths() -> None:
    async def main() -> None:
        async with serving(speed=FAST, max_model_len=256) as (_, client):
            for method, path in (("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")):
                async with client.request(method, path) as response:
                    assert (response.status, await response.read()) == (200, b"")
            async with client.get("/version") as response:
                assert (await response.json())["version"]
            async with client.get("/v1/models") as response:
                (card,) = (await response.json())["data"]
            assert (card["id"], card["object"], card["max_model_len"]) == ("m", "model", 256)
            _, cut = await post(client, "/tokenize", {"model": "m", "prompt": PROMPT, "return_token_strs": True})
            assert cut["count"] == len(cut["tokens"]) == -(-len(PROMPT) // 4)
            assert "".join(cut["token_strs"]) == PROMPT
            assert cut["max_model_len"] == 256
            _, back = await post(client, "/detokenize", {"model": "m", "tokens": cut["tokens"]})
            assert back == {"prompt": PROMPT}
            path, body = ask(True, max_tokens=1)
            _, chat = await post(client, "/tokenize", {"messages": body["messages"]})
            _, answer = await post(client, path, body)
            assert chat["count"] == answer["usage"]["prompt_tokens"]
            for path, bad in (("/tokenize", {"prompt": 5}), ("/detokenize", {"tokens": "abc"})):
                status, _ = await post(client, path, bad)
                assert status == 400

    asyncio.run(main())


def test_request_id_comes_back() -> None:
    async def main() -> None:
        async with serving(speed=FAST) as (_, client):
            for stream_it in (False, True):
                path, body = ask(False, stream=stream_it)
                async with client.post(path, json=body, headers={"X-Request-Id": "abc"}) as response:
                    assert response.headers["X-Request-Id"] == "abc"
                    assert b'"id": "cmpl-abc"' in await response.read()

    asyncio.run(main())
