"""``aladdin bench --bridge`` at a small size: what is sent, what is counted, which figures come out."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from aladdin_env.bench import bridge
from aladdin_env.bench.bridge import Effort, describe, measure_bridge, peers_given
from aladdin_env.bench.bridge.load import BODY_BYTES, Job, request_bytes
from aladdin_env.bench.bridge.measure import _caller, _do, _mock, _summary
from aladdin_env.bench.bridge.mock import ANSWER
from aladdin_env.bench.bridge.wire import message_bytes
from aladdin_env.cli import app
from aladdin_env.errors import InputError

ROUTER = Path(__file__).parents[1] / "conformance" / "routers.py"
SMALL = Effort(rounds=2, one_s=0.1, many_s=0.1, warm_s=0.1)
Run = Callable[..., Result]


def toy(fault: str = "") -> str:
    return f"{sys.executable} {ROUTER} {{port}} '{fault}' {{backends}}"


@pytest.fixture
def run() -> Run:
    return lambda *given: CliRunner().invoke(app, ["bench", *map(str, given)], prog_name="aladdin")


def test_sizes_are_as_told() -> None:
    head, _, body = request_bytes(80).partition(b"\r\n\r\n")
    assert len(body) == BODY_BYTES == 2048 and b"Content-Length: 2048" in head
    assert json.loads(body)["messages"][0]["content"]
    assert 280 <= len(json.dumps(ANSWER)) <= 360


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n", 0),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", 40),
        (b"POST / HTTP/1.1\r\nCONTENT-LENGTH: 2\r\n\r\na", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 59),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", 0),
    ],
)
def test_messages_are_told_apart(data: bytes, size: int) -> None:
    assert message_bytes(data) == size
    assert not size or message_bytes(data + b"GET / HTTP") == size


def test_load_counts_failures() -> None:
    with _mock(1) as (port,), _caller() as caller:
        result = _do(caller, Job(port, 4, 0.2))
        assert result.failed == 0 and result.rps > 10 and 0 < result.p50_us < 1e6
    with _caller() as caller:
        assert _do(caller, Job(port, 4, 0.2)).failed == 4


def test_direct_bridge_and_peers() -> None:
    remarks: list[str] = []
    templates = {"bridge": toy(), "other": toy(), "missing": "no-such-router {port}", "dying": f"{sys.executable} -c 1"}
    done: list[float] = []
    found = measure_bridge(templates, SMALL, done.append, remarks.append)
    assert done == [1, 2]
    assert [text.partition(" ")[0] for text in remarks] == ["missing", "dying"]
    names = {f"{key}_{what}" for key in ("direct", "bridge", "other") for what in ("p50_us", "rps_32")}
    ratios = {f"bridge_over_{key}_{what}" for key in ("direct", "other") for what in ("p50", "rps")}
    assert set(found) == names | ratios | {"bridge_added_us"}
    assert all(value > 0 for name, value in found.items() if name != "bridge_added_us")
    assert all(describe(name)[1] for name in found)


def test_ratios_are_taken_within_a_round() -> None:
    def figures(direct: float, ours: float) -> dict[str, float]:
        return {"direct_p50_us": direct, "direct_rps_32": 1.0, "bridge_p50_us": ours, "bridge_rps_32": 1.0}

    found = _summary([figures(1.0, 3.0), figures(10.0, 20.0), figures(100.0, 100.0)])
    assert found["bridge_over_direct_p50"] == 2.0
    assert found["bridge_added_us"] == 2.0
    assert found["bridge_p50_us"] == 20.0


def test_a_router_that_answers_501_is_left_out() -> None:
    code = (
        "import sys, http.server as h;"
        "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), h.BaseHTTPRequestHandler).serve_forever()"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aladdin_env.bench.bridge.measure._READY_S", 1.0)
        remarks: list[str] = []
        measure_bridge({"bridge": f'{sys.executable} -c "{code}" {{port}}'}, SMALL, lambda _: None, remarks.append)
    assert "does not serve" in remarks[0]


def test_command(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bridge, "OURS", {"bridge": toy()})
    monkeypatch.setattr(bridge, "known_peers", dict)
    monkeypatch.setattr(bridge, "Effort", lambda: SMALL)
    path = tmp_path / "found.json"
    done = run("--bridge", "--json", "--out", path, "--peer", f"a-toy={toy()}")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"direct_p50_us", "bridge_p50_us", "bridge_rps_32", "a_toy_p50_us", "bridge_over_a_toy_rps"} <= set(found)
    assert json.loads(path.read_text()) == found
    table = run("--bridge")
    assert table.exit_code == 0 and "what the bridge adds" in " ".join(table.stdout.split())


@pytest.mark.parametrize(
    "given",
    [
        ("--bridge", "--only", "day_s"),
        ("--peer", "a=b"),
        ("--bridge", "--peer", "x"),
        ("--bridge", "--peer", "direct=x"),
    ],
)
def test_mistakes(run: Run, given: tuple[str, ...]) -> None:
    done = run(*given)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1


def test_names_of_peers() -> None:
    assert peers_given(["my-router=r {port} --of a=b"]) == {"my_router": "r {port} --of a=b"}
    with pytest.raises(InputError):
        peers_given(["a b=r"])
