"""What a router reads of a request's body."""

from __future__ import annotations

import json

import pytest

from aladdin_env.bridge.gateway.asked import CHAT, COMPLETIONS, check_content_type, read
from aladdin_env.bridge.gateway.problems import Problem


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_token_ids_are_counted_and_text_is_measured() -> None:
    assert read(COMPLETIONS, body(prompt=[1, 2, 3])).tokens == 3
    assert read(COMPLETIONS, body(prompt=[[1, 2], [3, 4, 5]])).tokens == 5
    assert read(COMPLETIONS, body(prompt="twelve chars")).text_bytes == 12
    assert read(COMPLETIONS, body(prompt=["ab", "cde"])).text_bytes == 5
    parts = [{"type": "text", "text": "four"}, {"type": "image_url", "image_url": {"url": "x" * 1000}}]
    chat = read(CHAT, body(messages=[{"role": "user", "content": "hello"}, {"role": "user", "content": parts}]))
    assert (chat.tokens, chat.text_bytes) == (8, 9)
    assert read("/v1/responses", body(input="hello")).text_bytes == 5
    assert read(CHAT, body(messages=7, model=3)).model == ""


def test_usage_is_asked_for_where_the_client_does_not_and_nothing_else_is_touched() -> None:
    plain = b'{ "model": "m",  "stream": true, "prompt": "\\u00e9" }'
    asked = read(COMPLETIONS, plain)
    assert asked.hides_usage and asked.streams and asked.model == "m"
    assert json.loads(asked.body) == {**json.loads(plain), "stream_options": {"include_usage": True}}
    assert asked.body.endswith(plain[1:])
    own = body(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    assert read(CHAT, own).body == own and not read(CHAT, own).hides_usage
    others = body(stream=True, stream_options={"continuous_usage_stats": False})
    assert json.loads(read(CHAT, others).body)["stream_options"] == {
        "continuous_usage_stats": False,
        "include_usage": True,
    }
    for path, given in ((COMPLETIONS, body(prompt="x")), ("/v1/messages", body(stream=True))):
        assert read(path, given).body == given and not read(path, given).hides_usage


@pytest.mark.parametrize("wrong", [b"", b"{", b"[1]", b"null", b'"x"', b"\xff"])
def test_what_is_no_json_object_is_refused(wrong: bytes) -> None:
    with pytest.raises(Problem) as caught:
        read(CHAT, wrong)
    assert caught.value.status == 400 and caught.value.reason == "invalid_json"


def test_other_content_types_are_refused() -> None:
    check_content_type("application/json")
    with pytest.raises(Problem, match="send application/json"):
        check_content_type("text/html")
