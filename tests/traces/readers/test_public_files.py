"""The public files, where they are: rows, and what is known of them."""

from pathlib import Path

import numpy as np
import pytest

from aladdin_traces import InputError, ReadOptions, Trace, read_trace, write_trace
from aladdin_traces.readers.registry import choose_reader
from aladdin_traces.rows import MOVED
from aladdin_traces.source import open_source
from tests.traces.readers.samples import servegen_client

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "traces"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the public trace files are not beside the project")

FILES = {
    "azure2023_conv.csv.gz": ("csv", 19366),
    "azure2023_code.csv.gz": ("csv", 8819),
    "mooncake_conversation_trace.jsonl.gz": ("mooncake", 12031),
    "ragpulse_week.jsonl.gz": ("ragpulse", 7106),
    "sharegpt_10k_lengths.csv.gz": ("csv", 10000),
    "samples/aiperf_mooncake_example.jsonl": ("mooncake", 3),
    "samples/arxiv_summarization_lengths_vidur_head20.csv": ("vidur", 20),
    "samples/azure2023_code_head200.csv": ("azure", 200),
    "samples/azure2023_conv_head200.csv": ("azure", 200),
    "samples/azure2024_code_head5.csv": ("azure", 5),
    "samples/azure2024_conv_head5.csv": ("azure", 5),
    "samples/azure2025_multimodal_head5.csv": ("azure", 5),
    "samples/burstgpt_1_head400.csv": ("burstgpt", 383),
    "samples/burstgpt_3_api_rows.csv": ("burstgpt", 2),
    "samples/burstgpt_3_head20.csv": ("burstgpt", 20),
    "samples/llmservingsim_agentic_example.jsonl": ("llmservingsim", 3),
    "samples/mooncake_conversation_head20.jsonl": ("mooncake", 20),
    "samples/mooncake_synthetic_head20.jsonl": ("mooncake", 20),
    "samples/qwen_bailian_example.jsonl": ("qwen-bailian", 2),
    "samples/ragpulse_head20.jsonl": ("ragpulse", 20),
    "samples/servegen_offline_stat_head3.jsonl": ("servegen", 3),
    "samples/sharegpt_8k_lengths_vidur_head20.csv": ("vidur", 20),
    "samples/sharegpt_example.json": ("sharegpt", 2),
    "samples/vidur_splitwise_conv_head20.csv": ("vidur", 20),
    "samples/vllm_custom_example.jsonl": ("vllm-custom", 3),
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_known_and_read_whole(tmp_path: Path, name: str) -> None:
    format, rows = FILES[name]
    assert choose_reader(open_source(SHARED / name)).name == format
    trace = read_trace(SHARED / name)
    assert len(trace) == rows
    write_trace(trace, tmp_path / "t.parquet")
    assert read_trace(tmp_path / "t.parquet") == shifted(trace)


def shifted(trace: Trace) -> Trace:
    """The trace with the clock at its first request, as a written one has it."""
    return trace.with_arrivals(trace.arrival_s - trace.arrival_s[0])


def test_vidurs_copy_of_azure_agrees_with_the_original() -> None:
    vidur = read_trace(SHARED / "samples/vidur_splitwise_conv_head20.csv")
    azure = read_trace(SHARED / "samples/azure2023_conv_head200.csv").take(np.arange(20))
    assert np.allclose(vidur.arrival_s, azure.arrival_s, atol=2e-6)
    assert vidur.prompt_tokens.tolist() == azure.prompt_tokens.tolist()


def test_mooncakes_ideal_reuse() -> None:
    """An endless cache finds 0.37 of the prompt tokens."""
    trace = read_trace(SHARED / "mooncake_conversation_trace.jsonl.gz")
    assert trace.prefix_blocks is not None
    seen: set[int] = set()
    hits = 0
    for request, prompt in enumerate(trace.prompt_tokens.tolist()):
        ids = trace.prefix_blocks[request].tolist()
        known = next((i for i, block in enumerate(ids) if block not in seen), len(ids))
        hits += min(known * 512, prompt)
        seen.update(ids)
    assert hits / trace.prompt_tokens.sum() == pytest.approx(0.37, abs=0.005)


def test_mooncakes_ticks_are_spread() -> None:
    path = SHARED / "mooncake_conversation_trace.jsonl.gz"
    trace, ticks = read_trace(path), read_trace(path, options=ReadOptions(jitter=False))
    assert len(np.unique(trace.arrival_s)) == len(trace)
    assert len(np.unique(ticks.arrival_s)) < 1300
    assert np.array_equal(trace.prompt_tokens, ticks.prompt_tokens)
    assert np.abs(trace.arrival_s - ticks.arrival_s).max() < 3.01


def test_ragpulse_has_one_inversion_and_its_sessions() -> None:
    trace = read_trace(SHARED / "ragpulse_week.jsonl.gz")
    assert trace.notes == {MOVED: 1}
    assert trace.session is not None
    assert len(trace) / len(np.unique(trace.session.codes)) == pytest.approx(1.78, abs=0.01)


def test_rates_are_no_requests() -> None:
    with pytest.raises(InputError, match="none of the known formats"):
        read_trace(SHARED / "azure2024_week_rate_digitised.csv.gz")


def test_a_servegen_client_has_the_requests_of_its_rates(tmp_path: Path) -> None:
    rates = (SHARED / "samples/servegen_client_trace_head3.csv").read_bytes()
    trace = read_trace(servegen_client(tmp_path, rates))
    # Rates of 600-second windows are counts of requests: 214, 224 and 163.
    assert np.bincount((trace.arrival_s // 600.0).astype(int)).tolist() == [214, 224, 163]
    for line in rates.decode().splitlines():
        _, rate, cv, law, shape, scale = line.split(",")
        if law == "Gamma":
            assert float(shape) * float(scale) == pytest.approx(1.0 / float(rate), rel=1e-3)  # seconds
            assert float(shape) ** -0.5 == pytest.approx(float(cv), rel=1e-6)
