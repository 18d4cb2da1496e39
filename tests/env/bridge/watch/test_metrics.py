"""The page of metrics: parsed back, documented, of bounded size; what is unknown is not there."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from aladdin_env.bridge.events import Beat
from aladdin_env.bridge.workers.scrape import Scrape
from aladdin_env.profile_tracker import TrackerStatus

from .read import OPEN_METRICS, Page, families, page
from .stage import Stage

DOCUMENT = (Path(__file__).parents[4] / "docs/bridge-metrics.md").read_text(encoding="utf-8")
TRACKED = TrackerStatus("llama", 500, 1.1, 0.9, 1.0, False, 0.25, 3.0)


def busy(**more: object) -> Stage:
    """A stage on which everything that can be counted has happened."""
    stage = Stage(mode="canary", calibrations=lambda: [TRACKED], **more)
    stage.ready(0, 1)
    stage.starting(2)
    for klass in (0, 1):
        stage.answer(stage.request(klass=klass))
    stage.request("open")
    stage.watch.beat(Beat(stage.now_s, "canary", (3,), (5,), (4,), ("step",)))
    return stage


def test_every_metric_is_in_the_document_and_none_besides() -> None:
    exposed = {family.name for family in families(busy().watch)}
    assert all(name.startswith("aladdin_") for name in exposed)
    documented = set(re.findall(r"^\| `(aladdin_\w+?)(?:_total)?` ", DOCUMENT, re.MULTILINE))
    assert documented == exposed


def test_documented_labels_are_those_that_are_there() -> None:
    found = page(busy().watch)
    for name, labels in re.findall(r"^\| `(aladdin_\w+)` \| \w+ \| ([^|]*) \|", DOCUMENT, re.MULTILINE):
        shown = next(n for n in (name, f"{name}_bucket") if n in found.names())
        assert found.labels_of(shown) - {"le"} == set(re.findall(r"`(\w+)`", labels)), name


@pytest.mark.parametrize("accepts", ["", "*/*", "text/plain", OPEN_METRICS, "application/openmetrics-text"])
def test_both_formats_say_the_same(accepts: str) -> None:
    stage = busy()
    assert {s.name for f in families(stage.watch, accepts) for s in f.samples} == page(stage.watch).names()
    body, content_type = stage.watch.metrics.page(accepts)
    assert content_type.startswith(
        "application/openmetrics-text" if "openmetrics" in accepts else "text/plain; version="
    )
    assert body.endswith(b"# EOF\n") == ("openmetrics" in accepts)


@pytest.mark.parametrize(
    "accepts",
    [
        "application/openmetrics-text; version=x",
        "application/openmetrics-text; version=0.0.1",
        "text/plain; version=;",
        "text/plain; version=x",
        ",,;;=",
        "text/plain; version=1.0.0; escaping=x",
    ],
)
def test_nonsense_is_answered_with_the_plain_format(accepts: str) -> None:
    body, content_type = Stage().watch.metrics.page(accepts)
    assert content_type.startswith(("text/plain; version=0.0.4", "text/plain; version=1"))
    assert b"aladdin_build_info" in body


def test_what_happened_is_shown() -> None:
    found = page(busy().watch)
    assert found("aladdin_requests_arrived_total") == 3
    assert found("aladdin_requests_total", outcome="finished", **{"class": "interactive"}) == 1
    assert found("aladdin_slo_attainment_ratio", **{"class": "batch"}) == 1.0
    assert found("aladdin_slo_objective_seconds", kind="atgt", **{"class": "interactive"}) == 0.022
    assert found("aladdin_ttft_seconds_bucket", le="0.3", **{"class": "batch"}) == 1
    assert found("aladdin_decision_seconds_count", stage="place") == 3
    assert found("aladdin_requests_in_flight") == 1
    assert found("aladdin_mode", mode="canary") == 1 and found("aladdin_mode", mode="active") == 0
    assert found("aladdin_canary_ratio") == 0.1
    assert found("aladdin_policy_info", policy="least_request", baseline="round_robin") == 1
    assert found("aladdin_calibration_info", type="gpu", profile="llama") == 1
    assert found("aladdin_calibration_drift_ratio", type="gpu") == 0.25
    assert found("aladdin_calibration_factor", type="gpu", law="prefill") == 1.1
    assert found("aladdin_workers", type="gpu", state="ready") == 2
    assert found("aladdin_workers", type="gpu", state="off") == 1
    assert found("aladdin_worker_state", slot="2", state="starting") == 1
    assert found("aladdin_worker_state", slot="2", state="ready") is None
    assert found("aladdin_worker_breaker_state", slot="0", state="closed") == 1
    assert found("aladdin_current_replicas", type="gpu") == 3
    assert found("aladdin_proposed_replicas", type="gpu") == 5
    assert found("aladdin_guard_rails_total", rail="step") == 1
    assert found("aladdin_gpus") == 3


def test_whoever_scales_the_pool_reads_what_is_desired() -> None:
    beat = Beat(1.0, "active", (2,), (5,), (4,), ())
    scaling, fixed = Stage(), Stage(can_scale=False)
    assert page(scaling.watch)("aladdin_desired_replicas", type="gpu") == 2
    for stage in (scaling, fixed):
        stage.watch.beat(beat)
    assert page(fixed.watch)("aladdin_desired_replicas", type="gpu") == 4  # the pool is not told
    asyncio.run(scaling.pool.scale_to([3]))  # by hand, after the heartbeat
    assert page(scaling.watch)("aladdin_desired_replicas", type="gpu") == 3


def test_what_is_unknown_is_absent_not_0() -> None:
    stage = Stage()
    found = page(stage.watch)
    for name in (
        "aladdin_slo_attainment_ratio", "aladdin_canary_ratio", "aladdin_proposed_replicas",
        "aladdin_heartbeat_age_seconds",
        "aladdin_calibration_drift_ratio",
    ):  # fmt: skip
        assert name not in found.names()
    stage.starting(0)  # was never seen
    stage.ready(1)
    stage.look(1, running=None, waiting=2.0, kv=None)
    found = page(stage.watch)
    assert found("aladdin_worker_metrics_age_seconds", slot="0") is None
    assert found("aladdin_worker_metrics_age_seconds", slot="1") == 0
    assert found("aladdin_worker_waiting_requests", slot="1") == 2
    assert "aladdin_worker_kv_usage_ratio" not in found.names()
    assert "aladdin_worker_running_requests" not in found.names()
    assert "aladdin_worker_in_flight_requests" in found.names()  # we know that ourselves
    stage.now_s += 60.0
    found = page(stage.watch)
    assert found("aladdin_worker_waiting_requests", slot="1") is None  # too old to go by
    assert found("aladdin_worker_metrics_age_seconds", slot="1") == 60
    stage.pool.cold_start_s = None
    assert "aladdin_cold_start_seconds" not in page(stage.watch).names()


def test_who_waits_and_how_long() -> None:
    stage = Stage()
    stage.request("first")
    stage.now_s = 4.0
    stage.request("second")
    stage.now_s = 6.0
    found = page(stage.watch)
    assert found("aladdin_hold_queue_oldest_seconds") == 6.0
    assert found("aladdin_hold_queue_limit") == 1000


def test_cost_runs_between_heartbeats() -> None:
    stage = Stage()
    stage.ready(0, 1)
    stage.now_s = 1800.0
    found = page(stage.watch)
    kind = stage.scenario.fleet.types[0]
    assert found("aladdin_gpu_seconds_total") == pytest.approx(2 * kind.gpus * 1800.0)
    assert found("aladdin_cost_total") == pytest.approx(2 * kind.price_per_s * 1800.0)


def test_classes_that_clients_stated_appear_with_their_requests() -> None:
    stage = Stage()
    stage.ready(0)
    assert found_classes(page(stage.watch)) == {"interactive", "batch"}
    stage.cluster.world.slo[2] = 0.5, 0.01
    stage.answer(stage.request(klass=2))
    assert found_classes(page(stage.watch)) == {"interactive", "batch", "stated_2"}


def found_classes(found: Page) -> set[str]:
    return {sample.labels["class"] for sample in found.samples if sample.name == "aladdin_slo_met_total"}


def test_strangers_make_no_series() -> None:
    stage = busy()
    before = len(page(stage.watch).samples)
    for i in range(300):
        ticket = stage.request(f"id-{i}")
        ticket.by = f"policy-{i}"
        stage.watch.decided(ticket, 0)
        stage.watch.refused(f"reason-{i}", 1, 0, stage.now_s)
        stage.watch.fell_back(f"fault-{i}")
        stage.watch.beat(Beat(0.0, "active", (1,), None, (1,), (f"rail-{i}",)))
        stage.dispatcher.fail(ticket, f"error {i}")
    found = page(stage.watch)
    assert found("aladdin_decisions_total", policy="other", answer="placed") == 300
    assert found("aladdin_fallbacks_total", reason="other") == 300
    assert len(found.samples) - before < 10


def test_a_large_fleet_is_cut() -> None:
    stage = Stage(slots=600)
    stage.ready(*range(600))
    found = page(stage.watch)
    slots = {sample.labels["slot"] for sample in found.samples if sample.name == "aladdin_worker_state"}
    assert slots == {str(slot) for slot in range(512)}
    assert found("aladdin_workers", type="gpu", state="ready") == 600


def test_a_worker_that_is_gone_has_no_series() -> None:
    stage = Stage()
    stage.ready(0, 1)
    stage.off(1)
    assert page(stage.watch)("aladdin_worker_in_flight_requests", slot="1") is None
    stage.pool.workers[1].scrape = Scrape()
    stage.pool.workers[1]._begin()  # a request of the last server in it has not ended
    assert page(stage.watch)("aladdin_worker_in_flight_requests", slot="1") == 1


def test_tasks_of_the_event_loop_are_counted() -> None:
    async def with_more(count: int) -> float | None:
        more = [asyncio.create_task(asyncio.sleep(60.0)) for _ in range(count)]
        found = page(Stage().watch)("aladdin_asyncio_tasks")
        for task in more:
            task.cancel()
        return found

    assert asyncio.run(with_more(5)) == 6  # the test's own, too
    assert page(Stage().watch)("aladdin_asyncio_tasks") == 0  # no loop runs here


def test_scaling_decisions_are_timed() -> None:
    stage = Stage()
    stage.watch.beat(Beat(1.0, "active", (2,), (5,), (4,), (), 0.003))
    assert page(stage.watch)("aladdin_decision_seconds_sum", stage="scale") == 0.003


def test_two_bridges_in_one_process_do_not_meet() -> None:
    one, two = busy(), Stage()
    assert one.watch.metrics.registry is not two.watch.metrics.registry
    assert page(two.watch)("aladdin_requests_arrived_total") == 0


def test_a_profile_without_tracker_is_named() -> None:
    stage = Stage()
    name = stage.scenario.fleet.types[0].latency.name
    assert page(stage.watch)("aladdin_calibration_info", type="gpu", profile=name) == 1
    tracked = Stage(calibrations=lambda: [replace(TRACKED, prior="other profile")])
    assert page(tracked.watch)("aladdin_calibration_info", type="gpu", profile="other profile") == 1
