"""Formats of JSON, from Mooncake to Weka."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from aladdin_traces import InputError, PrefixBlocks, ReadOptions, Trace, read_trace
from aladdin_traces.rows import MOVED
from tests.traces.readers import samples
from tests.traces.readers.samples import written


def names(labels: object) -> list[str | None]:
    return [name if isinstance(name, str) else None for name in labels]  # type: ignore[attr-defined]


def test_mooncake(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.MOONCAKE))
    blocks = PrefixBlocks.from_lists([[46, 47], [46, 48]], 512)
    assert trace == Trace.from_arrays([0.0, 10.535], [1000, 672], [52, 26], prefix_blocks=blocks)


def ticks(milliseconds: list[int]) -> str:
    row = '{"timestamp": %d, "input_length": %d, "output_length": 1, "hash_ids": [1]}\n'
    return "".join(row % (time, prompt) for prompt, time in enumerate(milliseconds, start=1))


def test_mooncakes_ticks_are_spread_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, ticks([0] * 50 + [3001] * 50 + [5999] * 50))
    trace = read_trace(path)
    assert trace.prompt_tokens.tolist() == list(range(1, 151))
    assert len(np.unique(trace.arrival_s)) == 150
    assert np.all((trace.arrival_s[:50] >= 0) & (trace.arrival_s[:50] < 3.1))
    assert np.all((trace.arrival_s[100:] >= 5.9) & (trace.arrival_s[100:] < 9.0))
    assert read_trace(path) == trace
    assert read_trace(path, options=ReadOptions(seed=1)) != trace
    assert np.unique(read_trace(path, options=ReadOptions(jitter=False)).arrival_s).tolist() == [0.0, 3.001, 5.999]


@pytest.mark.parametrize("milliseconds", [[0, 3000, 4500], [0, 0, 0], [0, 2990, 6000]])
def test_other_times_are_not_spread(tmp_path: Path, milliseconds: list[int]) -> None:
    trace = read_trace(written(tmp_path, ticks(milliseconds)))
    assert trace.arrival_s.tolist() == [time / 1000 for time in milliseconds]


def test_a_block_size_of_ones_own(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.MOONCAKE), options=ReadOptions(block_size=64))
    assert trace.prefix_blocks is not None
    assert trace.prefix_blocks.block_size == 64


def test_timed_trace_counts_seconds(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.MOONCAKE), "timed_trace")
    assert trace.arrival_s.tolist() == [0.0, 10535.0]
    assert trace.prefix_blocks is not None
    assert trace.prefix_blocks.block_size == 16


def test_aiperf(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.AIPERF))
    assert trace.arrival_s.tolist() == [0.0, 0.25, 0.5]
    assert trace.prompt_tokens.tolist() == [655, 8, 900]
    assert trace.output_tokens.tolist() == [52, 20, 10]
    assert names(trace.session) == ["a", None, "a"]
    assert trace.prefix_blocks is not None
    assert trace.prefix_blocks[2].tolist() == [1, 2]
    assert trace.notes == {MOVED: 1}


def test_aiperfs_later_turns_contain_the_earlier_ones(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.AIPERF_MULTI_TURN), options=ReadOptions(output_tokens=10))
    assert trace == Trace.from_arrays([0.0, 0.5], [2, 13], [10, 10], session=["a", "a"])


def test_aiperfs_turns_of_negative_length_were_not_served(tmp_path: Path) -> None:
    turns = [{"input_length": 8}, {"input_length": -5}, {"input_length": 3, "output_length": -1}, {"input_length": 4}]
    path = written(tmp_path, json.dumps({"turns": turns}))
    trace = read_trace(path, options=ReadOptions(output_tokens=10))
    assert trace.prompt_tokens.tolist() == [8, 25]
    assert trace.dropped == {"prompt_tokens <= 0": 1, "output_tokens <= 0": 1}


def test_aiperfs_single_turns(tmp_path: Path) -> None:
    options = ReadOptions(tokenizer=lambda text: len(text.split()))
    trace = read_trace(written(tmp_path, samples.AIPERF_SINGLE_TURN), options=options)
    assert trace == Trace.from_arrays([0.0, 1.5], [3, 1], [256, 256])


def test_qwen_sessions_are_the_trees_under_a_root(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.QWEN))
    assert trace.arrival_s.tolist() == [0.0, 1.0, 1.5, 1.5]
    assert names(trace.session) == ["159", "159", "7", "159"]
    assert names(trace.request_id) == ["159", "160", "161", "162"]
    assert trace.prefix_blocks == PrefixBlocks.from_lists([[1089, 1090, 1091], [1089, 1090], [], []], 16)


def test_qwen_chats_in_a_circle_end(tmp_path: Path) -> None:
    row = '{"chat_id": %d, "parent_chat_id": %d, "timestamp": 0, "input_length": 5, "output_length": 5}\n'
    trace = read_trace(written(tmp_path, row % (1, 2) + row % (2, 1) + row % (3, 3)))
    assert names(trace.session) == ["2", "2", "3"]


def test_ragpulse_is_sorted_and_says_so(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.RAGPULSE))
    assert trace == Trace.from_arrays([0.0, 2.0, 5.0], [10, 3861, 3900], [5, 127, 12], session=["s2", "s1", "s1"])
    assert trace.notes == {MOVED: 1}
    assert trace.prefix_blocks is None


def test_servegens_list_of_requests(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, samples.SERVEGEN)) == Trace.from_arrays([0.0], [1207], [495], request_id=["0"])


@pytest.mark.parametrize("name", ["guidellm", "guidellm in JSON", "guidellm in CSV", "guidellm in Parquet"])
def test_guidellm_in_its_containers(tmp_path: Path, name: str) -> None:
    trace = read_trace(written(tmp_path, samples.sample_bytes(name)))
    assert trace == Trace.from_arrays([0.0, 2.5], [256, 25], [128, 12])


def test_guidellm_with_names_of_ones_own(tmp_path: Path) -> None:
    text = samples.GUIDELLM_CSV.replace("timestamp", "when")
    path = written(tmp_path, text)
    trace = read_trace(path, "guidellm", ReadOptions(columns={"timestamp": "when"}))
    assert trace.arrival_s.tolist() == [0.0, 2.5]
    with pytest.raises(InputError, match="missing timestamp"):
        read_trace(path, "guidellm")
    with pytest.raises(InputError, match=r"columns: 'time' .*did you mean 'timestamp'"):
        read_trace(path, "guidellm", ReadOptions(columns={"time": "when"}))


def test_llmservingsim(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, samples.LLMSERVINGSIM)) == Trace.from_arrays([0.0], [1472], [133])
    agentic = read_trace(written(tmp_path, samples.LLMSERVINGSIM_AGENTIC))
    assert agentic == Trace.from_arrays([0.0, 1.0, 2.0], [1472, 5, 1582], [133, 6, 125], session=["s", "t", "s"])


def test_weka_sessions_are_flattened(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.WEKA))
    assert trace.arrival_s.tolist() == [0.0, 0.5, 1.0, 2.0]
    assert trace.prompt_tokens.tolist() == [128, 64, 192, 64]
    assert names(trace.session) == ["one", "two", "one", "one"]
    assert names(trace.model) == ["m", None, "m", "n"]
    assert trace.prefix_blocks is not None
    assert trace.prefix_blocks.block_size == 64
    first, other, second, inner = (trace.prefix_blocks[i].tolist() for i in range(4))
    assert second[:2] == first
    assert inner == first[:1]
    assert other != first[:1]


def test_weka_blocks_of_global_scope_are_shared(tmp_path: Path) -> None:
    sessions = [json.loads(line) | {"hash_id_scope": "global"} for line in samples.WEKA.splitlines()]
    trace = read_trace(written(tmp_path, json.dumps(sessions)))
    assert trace.prefix_blocks is not None
    assert trace.prefix_blocks[1].tolist() == trace.prefix_blocks[0].tolist()[:1]


def test_sharegpt_takes_a_question_and_its_answer(tmp_path: Path) -> None:
    path = written(tmp_path, samples.SHAREGPT)
    trace = read_trace(path)
    assert trace == Trace.from_arrays([0.0, 0.0], [5, 1], [8, 2], request_id=["1", "2"])
    assert trace.dropped == {"fewer than 2 turns": 1}
    assert read_trace(path, "inference-perf") == trace
    words = ReadOptions(tokenizer=lambda text: len(text.split()))
    assert read_trace(path, options=words).prompt_tokens.tolist() == [3, 1]


def test_vllms_filter_is_optional(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.SHAREGPT), options=ReadOptions(vllm_filter=True))
    assert trace.prompt_tokens.tolist() == [5]
    assert trace.dropped["lengths that vLLM's benchmark leaves out"] == 1


def test_vllm_custom_has_an_output_length_or_the_option(tmp_path: Path) -> None:
    path = written(tmp_path, samples.VLLM_CUSTOM)
    assert read_trace(path) == Trace.from_arrays([0.0, 0.0], [8, 3], [256, 7])
    assert read_trace(path, options=ReadOptions(output_tokens=9)).output_tokens.tolist() == [9, 7]


def test_rows_out_of_order_are_sorted_only_when_asked(tmp_path: Path) -> None:
    path = written(tmp_path, ticks([10, 5, 20]))
    with pytest.raises(InputError, match=r"line 2, key timestamp: 5 .*sort the rows"):
        read_trace(path)
    trace = read_trace(path, options=ReadOptions(sort=True))
    assert (trace.prompt_tokens.tolist(), trace.notes) == ([2, 1, 3], {MOVED: 1})


BAD = {
    "cut": ('{"timestamp": 0, "input_len', "line 1, character .* not JSON"),
    "cut later": (samples.MOONCAKE[:-10], "line 2, character .* not JSON"),
    "no object": (samples.MOONCAKE + "[1]\n", "line 3: .1. .*JSON object"),
    "list of numbers": ("[1, 2]", "item 1: 1 .*JSON object"),
    "empty list": ("[]", "the list is empty"),
    "deep": ("[" * 100_000, r"line 1: '\[\[.*nested too deeply"),
    "no length": (samples.MOONCAKE + '{"timestamp": 20000, "output_length": 5}', "line 3, key input_length: None"),
    "text": (samples.MOONCAKE.replace("672", '"many"'), "line 2, key input_length: 'many'"),
    "fraction": (samples.MOONCAKE.replace("672", "1.5"), "line 2, key input_length: 1.5 .*whole"),
    "boolean": (samples.MOONCAKE.replace("672", "true"), "line 2, key input_length: True"),
    "a billion": (samples.MOONCAKE.replace("672", "10000000000"), "line 2, key input_length: 10000000000"),
    "huge": (samples.MOONCAKE.replace("672", "1" + "0" * 400), "line 2, key input_length: 1000"),
    "thousands of digits": (samples.MOONCAKE.replace("672", "1" * 5000), "line 2: '{.timestamp.*cannot be read"),
    "key twice": (samples.MOONCAKE.replace('"output_length": 26', '"timestamp": 5'), "line 2: 'timestamp' .*key twice"),
    "key twice at once": ('{"prompt": "a", "prompt": "b"}\n', "line 1: 'prompt' .*key twice"),
    "key twice inside": (samples.SHAREGPT.replace('"value": "Hm"', '"from": "Hm"'), "trace: 'from' .*key twice"),
    "NaN": (samples.MOONCAKE.replace("10535", "NaN"), "line 2, key timestamp: nan"),
    "ids as text": (samples.MOONCAKE.replace("[46, 48]", '"46"'), "line 2, key hash_ids: '46' .*block ids"),
    "negative id": (samples.MOONCAKE.replace("48", "-48"), r"line 2, key hash_ids: \[46, -48\]"),
    "ragpulse length": (samples.RAGPULSE.replace("3900", "-"), "not JSON"),
    "qwen text": (samples.QWEN.replace("62.5", '"x"'), "line 2, key timestamp: 'x'"),
    "qwen list": (samples.QWEN.replace('"chat_id": 160', '"chat_id": [160]'), r"line 2, key chat_id: \[160\]"),
    "qwen NaN": (samples.QWEN.replace('"chat_id": 160', '"chat_id": NaN'), "line 2, key chat_id: nan .*name"),
    "qwen parent": (
        samples.QWEN.replace('"parent_chat_id": 7', '"parent_chat_id": Infinity'),
        "line 3, key parent_chat_id: inf .*name",
    ),
    "ragpulse session": (samples.RAGPULSE.replace('"s2"', "true"), "line 2, key session_id: True .*name"),
    "weka id": (samples.WEKA.replace('"two"', "true"), "line 2, key id: True .*name"),
    "weka block sizes": (
        samples.WEKA.replace('"block_size": 64, "req', '"block_size": 32, "req'),
        "key block_size: 32",
    ),
    "weka scope": (samples.WEKA.replace("local", "galaxy"), "line 1, key hash_id_scope: 'galaxy'"),
    "weka requests": (samples.WEKA + '{"id": 3, "requests": 5}', "line 3, key requests: 5"),
    "sim requests": ('{"sub_requests": [5], "arrival_time_ns": 0}', r"line 1, key sub_requests: \[5\]"),
    "sim time": ('{"sub_requests": [{}]}', "line 1, key arrival_time_ns: None"),
    "sim tool": (samples.LLMSERVINGSIM_AGENTIC.replace(": 2000000000", ": -2"), "key tool_duration_ns: -2"),
    "turns": ('{"session_id": 1, "turns": []}', "line 1, key turns"),
    "session": ('{"session_id": [1], "text": "x"}', r"line 1, key session_id: \[1\]"),
    "session as a boolean": ('{"session_id": true, "text": "x"}', "line 1, key session_id: True .*name"),
    "no text": ('{"text": 5}', "line 1: 5 .*text"),
    "delay": ('{"text": "x", "delay": "soon"}', "line 1, key delay: 'soon'"),
    "prompt": ('{"prompt": null}', "line 1: None .*text"),
    "conversation": ('[{"conversations": 5}]', "item 1, key conversations: 5"),
    "one turn each": ('[{"conversations": []}]', "no row is left .1 with fewer than 2 turns"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_json(tmp_path: Path, case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        read_trace(written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"models": ("a",)}, "models: 'a'"),
        ({"vllm_filter": True}, "vllm_filter: True"),
        ({"output_tokens": 5}, "output_tokens: 5"),
        ({"columns": {"a": "b"}}, "columns"),
    ],
)
def test_an_option_that_means_nothing_here_is_refused(tmp_path: Path, options: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=f"{field}.*the format mooncake has no such thing"):
        read_trace(written(tmp_path, samples.MOONCAKE), options=dataclasses.replace(ReadOptions(), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"block_size": 0}, {"output_tokens": 0}, {"seed": -1}, {"block_size": 1.5}])
def test_bad_options(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        ReadOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [-1, 2.5, None])
def test_a_tokeniser_that_gives_no_count(tmp_path: Path, count: object) -> None:
    options = ReadOptions(tokenizer=lambda text: count)  # type: ignore[arg-type,return-value]
    with pytest.raises(InputError, match="tokenizer"):
        read_trace(written(tmp_path, samples.VLLM_CUSTOM), options=options)
