"""Fetching from a local server that behaves well and badly; nothing half-fetched ever has the file's name."""

import errno
import hashlib
import io
import re
import shutil
import socket
import ssl
import threading
from dataclasses import replace
from types import SimpleNamespace
from urllib.error import URLError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aladdin_traces import READERS, InputError
from aladdin_traces.fetch import SOURCES, Patience, TraceSource, cached_path, fetch_trace, own_source, transfer
from aladdin_traces.fetch.part import PartialFile
from tests.traces.file_server import serving

DATA = b"arrival_s,prompt_tokens,output_tokens\n" + b"0.5,100,20\n" * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()
SOON = Patience(tries=3, backoff_s=0.0, timeout_s=5.0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("ALADDIN_TRACES_CACHE", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


@pytest.fixture
def server():
    with serving(DATA) as files:
        yield files


@pytest.fixture
def source(server):
    return TraceSource("toy", "a toy", "csv", "MIT", "http://page", (server.url,), len(DATA), SHA256)


@pytest.fixture
def unknown(source):
    """The same file, of which nobody has told size and hash."""
    return replace(source, size_bytes=None, sha256=None)


def refusal(source, **options):
    with pytest.raises(InputError) as caught:
        fetch_trace(source, patience=SOON, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def begun(source, data, version='"v1"'):
    """Leave the first bytes of a file as an earlier try would have."""
    part = PartialFile(cached_path(source))
    part.prepare(make_folder=True)
    part.begin(source.urls[0], version)
    part.append(iter([data]))
    return part


def test_whole_then_found_without_the_network(server, source, cache):
    told = []
    fetched = fetch_trace(source, patience=SOON, progress=lambda done, total: told.append((done, total)))
    assert fetched.path == cache / "toy.csv"
    assert fetched.path.read_bytes() == DATA
    assert (fetched.sha256, fetched.size_bytes, fetched.was_there) == (SHA256, len(DATA), False)
    assert told[0] == (0, len(DATA)) and told[-1] == (len(DATA), len(DATA))
    assert told == sorted(told)
    again = fetch_trace(source, patience=SOON)
    assert again == replace(fetched, was_there=True)
    assert names(cache) == ["toy.csv"]
    assert server.ranges == [None]


def test_a_broken_transfer_goes_on_where_it_ended(server, source, cache):
    server.plan = ["broken"]
    assert fetch_trace(source, patience=SOON).sha256 == SHA256
    assert server.ranges == [None, f"bytes={len(DATA) // 2}-"]
    assert names(cache) == ["toy.csv"]


def test_the_part_of_an_earlier_run_is_used(server, unknown, cache):
    begun(unknown, DATA[:1000])
    assert fetch_trace(unknown, patience=SOON).sha256 == SHA256
    assert server.ranges == ["bytes=1000-"]
    assert names(cache) == ["toy.csv"]


def test_a_server_that_ignores_ranges(server, source):
    server.plan = ["broken", "no range"]
    assert fetch_trace(source, patience=SOON).sha256 == SHA256


def test_the_file_changed_since_its_first_part(server, unknown):
    begun(unknown, b"x" * 1000, version='"v0"')
    assert fetch_trace(unknown, patience=SOON).sha256 == SHA256
    assert server.ranges == ["bytes=1000-", None]


def test_a_part_that_nothing_can_verify_is_not_used(server, unknown):
    server.etag = None
    begun(unknown, b"x" * 1000, version=None)
    assert fetch_trace(unknown, patience=SOON).sha256 == SHA256
    assert server.ranges == [None]


@pytest.mark.parametrize("note", ["", "[]", "{", '{"url": 1}', '{"url": 1, "version": 2}'])
def test_a_damaged_note(server, unknown, note):
    part = begun(unknown, DATA[:1000])
    part.path.with_name(part.path.name + ".json").write_text(note)
    assert fetch_trace(unknown, patience=SOON).sha256 == SHA256


def test_everything_had_come_but_the_name(server, source):
    begun(source, DATA)
    assert fetch_trace(source, patience=SOON).sha256 == SHA256
    assert server.ranges == [f"bytes={len(DATA)}-"]


def test_a_part_longer_than_the_file(server, source):
    begun(source, DATA + b"more")
    assert fetch_trace(source, patience=SOON).sha256 == SHA256
    assert server.ranges == [f"bytes={len(DATA) + 4}-", None]


@pytest.mark.parametrize("known", [True, False])
def test_a_server_that_tells_no_length(server, source, unknown, known):
    server.plan = ["no length"]
    assert fetch_trace(source if known else unknown, patience=SOON).sha256 == SHA256


def test_truncated_again_and_again(server, source, cache):
    server.plan = ["broken"] * 9
    line = refusal(source)
    assert re.search(r"broke off after [\d,]+ of 44,038 bytes, 3 times", line) and source.urls[0] in line
    assert names(cache) == ["toy.csv.part", "toy.csv.part.json"]
    assert DATA.startswith((cache / "toy.csv.part").read_bytes())
    server.plan.clear()
    assert fetch_trace(source, patience=SOON).sha256 == SHA256


def test_corrupted(server, source, cache):
    server.data = DATA[:-1] + b"?"
    line = refusal(source)
    assert SHA256 in line and hashlib.sha256(server.data).hexdigest() in line and "removed" in line
    assert names(cache) == []


def test_another_size_is_refused_before_it_comes(server, source, cache):
    server.data = DATA + b"more"
    assert "44,042 bytes where 44,038 were expected" in refusal(source)
    assert names(cache) == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(server, source, status):
    server.plan = [status, status]
    assert fetch_trace(source, patience=SOON).sha256 == SHA256
    assert len(server.ranges) == 3


@pytest.mark.parametrize(("status", "said"), [(401, "Unauthorized"), (403, "Forbidden"), (404, "Not Found"), (410, "")])
def test_what_does_not_pass_is_not_tried_again(server, source, cache, status, said):
    server.plan = [status] * 9
    assert f"{status} {said}".strip() in refusal(source)
    assert len(server.ranges) == 1
    assert names(cache) == []


def test_waits_double_and_heed_the_server(server, source, monkeypatch):
    waits = []
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=waits.append))
    server.plan, server.headers = [500, 500, 503], {"Retry-After": "3"}
    fetch_trace(source, patience=Patience(tries=5, backoff_s=1.0))
    server.plan, server.headers = [500, 500, 500], {"Retry-After": "soon"}
    fetch_trace(source, force=True, patience=Patience(tries=5, backoff_s=1.0))
    assert waits == [3.0, 3.0, 4.0, 1.0, 2.0, 4.0]
    server.plan, server.headers = [503], {"Retry-After": "86400"}
    fetch_trace(source, force=True, patience=Patience(tries=5, backoff_s=1.0))
    assert waits[-1] == 60.0


def test_the_next_address_is_tried(server, source):
    server.plan = [404]
    two = replace(source, urls=(server.url + "?first", server.url))
    assert fetch_trace(two, patience=SOON).sha256 == SHA256


@pytest.mark.parametrize(
    ("how", "said"),
    [("circle", "circle"), ("html", "web page"), ("silent", "no answer in time, 2 times"), ("empty", "empty")],
)
def test_answers_that_are_no_file(server, unknown, cache, how, said):
    server.plan = [how] * 5
    with pytest.raises(InputError, match=said):
        fetch_trace(unknown, patience=Patience(tries=2, backoff_s=0.0, timeout_s=0.2))
    assert names(cache) == []


def test_a_portal_does_not_cost_what_has_come(server, source):
    part = begun(source, DATA[:1000])
    server.plan = ["html"]
    refusal(source)
    assert part.path.read_bytes() == DATA[:1000]


def test_nobody_listens(source, cache):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "connection refused" in refusal(replace(source, urls=(f"http://127.0.0.1:{port}/x.csv",)))
    assert names(cache) == []


def untrusted():
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (URLError(socket.gaierror(socket.EAI_NONAME, "Name or service not known")), "there may be no network"),
        (URLError(untrusted()), "certificate is not trusted: self-signed"),
        (URLError(OSError(errno.ENETUNREACH, "Network is unreachable")), "Network is unreachable, 3 times"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer, 3 times"),
        (TimeoutError("timed out"), "no answer in time, 3 times"),
        (transfer.HTTPException(), "HTTPException, 3 times"),
        (ValueError("no host given"), "no host given"),
    ],
)
def test_no_network(source, cache, monkeypatch, error, said):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(transfer, "urlopen", fail)
    assert said in refusal(source)
    assert names(cache) == []


