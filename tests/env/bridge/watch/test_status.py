"""``/status``: every field is documented, what is unknown is null, and nothing from outside breaks it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from aladdin_env.bridge.events import Beat
from aladdin_env.profile_tracker import TrackerStatus

from .stage import BEGAN_UNIX_S, Stage

DOCUMENT = (Path(__file__).parents[4] / "docs/bridge-metrics.md").read_text(encoding="utf-8")
#: Objects whose keys are values of their own, described with them.
BY_NAME = {
    "fallbacks", "requests.shed_by_reason", "scaling.guard_rails", "slo[].attainment", "slo[].judged", "slo[].missed",
}  # fmt: skip
TRACKED = TrackerStatus("llama", 500, 1.1, 0.9, 1.0, True, 1.25, 3.0)


def told(stage: Stage) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(stage.watch.status.whole()))


def paths(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) and path not in BY_NAME:
        for key, inner in value.items():
            below = f"{path}.{key}" if path else key
            yield below if not (isinstance(inner, list) and inner and isinstance(inner[0], dict)) else f"{below}[]"
            yield from paths(inner, below)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                yield from paths(inner, f"{path}[]")


def full() -> Stage:
    stage = Stage(mode="shadow", calibrations=lambda: [TRACKED])
    stage.ready(0, 1)
    stage.starting(2)
    stage.answer(stage.request("done", klass=1))
    stage.request("open")
    asyncio.run(stage.control.beat())
    stage.watch.beat(Beat(stage.now_s, "shadow", (2,), (3,), (3,), ("step",)))
    return stage


def test_every_field_is_in_the_document_and_none_besides() -> None:
    shown = set(paths(told(full())))
    status = DOCUMENT.split("## The status")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `([\w.\[\]]+)` ", status, re.MULTILINE))
    assert documented == shown


def test_workers_as_they_are() -> None:
    stage = full()
    stage.failed(1, "HTTP 500")
    stage.now_s += 2.0
    ready, failed, starting = told(stage)["workers"]
    assert (ready["slot"], ready["state"], ready["url"], ready["model"]) == (0, "ready", "http://gpu-0:8000", "llama")
    assert (ready["running"], ready["kv_usage"], ready["kv_capacity_tokens"], ready["stale"]) == (
        1.0,
        0.25,
        64000,
        False,
    )
    assert ready["state_for_s"] == pytest.approx(stage.now_s)
    assert (failed["state"], failed["reason"], failed["breaker"]) == ("failed", "HTTP 500", "open")
    assert failed["state_for_s"] == 2.0
    assert (starting["state"], starting["model"], starting["kv_usage"], starting["metrics_age_s"]) == (
        "starting", None, None, None,
    )  # fmt: skip
    assert starting["ready_in_s"] == pytest.approx(30.0 - stage.now_s)


def test_a_last_decision_and_heartbeat() -> None:
    status = told(full())
    newest = status["decisions"][0]
    assert (newest["request_id"], newest["answer"], newest["slot"]) == ("open", "placed", 1)
    assert (newest["by"], newest["shadow_answer"], newest["class"]) == ("round_robin", "placed", "interactive")
    assert status["heartbeats"][0]["guard_rails"] == ["step"]
    assert status["scaling"]["replicas"][0]["proposed"] == 3
    assert (status["shadow"]["agreed"], status["shadow"]["disagreed"]) == (1, 1)
    assert status["began_unix_s"] == BEGAN_UNIX_S
    assert status["calibration"][0]["drifted"] is True


def test_attainment_by_class_and_window() -> None:
    stage = Stage()
    stage.ready(0)
    stage.answer(stage.request())
    stage.now_s = 200.0
    stage.answer(stage.request(), ttft_s=5.0)
    stage.answer(stage.request(klass=1), ttft_s=5.0)
    everything, interactive, batch = told(stage)["slo"]
    assert everything["class"] is None and everything["attainment"] == {"1m": 0.5, "5m": 2 / 3, "60m": 2 / 3}
    assert interactive["attainment"] == {"1m": 0.0, "5m": 0.5, "60m": 0.5}
    assert (batch["ttft_s"], batch["attainment"]["1m"], batch["judged"]["1m"]) == (20.0, 1.0, 1)
    assert everything["missed"] == {"ttft": 1, "atgt": 0, "unserved": 0}


def test_a_bridge_at_rest_knows_little() -> None:
    status = told(Stage())
    assert status["workers"] == status["decisions"] == status["heartbeats"] == []
    assert status["slo"][0]["attainment"] == {"1m": None, "5m": None, "60m": None}
    assert (status["canary"], status["scaling"]["heartbeat_age_s"]) == (None, None)
    assert status["calibration"][0]["drift"] is None


def test_text_from_outside_is_carried_as_text() -> None:
    stage = Stage()
    stage.ready(0, url="http://[::1]:8000/\udce4{}")
    stage.failed(0, "half a character: \ud83d, and a whole one: \U0001f9de")
    stage.request('<script>alert("1")</script>\u202e\udcff')
    status = told(stage)
    assert status["decisions"][0]["request_id"] == '<script>alert("1")</script>\u202e?'
    assert status["workers"][0]["reason"] == "half a character: ?, and a whole one: \U0001f9de"


def test_a_slot_that_still_has_requests_of_a_server_that_is_gone() -> None:
    stage = Stage()
    stage.ready(0)
    with stage.pool.workers[0].lease():
        stage.off(0)
        assert [worker["state"] for worker in told(stage)["workers"]] == ["off"]
    assert told(stage)["workers"] == []
