"""Event streams pass as they are, and are counted on the way."""

from __future__ import annotations

import json

import pytest

from aladdin_env.bridge.gateway.stream import Stream, tokens_of


def event(end: bytes = b"\n\n", **fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + end


def chunk(text: str, end: bytes = b"\n\n", **more: object) -> bytes:
    return event(end, choices=[{"index": 0, "text": text, "finish_reason": None, **more}])


USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3})
DONE = b"data: [DONE]\n\n"


def fed(stream: Stream, data: bytes, size: int) -> bytes:
    parts = [stream.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return b"".join(parts) + stream.close()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_bytes_are_untouched_however_they_are_cut(size: int, end: bytes) -> None:
    whole = chunk("é", end) + chunk("", end) + b": a comment" + end + chunk("b", end) + b"data: [DONE]" + end
    for hides in (False, True):
        stream = Stream(hides)
        assert fed(stream, whole, size) == whole
        assert stream.tokens == 2 and stream.is_done and stream.error is None


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_usage_that_we_asked_for_is_taken_out(size: int) -> None:
    shown = chunk("a") + chunk("b")
    stream = Stream(hides_usage=True)
    assert fed(stream, shown + USAGE + DONE, size) == shown + DONE
    assert (stream.tokens, stream.prompt_tokens) == (3, 7)
    kept = Stream(hides_usage=False)
    assert fed(kept, shown + USAGE + DONE, size) == shown + USAGE + DONE
    assert (kept.tokens, kept.prompt_tokens) == (3, 7)


def test_chunks_with_content_and_usage_stay() -> None:
    both = event(choices=[{"index": 0, "delta": {"content": "x"}}], usage={"completion_tokens": 1, "prompt_tokens": 2})
    stream = Stream(hides_usage=True)
    assert stream.feed(both) == both and stream.tokens == 1


def test_token_ids_are_counted_where_they_are_named() -> None:
    stream = Stream(False)
    stream.feed(chunk("abc", token_ids=[1, 2, 3]) + chunk("", token_ids=[4]) + chunk("d"))
    assert stream.tokens == 5


@pytest.mark.parametrize(
    ("delta", "count"),
    [
        ({"role": "assistant", "content": ""}, 0),
        ({"content": "x"}, 1),
        ({"reasoning_content": "hm"}, 1),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, 1),
        ({}, 0),
    ],
)
def test_what_counts_as_a_token_of_a_chat(delta: dict[str, object], count: int) -> None:
    stream = Stream(False)
    stream.feed(event(choices=[{"index": 0, "delta": delta, "finish_reason": None}]))
    assert stream.tokens == count and not stream.is_done
    stream.feed(event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    assert stream.is_done


def test_errors_and_broken_ends_are_noticed() -> None:
    stream = Stream(False)
    stream.feed(chunk("a") + event(error={"message": "out of memory", "code": 500}))
    assert stream.error is not None and not stream.is_done
    cut = Stream(True)
    assert cut.feed(chunk("a") + b'data: {"choices": [{"text": "b') == chunk("a")
    assert cut.close() == b'data: {"choices": [{"text": "b' and not cut.is_done


def test_streams_of_the_responses_and_messages_apis() -> None:
    stream = Stream(False)
    stream.feed(event(type="response.output_text.delta", delta="hello") + event(type="response.completed"))
    assert stream.tokens == 1 and stream.is_done
    other = Stream(False)
    other.feed(b"event: content_block_delta\n" + event(type="content_block_delta", delta={"text": "x"}))
    other.feed(event(type="message_delta", usage={"output_tokens": 9, "input_tokens": 4}) + event(type="message_stop"))
    assert (other.tokens, other.prompt_tokens, other.is_done) == (9, 4, True)


def test_whole_answers_say_how_long_they_are() -> None:
    assert tokens_of(b'{"usage": {"prompt_tokens": 5, "completion_tokens": 9}}') == (5, 9)
    assert tokens_of(b'{"usage": {"input_tokens": 5, "output_tokens": 9}}') == (5, 9)
    assert tokens_of(b'{"usage": null}') == tokens_of(b"no json") == tokens_of(b"[]") == (None, 0)
