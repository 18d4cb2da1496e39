"""``aladdin trace fetch`` against a local server."""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from aladdin_traces.fetch import SOURCES, TraceSource
from tests.traces.file_server import serving

DATA = b"arrival_s,prompt_tokens,output_tokens\n" + b"".join(b"%.2f,100,20\n" % (n / 4) for n in range(400))
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "a cache"
    monkeypatch.setenv("ALADDIN_TRACES_CACHE", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("aladdin_traces.fetch.transfer.time", SimpleNamespace(sleep=lambda seconds: None))
    return folder


@pytest.fixture
def server(monkeypatch):
    with serving(DATA) as files:
        toy = TraceSource("toy", "a toy", "csv", "MIT", "https://page", (files.url,), len(DATA), SHA256)
        monkeypatch.setitem(SOURCES, "toy", toy)
        yield files


@pytest.fixture
def mistake(cli):
    def run(*arguments):
        answer = cli("trace", "fetch", *arguments)
        said = answer.stderr.splitlines()[-1]
        assert (answer.exit_code, answer.stdout) == (2, ""), answer.output
        assert said.startswith("aladdin: ") and answer.stderr.count("aladdin: ") == 1
        assert "Traceback" not in answer.output
        return said

    return run


def test_the_list(cli, server):
    answer = cli("trace", "fetch")
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    for source in SOURCES.values():
        assert any(source.name in line and source.title in line and source.licence in line for line in lines), source
    assert max(map(len, lines)) <= 120
    assert server.ranges == []


def test_the_list_as_json(cli):
    rows = json.loads(cli("trace", "fetch", "--json").stdout)
    assert [row["name"] for row in rows] == list(SOURCES)
    assert rows[0]["sha256"] == SOURCES[rows[0]["name"]].sha256 and rows[0]["path"] is None


def test_fetched_is_used_by_compare(cli, server, cache, scenario_file):
    answer = cli("trace", "fetch", "toy")
    assert answer.exit_code == 0, answer.output
    said = answer.stdout.splitlines()
    assert said[0].startswith("toy: ") and said[0].endswith("fetched")
    assert SHA256 in said[1] and "MIT" in said[2] and "https://page" in said[2]
    command = shlex.split(said[-1].removeprefix("Use it: aladdin "))
    assert command == ["compare", "--trace", str(cache / "toy.csv")]
    assert "was there" in cli("trace", "fetch", "toy").stdout
    assert server.ranges == [None]
    compared = cli(*command, "--scenario", scenario_file, "--policies", "toy_first")
    assert compared.exit_code == 0, compared.output


def test_as_json(cli, server, cache):
    server.plan = [503, "broken"]
    row = json.loads(cli("trace", "fetch", "toy", "--json").stdout)
    assert row["path"] == str(cache / "toy.csv") and row["size_bytes"] == len(DATA)
    assert (row["verified"], row["was_there"], row["sha256"]) == (True, False, SHA256)
    assert server.ranges == [None, None, f"bytes={len(DATA) // 2}-"]


def test_an_address_of_ones_own(cli, server, tmp_path):
    answer = cli("trace", "fetch", "--url", server.url, "--to", "mine.csv")
    assert answer.exit_code == 0, answer.output
    assert (tmp_path / "here" / "mine.csv").read_bytes() == DATA
    assert f"No SHA-256 is known for it, so it could not be verified; that of this file is {SHA256}" in answer.stdout
    assert cli("trace", "fetch", "--url", server.url, "--sha256", SHA256, "--force").exit_code == 0


def test_mistakes_in_the_call(mistake, server):
    assert "did you mean 'azure-2024-conv'?" in mistake("azure-2024-cnv")
    assert "not both" in mistake("toy", "--url", server.url)
    assert "--url" in mistake("toy", "--sha256", SHA256)
    assert "http" in mistake("--url", "trace.csv")
    assert "64 hexadecimal" in mistake("--url", server.url, "--sha256", "abc")
    assert "name" in mistake("--force")
    assert server.ranges == []


@pytest.mark.parametrize(
    ("plan", "said", "left"),
    [
        ([404], "404 Not Found", []),
        ([500] * 9, "500 Internal Server Error, 5 times", []),
        (["circle"], "circle", []),
        (["html"], "web page", []),
        (["broken"] * 9, "broke off", ["toy.csv.part", "toy.csv.part.json"]),
    ],
    ids=str,
)
def test_servers_that_fail(mistake, server, cache, plan, said, left):
    server.plan = plan
    assert said in mistake("toy")
    assert sorted(path.name for path in cache.iterdir()) == left


def test_corrupted(mistake, server, cache):
    server.data = DATA[::-1]
    assert "it was removed" in mistake("toy")
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache(cli, mistake, server, cache):
    cli("trace", "fetch", "toy")
    (cache / "toy.csv").write_bytes(DATA[:100])
    assert "--force" in mistake("toy")
    assert cli("trace", "fetch", "toy", "--force").exit_code == 0
    assert (cache / "toy.csv").read_bytes() == DATA


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_interrupted_and_resumed(environment, server, tmp_path):
    server.plan = ["trickle"]
    command = [sys.executable, "-m", "aladdin_env.cli", "trace", "fetch", "--url", server.url, "--to", "mine.csv"]
    process = subprocess.Popen(
        command,
        env={**environment, "no_proxy": "127.0.0.1"},
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    )
    part = tmp_path / "mine.csv.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= len(DATA) // 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert (out, err.splitlines()[-1]) == ("", "aladdin: interrupted")
    assert "Traceback" not in err and "the same command goes on from there" in err
    kept = part.stat().st_size
    assert not (tmp_path / "mine.csv").exists()
    again = subprocess.run(command, env={**environment, "no_proxy": "127.0.0.1"}, cwd=tmp_path, capture_output=True)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "mine.csv").read_bytes() == DATA
    assert server.ranges == [None, f"bytes={kept}-"]