def test_an_answer_that_is_not_http(source):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x.csv"

        def fill_once():
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=fill_once)
        thread.start()
        with pytest.raises(InputError, match="could not be fetched"):
            fetch_trace(replace(source, urls=(url,)), patience=replace(SOON, tries=1))
        thread.join()


def test_no_room(server, source, cache, monkeypatch):
    usage = shutil.disk_usage(cache.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "44,038 bytes are to come and 1,000 are free" in refusal(source)
    assert names(cache) == []


class _FullDisk(io.FileIO):
    """Takes 1,000 bytes, and then none."""

    def write(self, data):
        room = 1000 - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(bytes(data)[:room])


def test_the_disk_fills_on_the_way(server, source, cache, monkeypatch):
    def open_full(path, mode="r", buffering=-1, **options):
        return _FullDisk(path, "ab") if buffering == 0 else io.open(path, mode, buffering, **options)  # noqa: UP020

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.open", open_full)
        assert "No space left on device" in refusal(source)
    assert (cache / "toy.csv.part").read_bytes() == DATA[:1000]
    assert fetch_trace(source, patience=SOON).sha256 == SHA256
    assert server.ranges == [None, "bytes=1000-"]


def test_folders_that_cannot_be_written(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALADDIN_TRACES_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot be written (Not a directory)" in refusal(source)
    assert "cannot be written (No such file or directory)" in refusal(source, to=tmp_path / "nowhere" / "x.csv")
    assert "a folder" in refusal(source, to=tmp_path)
    assert "File name too long" in refusal(source, to="x" * 300)
    assert "null" in refusal(source, to="x\0")
    assert names(tmp_path) == ["file"]


def test_to_a_file(server, source, tmp_path):
    path = tmp_path / "mine.csv"
    assert fetch_trace(source, path, patience=SOON).path == path
    assert path.read_bytes() == DATA
    path.write_text("the user's own")
    assert "--force" in refusal(source, to=path)
    assert path.read_text() == "the user's own"
    assert fetch_trace(source, path, force=True, patience=SOON).sha256 == SHA256


def test_forced_begins_anew_and_keeps_the_old_file_until_then(server, source):
    path = fetch_trace(source, patience=SOON).path
    begun(source, b"x" * 1000)
    server.plan = [404]
    refusal(source, force=True)
    assert path.read_bytes() == DATA
    assert not fetch_trace(source, force=True, patience=SOON).was_there
    assert server.ranges == [None, None, None]


def test_interrupted(server, source, cache):
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_trace(source, patience=SOON, progress=stop)
    assert names(cache) == ["toy.csv.part", "toy.csv.part.json"]
    assert fetch_trace(source, patience=SOON).sha256 == SHA256


def test_a_second_run_that_writes_too(server, unknown, cache):
    def meddle(done, total):
        if done and len(server.ranges) == 1:
            with (cache / "toy.csv.part").open("ab") as file:
                file.write(b"x")

    assert fetch_trace(unknown, patience=SOON, progress=meddle).sha256 == SHA256
    assert server.ranges == [None, None]


def test_own_addresses(server, cache):
    fetched = fetch_trace(own_source(server.url, SHA256.upper()), patience=SOON)
    assert re.fullmatch(r"trace-[0-9a-f]{8}\.csv", fetched.path.name)
    assert own_source("https://a.b/x/conv.v2.csv.gz").file_name.endswith(".csv.gz")
    assert own_source("https://a.b/x.csv").file_name != own_source("https://a.b/y/x.csv").file_name
    assert "removed" in refusal(own_source(server.url + "?", "0" * 64))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "trace.csv",
        "file:///etc/passwd",
        "ftp://a/b",
        "http://",
        "http://[",
        "http://a/b c",
        "http://a/\n",
        "http://a/é",
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(InputError, match="http"):
        own_source(url)


@given(st.text(max_size=40))
def test_any_text_as_an_address(text):
    for url in (text, f"http://{text}", f"https://a.b/{text}"):
        try:
            name = own_source(url).file_name
        except InputError:
            continue
        assert re.fullmatch(r"[\w.-]{1,90}", name) and not name.startswith(".")


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, "0" * 63])
def test_hashes_that_are_none(sha256):
    with pytest.raises(InputError, match="64 hexadecimal"):
        own_source("http://a/b.csv", sha256)


