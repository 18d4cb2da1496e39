"""Conversations and prompts as text: ShareGPT's JSON and vLLM's custom JSON lines. Neither has arrival times."""

from collections.abc import Iterator
from typing import Any

from aladdin_traces.errors import InputError
from aladdin_traces.json_table import JsonTable
from aladdin_traces.readers.registry import Reader, ReadOptions, needs_key, register_reader
from aladdin_traces.readers.texts import text_tokens
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace

_TOO_FEW_TURNS = "fewer than 2 turns"
_FILTERED = "lengths that vLLM's benchmark leaves out"
_LEAST, _MOST_PROMPT, _MOST_TOTAL = 4, 1024, 2048
_MODEL_TURNS = ("gpt", "chatgpt", "assistant", "bard", "bing", "model")


def _read_sharegpt(source: Source, options: ReadOptions) -> Trace:
    """Take the first turn of the user and the answer to it."""
    table = JsonTable(source.name, _first_turns(source, options), ("id", "prompt_tokens", "output_tokens", "few"))
    prompt, output = table.tokens("prompt_tokens"), table.tokens("output_tokens")
    wanted = {_TOO_FEW_TURNS: table.numbers("few", low=0.0) == 0}
    if options.vllm_filter:
        long_enough = (prompt >= _LEAST) & (output >= _LEAST)
        wanted[_FILTERED] = long_enough & (prompt <= _MOST_PROMPT) & (prompt + output <= _MOST_TOTAL)
    return Rows(table, prompt, output, request_id=table.labels("id")).trace(wanted=wanted)


def _first_turns(source: Source, options: ReadOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, item in source.objects():
        turns = item.get("conversations", item.get("conversation", []))
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise InputError(f"{source.name} {place}, key conversations", turns, 'give a list of {"from", "value"}')
        start = next((i for i, turn in enumerate(turns) if turn.get("from") not in _MODEL_TURNS), len(turns))
        pair = turns[start : start + 2]
        prompt, output = (
            (text_tokens(source, place, turn.get("value"), options) for turn in pair) if len(pair) == 2 else (0, 0)
        )
        yield place, {"id": item.get("id"), "prompt_tokens": prompt, "output_tokens": output, "few": int(len(pair) < 2)}


def _read_vllm(source: Source, options: ReadOptions) -> Trace:
    table = JsonTable(source.name, _prompts(source, options), ("prompt_tokens", "output_tokens"))
    prompt = table.tokens("prompt_tokens")
    return Rows(table, prompt, table.tokens("output_tokens", missing=options.output_tokens)).trace()


def _prompts(source: Source, options: ReadOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, item in source.objects():
        tokens = text_tokens(source, place, item.get("prompt"), options)
        yield place, {"prompt_tokens": tokens, "output_tokens": item.get("output_tokens")}


register_reader(
    Reader(
        "sharegpt",
        '[{"id": "1", "conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}]',
        needs_key("conversations", "conversation"),
        _read_sharegpt,
        ("tokenizer", "vllm_filter"),
    )
)
register_reader(
    Reader(
        "vllm-custom",
        '{"prompt": "What is the capital of India?"[, "output_tokens": 20]}',
        needs_key("prompt"),
        _read_vllm,
        ("tokenizer", "output_tokens"),
    )
)
