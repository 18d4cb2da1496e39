"""Every reader, given anything at all: a trace, or one line that says what is wrong; no other exception, no hang."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aladdin_traces import READERS, InputError, read_trace
from tests.traces.readers import samples
from tests.traces.readers.samples import SAMPLES, sample_bytes, servegen_client, written

KEYS = [
    "timestamp", "input_length", "output_length", "hash_ids", "session_id", "delay", "turns", "text", "text_input",
    "chat_id", "parent_chat_id", "conversations", "from", "value", "prompt", "output_tokens", "input_toks",
    "output_toks", "arrival_time_ns", "sub_requests", "tool_duration_ns", "requests", "t", "in", "out", "model",
    "block_size", "hash_id_scope", "request_id", "duration", "id", "0", "input_tokens",
]  # fmt: skip
COLUMNS = [
    "TIMESTAMP", "ContextTokens", "GeneratedTokens", "Timestamp", "Model", "Request tokens", "Response tokens",
    "Log Type", "Session ID", "arrived_at", "num_prefill_tokens", "num_decode_tokens", "arrival_s", "arrived_at_s",
    "prompt_tokens", "output_tokens", "klass", "session", "prefix_blocks", "block_size", "timestamp", "input_length",
    "output_length", "hash_ids", "x", "", '"',
]  # fmt: skip
HEADERS = [
    ["TIMESTAMP", "ContextTokens", "GeneratedTokens"],
    ["arrival_s", "prompt_tokens", "output_tokens"],
    ["arrival_s", "prompt_tokens", "output_tokens", "klass"],
]
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([-1, 0, 1, 16, 512, 2**31, 2**63, 10**400]))
ODDITIES = [
    "", "0", "1", "-1", "1 2", "True", '"', "1e400", "0x10", "1_0", "\uff12", "NaT", "now", "2024", "9999-12-31", "a,",
]  # fmt: skip
CELLS = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(str),
    st.sampled_from(ODDITIES),
    st.text(max_size=5),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=6), st.sampled_from(["27", "local", "gpt"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=8)

thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
quick = settings(thorough, max_examples=25)


@pytest.fixture(autouse=True)
def few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate with a few more digits is to be refused, not drawn."""
    monkeypatch.setattr("aladdin_traces.point_processes.REQUESTS_MAX", 10_000)


def check(path: Path, *formats: str | None) -> None:
    for name in formats or (None, *READERS):
        try:
            trace = read_trace(path, name)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert len(trace) >= 1
            assert len(trace.to_frame()) == len(trace)


def mutated(data: st.DataObject, sample: bytes) -> bytes:
    """Cut, overwrite, insert or double a piece of a good file."""
    content = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        width = data.draw(st.sampled_from([0, 1, 2, 8, 40]))
        piece = data.draw(
            st.one_of(st.binary(max_size=4), CELLS.map(str.encode), st.just(bytes(content[at : at + width]) * 2))
        )
        content[at : at + width] = piece
    return bytes(content)


@thorough
@given(content=st.binary(max_size=200))
@example(content=b"\x1f\x8b\x08\x04")
@example(content=b"PAR1")
@example(content=b"[" * 100_000)
@example(content=b'{"requests": ' * 50_000)
@example(content=b'{"timestamp": 1' + b"0" * 5000 + b"}")
@example(content=b"[]")
@example(content=b"{}")
@example(content=b"[[1]]")
@example(content=b"\n\n,\n")
def test_random_bytes(tmp_path: Path, content: bytes) -> None:
    check(written(tmp_path, content))


@thorough
@given(content=st.binary(max_size=60))
def test_random_bytes_in_gzip(tmp_path: Path, content: bytes) -> None:
    check(written(tmp_path, gzip.compress(content)[: len(content) + 15]))


@thorough
@given(lines=st.lists(OBJECTS, min_size=1, max_size=4), as_list=st.booleans())
def test_random_json(tmp_path: Path, lines: list[object], as_list: bool) -> None:
    text = json.dumps(lines) if as_list else "\n".join(map(json.dumps, lines))
    check(written(tmp_path, text.encode()))


@settings(thorough, max_examples=180)
@given(
    header=st.one_of(st.sampled_from(HEADERS), st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=6)),
    rows=st.lists(st.lists(CELLS, max_size=6), max_size=4),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_random_tables(tmp_path: Path, header: list[str], rows: list[list[str]], end: str) -> None:
    text = end.join(",".join(cells) for cells in [header, *rows])
    check(written(tmp_path, text.encode("utf-8", "replace")))


@quick
@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.data())
def test_mutated_samples(tmp_path: Path, name: str, data: st.DataObject) -> None:
    check(written(tmp_path, mutated(data, sample_bytes(name))), None, SAMPLES[name][0])


@thorough
@given(data=st.data(), which=st.sampled_from(["rates", "laws"]))
def test_mutated_clients_of_servegen(tmp_path: Path, data: st.DataObject, which: str) -> None:
    sample = samples.SERVEGEN_RATES if which == "rates" else samples.SERVEGEN_LAWS
    check(servegen_client(tmp_path, **{which: mutated(data, sample.encode())}), None, "servegen-client")


@thorough
@given(
    rows=st.lists(
        st.tuples(CELLS, CELLS, CELLS, st.sampled_from(["Gamma", "Weibull", "Poisson", "", "x"]), CELLS, CELLS),
        min_size=1,
        max_size=4,
    ),
    rising=st.booleans(),
    law=st.dictionaries(CELLS, CELLS, max_size=3),
)
def test_random_clients_of_servegen(
    tmp_path: Path, rows: list[tuple[str, ...]], rising: bool, law: dict[str, str]
) -> None:
    lines = [",".join([str(60 * i) if rising else time, *cells]) for i, (time, *cells) in enumerate(rows)]
    text = "{" + ", ".join(f"{tokens}: {weight}" for tokens, weight in law.items()) + "}"
    laws = samples.SERVEGEN_LAWS.replace('"{7: 1.0}"', json.dumps(text)) if law else samples.SERVEGEN_LAWS
    path = servegen_client(tmp_path, "\n".join(lines).encode("utf-8", "replace"), laws)
    check(path, None, "servegen-client")


@quick
@pytest.mark.parametrize("name", [name for name, (_, content) in SAMPLES.items() if str(content).startswith("{")])
@given(data=st.data())
def test_samples_with_another_value(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Put any value in the place of one that belongs there, or take it away."""
    lines = [json.loads(line) for line in sample_bytes(name).splitlines() if line]
    line = data.draw(st.sampled_from(lines))
    key = data.draw(st.sampled_from(sorted(line)))
    if data.draw(st.booleans()):
        line[key] = data.draw(VALUES)
    else:
        del line[key]
    check(written(tmp_path, "\n".join(map(json.dumps, lines)).encode()), None, SAMPLES[name][0])