def test_an_unknown_name_suggests_the_nearest():
    assert "did you mean 'azure-2024-conv'?" in refusal("azure-2024-convs")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("ALADDIN_TRACES_CACHE")
    monkeypatch.setenv("ALADDIN_CACHE_DIR", str(tmp_path))
    assert cached_path(SOURCES["ragpulse"]) == tmp_path / "traces" / "ragpulse.jsonl"
    monkeypatch.delenv("ALADDIN_CACHE_DIR")
    assert cached_path(SOURCES["azure-2025"]).name == "azure-2025.csv.gz"
    assert "aladdin-env" in str(cached_path(SOURCES["azure-2025"]))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_the_catalogue(source):
    assert SOURCES[source.name] is source
    assert source.format in READERS
    assert source.title and source.licence and source.page.startswith("https://")
    assert source.urls and all(own_source(url).urls == (url,) for url in source.urls)
    assert all(url.startswith("https://") for url in source.urls)
    assert source.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", source.sha256)
    assert source.size_bytes is None or source.size_bytes > 100_000
    assert re.fullmatch(re.escape(source.name) + r"\.(csv|csv\.gz|jsonl|json)", source.file_name)


def test_no_two_sources_share_a_file():
    for values in ([s.sha256 for s in SOURCES.values() if s.sha256], [url for s in SOURCES.values() for url in s.urls]):
        assert len(set(values)) == len(values)
