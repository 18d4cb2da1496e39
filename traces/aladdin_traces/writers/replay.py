"""Files that load generators replay: Mooncake's, vLLM's and AIPerf's JSON lines.

Times are whole milliseconds, as these formats have them. Prompts of a trace without prefix blocks get blocks of their
own where a generator makes prompts from block ids, so that they have their lengths and share nothing.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aladdin_traces.errors import InputError
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.readers.mooncake import MOONCAKE_BLOCK, TIMED_TRACE_BLOCK
from aladdin_traces.trace import Trace
from aladdin_traces.writers.packing import text_file
from aladdin_traces.writers.registry import Writer, register_writer

_WORDS = (
    "all",
    "and",
    "any",
    "are",
    "but",
    "can",
    "day",
    "for",
    "get",
    "had",
    "has",
    "her",
    "him",
    "his",
    "how",
    "not",
)
_FILLER = "the"
_NUMBERING_WORDS = 8


def _write_mooncake(trace: Trace, path: Path, packed: bool) -> None:
    blocks = trace.prefix_blocks or own_blocks(trace, MOONCAKE_BLOCK)
    if blocks.block_size != MOONCAKE_BLOCK:
        mend = f"Mooncake's blocks have {MOONCAKE_BLOCK} tokens; write timed_trace or aiperf, which take others"
        raise InputError("block_size", blocks.block_size, mend)
    _write_keys(trace, _milliseconds(trace), blocks, path, packed)


def _write_timed_trace(trace: Trace, path: Path, packed: bool) -> None:
    blocks = trace.prefix_blocks or own_blocks(trace, TIMED_TRACE_BLOCK)
    _write_keys(trace, [time / 1000 for time in _milliseconds(trace)], blocks, path, packed)


def _write_aiperf(trace: Trace, path: Path, packed: bool) -> None:
    sessions = None if trace.session is None else trace.session.astype(object).tolist()
    _write_keys(trace, _milliseconds(trace), trace.prefix_blocks, path, packed, sessions)


def _milliseconds(trace: Trace) -> list[int]:
    times: list[int] = np.rint(trace.arrival_s * 1000).astype(np.int64).tolist()
    return times


def _write_keys(
    trace: Trace,
    times: Sequence[float],
    blocks: PrefixBlocks | None,
    path: Path,
    packed: bool,
    sessions: Sequence[object] | None = None,
) -> None:
    lengths = zip(times, trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    with text_file(path, packed) as text:
        for request, (time, prompt, output) in enumerate(lengths):
            row = {"timestamp": time, "input_length": prompt, "output_length": output}
            ids = {} if blocks is None else {"hash_ids": blocks[request].tolist()}
            name = None if sessions is None else sessions[request]
            session = {"session_id": name} if isinstance(name, str | int) else {}
            text.write(json.dumps({**row, **ids, **session}) + "\n")


def own_blocks(trace: Trace, block_size: int) -> PrefixBlocks:
    """Return blocks that no two requests share, as many as each prompt fills, the last one perhaps in part."""
    counts: npt.NDArray[np.int64] = -(-trace.prompt_tokens.astype(np.int64) // block_size)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    return PrefixBlocks(offsets, np.arange(offsets[-1]), block_size)


def _write_vllm_custom(trace: Trace, path: Path, packed: bool) -> None:
    with text_file(path, packed) as text:
        for prompt, output in zip(_prompts(trace), trace.output_tokens.tolist(), strict=True):
            text.write(json.dumps({"prompt": prompt, "output_tokens": output}) + "\n")


def _prompts(trace: Trace) -> Iterator[str]:
    """Yield texts of short words, each one token to the usual tokenisers; the first words number the request."""
    for request, tokens in enumerate(trace.prompt_tokens.tolist()):
        numbering = [_WORDS[request >> (4 * digit) & 15] for digit in range(min(tokens, _NUMBERING_WORDS))]
        yield " ".join(numbering) + f" {_FILLER}" * (tokens - len(numbering))


def _timed_trace_remark(trace: Trace) -> str:
    size = TIMED_TRACE_BLOCK if trace.prefix_blocks is None else trace.prefix_blocks.block_size
    return (
        "replay: vllm bench serve --dataset-name timed_trace --self-timed --ignore-eos "
        f"--timed-trace-chunk-hash-size {size}; read back with --format timed_trace --block-size {size}"
    )


def _aiperf_remark(trace: Trace) -> str:
    blocks = trace.prefix_blocks
    size = "" if blocks is None or blocks.block_size == MOONCAKE_BLOCK else f" and a block size of {blocks.block_size}"
    return f"replay: aiperf profile --custom-dataset-type mooncake_trace --fixed-schedule{size}"


def _vllm_custom_remark(trace: Trace) -> str:
    return (
        "replay: vllm bench serve --dataset-name custom --custom-output-len -1 --skip-chat-template --ignore-eos "
        f"--disable-shuffle --request-rate {trace.rate_rps:.6g}; this form has no arrival times and no shared prefixes"
    )


register_writer(Writer("mooncake", "Mooncake's JSON lines, also for SGLang", _write_mooncake))
register_writer(Writer("timed_trace", "vLLM's timed_trace JSON lines", _write_timed_trace, _timed_trace_remark))
register_writer(Writer("vllm-custom", "prompts for vLLM's custom dataset", _write_vllm_custom, _vllm_custom_remark))
register_writer(Writer("aiperf", "AIPerf's mooncake_trace JSON lines", _write_aiperf, _aiperf_remark))
