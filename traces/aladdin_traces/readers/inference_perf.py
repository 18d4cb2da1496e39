"""inference-perf replays Azure's and ShareGPT's files as they are; this is their common name."""

from aladdin_traces.readers.registry import READERS, Reader, ReadOptions, register_reader
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace


def _read(source: Source, options: ReadOptions) -> Trace:
    return READERS["sharegpt" if source.is_json else "azure"].read(source, options)


def _must_be_named(source: Source) -> str | None:
    return "its files are azure's and sharegpt's"


register_reader(
    Reader(
        "inference-perf",
        "TIMESTAMP,ContextTokens,GeneratedTokens, or ShareGPT's JSON",
        _must_be_named,
        _read,
        ("tokenizer", "vllm_filter"),
    )
)
