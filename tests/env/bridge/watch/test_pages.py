"""The pages over HTTP: for probes, scrapers, scripts and people."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from aladdin_env.bridge.watch import WatchOptions

from .read import OPEN_METRICS
from .served import Served, served
from .stage import Stage


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def server(stage: Stage) -> Iterator[Served]:
    with served(stage) as server:
        yield server


def ask(server: Served, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def code(body: bytes) -> str:
    return json.loads(body)["error"]["code"]


def test_alive_is_not_ready(server: Served, stage: Stage) -> None:
    assert ask(server, "/health")[0] == 200
    status, headers, body = ask(server, "/ready")
    assert (status, code(body), headers["Retry-After"]) == (503, "no_worker", "1")
    server.do(lambda: stage.ready(1))
    status, _, body = ask(server, "/ready")
    assert (status, json.loads(body)) == (200, {"status": "ready", "ready": 1, "slots": 4})
    stage.dispatcher.closing = True
    status, _, body = ask(server, "/ready")
    assert (status, code(body)) == (503, "shutting_down")
    assert ask(server, "/health")[0] == 200


@pytest.mark.parametrize(("can_scale", "expected"), [(True, 200), (False, 503)])
def test_ready_at_zero_where_the_pool_can_start_a_worker(can_scale: bool, expected: int) -> None:
    with served(Stage(can_scale=can_scale, options=WatchOptions(ready_at_zero=True))) as server:
        assert ask(server, "/ready")[0] == expected


def test_version_and_status_are_json(server: Served) -> None:
    status, headers, body = ask(server, "/version")
    assert status == 200 and json.loads(body)["version"]
    status, headers, body = ask(server, "/status")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "application/json", "no-store")
    assert json.loads(body)["version"] == json.loads(ask(server, "/version")[2])["version"]


def test_metrics_in_the_format_that_is_asked_for(server: Served) -> None:
    status, headers, body = ask(server, "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert body.startswith(b"# HELP aladdin_")
    _, headers, body = ask(server, "/metrics", Accept=OPEN_METRICS)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


def test_the_page_lets_nothing_run_but_itself(server: Served) -> None:
    status, headers, body = ask(server, "/ui")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    assert policy.count("'sha256-") == 2
    assert headers["X-Content-Type-Options"] == "nosniff"
    text = body.decode()
    assert text.count("<script>") == text.count("<style>") == 1
    assert not any(word in text for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("))
    assert not any(word in text for word in (' style="', " onclick", "src=", "@import", "url("))


@pytest.mark.parametrize("path", ["/health", "/metrics", "/status", "/ui", "/events"])
def test_head_is_answered_at_once(server: Served, path: str) -> None:
    status, _, body = ask(server, path, "HEAD")
    assert (status, body) == (200, b"")
