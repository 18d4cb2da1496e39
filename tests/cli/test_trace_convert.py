"""``aladdin trace convert``: every change, every format, and one line for every mistake."""

import json

import pytest

from aladdin_traces import WRITERS, ReadOptions, Trace, read_trace, split
from tests.traces.readers.samples import servegen_client

BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,GPT-4,1087,230,1317,API log\n"
    "45,ChatGPT,0,0,0,Conversation log\n"
)


@pytest.fixture
def convert(cli, trace_file, tmp_path):
    """Convert the trace file of one request every quarter of a second; gives the trace read back and what was said."""

    def run(*options, name="out.csv", source=trace_file, read_as=None):
        out = tmp_path / name
        answer = cli("trace", "convert", source, out, *options)
        assert answer.exit_code == 0, answer.output
        return read_trace(out, read_as), answer

    return run


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.parquet"])
def test_the_ending_means_the_format(convert, trace_file, name):
    trace, answer = convert(name=name)
    assert trace == read_trace(trace_file)
    assert "60 requests in 14.75 s" in answer.stdout


@pytest.mark.parametrize("format", [name for name in WRITERS if name != "parquet"])
def test_every_format_is_read_back(convert, trace_file, format):
    named = "timed_trace" if format == "timed_trace" else None  # seconds: nothing in such a file says so
    trace, answer = convert("--to", format, name="out.any", read_as=named)
    original = read_trace(trace_file)
    assert trace.prompt_tokens.tolist() == original.prompt_tokens.tolist()
    assert trace.output_tokens.tolist() == original.output_tokens.tolist()
    assert ("replay:" in answer.stderr) == (format in ("timed_trace", "aiperf", "vllm-custom"))
    if format != "vllm-custom":
        assert trace.arrival_s.tolist() == original.arrival_s.tolist()


def test_changes(convert, trace_file):
    original = read_trace(trace_file)
    assert (
        convert("--split", "validate")[0].prompt_tokens.tolist() == split(original, "validate").prompt_tokens.tolist()
    )
    assert len(convert("--window", "1:3")[0]) == 8
    assert len(convert("--window", ":3")[0]) == 12
    assert len(convert("--window", "14:")[0]) == 4
    assert convert("--rate-scale", "2")[0].arrival_s.tolist() == (original.arrival_s / 2).tolist()
    assert convert("--clip-prompt", "120", "--clip-output", "7")[0] == original.clip(120, 7)
    assert len(convert("--repeat", "3")[0]) == 180
    assert len(convert("--merge", trace_file, "--merge", trace_file)[0]) == 180
    assert 10 <= len(convert("--thin", "0.5")[0]) <= 50
    assert convert("--thin", "0.5", "--seed", "1")[0] == convert("--thin", "0.5", "--seed", "1")[0]
    assert convert("--jitter", "0.2")[0].arrival_s.tolist() != original.arrival_s.tolist()


def test_options_of_reading(convert, tmp_path):
    source = tmp_path / "burst"
    source.write_text(BURSTGPT)
    trace, answer = convert("--model", "ChatGPT", source=source)
    assert trace == Trace.from_arrays([0.0], [472], [18], model=["ChatGPT"])
    assert "dropped 1: another Model" in answer.stdout
    assert "dropped 1: prompt_tokens <= 0" in answer.stdout
    ticks = tmp_path / "ticks"
    row = '{"timestamp": %d, "input_length": 5, "output_length": 5, "hash_ids": [1]}\n'
    ticks.write_text("".join(row % (3000 * i) for i in range(5)))
    assert convert("--no-jitter", source=ticks)[0].arrival_s.tolist() == [0.0, 3.0, 6.0, 9.0, 12.0]
    assert convert("--block-size", 64, source=ticks)[0] == read_trace(ticks, options=ReadOptions(block_size=64)).take(
        range(5)
    ).with_arrivals(convert(source=ticks)[0].arrival_s)


def test_json_says_what_was_written(convert):
    answer = convert("--to", "aiperf", "--json", name="out.jsonl")[1]
    said = json.loads(answer.stdout)
    assert (said["format"], said["requests"], said["dropped"]) == ("aiperf", 60, {})
    assert "aiperf profile" in said["remark"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--to", "mooncak"], "did you mean 'mooncake'"),
        (["--format", "azur"], "--format: 'azur' is not valid; did you mean 'azure'"),
        (["--format", "azure"], "missing TIMESTAMP"),
        (["--split", "half"], "--split: 'half'"),
        (["--window", "5"], "--window: '5' is not valid; write START:END"),
        (["--window", "a:b"], "--window: 'a:b'"),
        (["--window", "5:3"], "--window: 3.0"),
        (["--window", "nan:3"], "--window: nan"),
        (["--window", "900:"], "no request is left"),
        (["--thin", "2"], "--thin: 2.0"),
        (["--repeat", "0"], "--repeat: 0"),
        (["--rate-scale", "0"], "--rate-scale: 0.0"),
        (["--jitter", "-1"], "--jitter: -1.0"),
        (["--clip-prompt", "0"], "--clip-prompt: 0"),
        (["--clip-output", "-5"], "--clip-output: -5"),
        (["--block-size", "0"], "--block-size: 0"),
        (["--block-size", "16"], "--block-size: 16 is not valid; leave it out: the format csv"),
        (["--model", "m"], "--model: 'm' is not valid; leave it out: the format csv"),
        (["--seed", "-1"], "--seed: -1"),
        (["--merge", "absent.csv"], "no such file"),
    ],
)
def test_mistakes(cli, trace_file, tmp_path, options, part):
    out = tmp_path / "out.csv"
    answer = cli("trace", "convert", trace_file, out, *options)
    assert answer.exit_code == 2
    assert part in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert answer.stdout == ""
    assert not out.exists()


def test_the_seed_is_that_of_merged_clients_too(convert, tmp_path):
    (tmp_path / "neighbour").mkdir()
    client = servegen_client(tmp_path, "0,0.1,1,Gamma,1,10\n")
    both = ("--merge", servegen_client(tmp_path / "neighbour", "0,0.1,1,Weibull,1,10\n"))
    trace, answer = convert(*both, "--seed", 1, source=client)
    assert "120 requests drawn from ServeGen's laws with seed 1" in answer.stdout
    assert convert(*both, "--seed", 1, source=client)[0] == trace
    assert convert(*both, source=client)[0] != trace


@pytest.mark.parametrize(
    ("name", "part"),
    [("out.jsonl", "name the format"), ("no/out.csv", "a folder that exists"), ("out.parquet.gz", "leave out .gz")],
)
def test_bad_targets(cli, trace_file, tmp_path, name, part):
    answer = cli("trace", "convert", trace_file, tmp_path / name)
    assert (answer.exit_code, part in answer.stderr) == (2, True)
    assert list(tmp_path.glob("out*")) == []


def test_what_is_read_is_never_written_over(cli, trace_file, tmp_path):
    before = trace_file.read_bytes()
    (tmp_path / "link.csv").symlink_to(trace_file)
    for out in (trace_file, tmp_path / "link.csv"):
        answer = cli("trace", "convert", trace_file, out)
        assert answer.exit_code == 2
        assert "it is a file that is read" in answer.stderr
    assert trace_file.read_bytes() == before
