"""Reading recorded traces: one small module per family of formats. The order here is the order of the sniffing."""

from aladdin_traces.readers import (  # noqa: I001  what is more particular is tried first
    azure as azure,
    burstgpt as burstgpt,
    vidur as vidur,
    plain as plain,
    aladdin_log as aladdin_log,
    qwen as qwen,
    ragpulse as ragpulse,
    servegen as servegen,
    servegen_client as servegen_client,
    weka as weka,
    llmservingsim as llmservingsim,
    sharegpt as sharegpt,
    mooncake as mooncake,
    aiperf as aiperf,
    guidellm as guidellm,
    inference_perf as inference_perf,
)
from aladdin_traces.readers.registry import (
    READERS,
    Reader,
    ReadOptions,
    read_trace,
    register_reader,
    tokens_by_characters,
)

__all__ = ["READERS", "ReadOptions", "Reader", "read_trace", "register_reader", "tokens_by_characters"]
