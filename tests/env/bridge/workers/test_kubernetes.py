"""Pods as workers: who is one, and who goes when there are to be fewer; the real client, a fake API server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.errors import OutsideFault
from aladdin_env.simulator.state import DRAINING, FAILED, OFF, READY, STARTING

from .fake_kubernetes import COST, FakePod
from .kubernetes_scene import Scene, tell
from .pretend import soon

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pods are loopback addresses other than 127.0.0.1")


def test_pods_that_are_there_become_workers(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(2, Limits(1, 4))
        await scene.ready(2)
        assert scene.pool.wanted == (2,) and scene.pool.can_scale
        first = scene.pool.workers[0]
        assert first.model == "m" and first.url == f"http://127.0.0.2:{scene.cluster.port}"
        assert scene.pool.cold_start_s == 42.0  # nobody knows how long these took
        assert scene.cluster.patches == [-3]  # whether we may scale was tried

    tell(tmp_path, story)


def test_more_pods_are_asked_for_and_expected_until_they_are_ready(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 3))
        await scene.ready(1)
        await scene.pool.scale_to([9])
        assert scene.cluster.replicas == 3 and scene.pool.wanted == (3,)
        assert scene.states() == [READY, STARTING, STARTING]
        expected = scene.pool.workers[1]
        assert expected.url == "" and expected.ready_s == pytest.approx(expected.since_s + 42.0, abs=1.0)
        await scene.run_pod("vllm-2")
        await scene.ready(2)
        assert scene.states() == [READY, READY, STARTING]
        assert 0.0 < scene.pool.cold_start_s < 42.0
        await scene.run_pod("vllm-1")
        await scene.ready(3)

    tell(tmp_path, story)


def test_a_pod_that_somebody_else_takes_away_drains(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(2, Limits(1, 2))
        await scene.ready(2)
        worker = scene.of("vllm-0")
        with worker.lease():
            scene.cluster.pods["vllm-0"].terminating = True
            await soon(lambda: worker.status == DRAINING)
            scene.cluster.pods.pop("vllm-0")
            await scene.polls()
            assert worker.status == DRAINING and worker.url
        await soon(lambda: worker.status != DRAINING)
        assert worker.url == ""
        await soon(lambda: worker.status == STARTING)  # the workload still is to have two
        scene.cluster.set_replicas(2)
        await scene.run_pod("vllm-2")
        await scene.ready(2)

    tell(tmp_path, story)


def test_an_idle_pod_is_drained_marked_and_only_then_given_up(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(3, Limits(1, 3))
        await scene.ready(3)
        busy, other = scene.of("vllm-0"), scene.of("vllm-1")
        with busy.lease(), other.lease():
            await scene.pool.scale_to([2])
            assert scene.cluster.replicas == 2
            assert (
                scene.cluster.pods["vllm-2"].terminating and scene.cluster.pods["vllm-2"].annotations[COST] == "-1000"
            )
            assert scene.of("vllm-2").status == DRAINING
            scene.cluster.pods.pop("vllm-2")
            await soon(lambda: OFF in scene.states())
            await scene.pool.scale_to([1])
            assert scene.states().count(DRAINING) == 1 and scene.cluster.replicas == 2
            await scene.polls()
            assert scene.cluster.replicas == 2  # both are busy: nobody is stopped
        await soon(lambda: scene.cluster.replicas == 1)

    tell(tmp_path, story)


def test_a_draining_pod_is_taken_back_and_not_preferred_any_more(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(2, Limits(1, 2))
        await scene.ready(2)
        with scene.of("vllm-0").lease(), scene.of("vllm-1").lease():
            await scene.pool.scale_to([1])
            (chosen,) = [name for name in scene.cluster.pods if scene.of(name).status == DRAINING]
            assert scene.cluster.pods[chosen].annotations == {COST: "-1000"}
            await scene.pool.scale_to([2])
            assert scene.states() == [READY, READY]
            assert scene.cluster.pods[chosen].annotations == {}
        await scene.polls()
        assert scene.states() == [READY, READY] and scene.cluster.replicas == 2

    tell(tmp_path, story)


def test_a_drain_has_a_deadline(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(2, Limits(1, 2), drain_s=0.1)
        await scene.ready(2)
        with scene.of("vllm-0").lease(), scene.of("vllm-1").lease():
            await scene.pool.scale_to([1])
            assert scene.cluster.replicas == 2
            await soon(lambda: scene.cluster.replicas == 1)

    tell(tmp_path, story)


def test_without_the_right_to_mark_pods_kubernetes_chooses_and_the_pool_follows(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.cluster.rights.discard(("patch", "pods"))
        await scene.begin(2, Limits(1, 2), settle_s=0.1)
        await scene.ready(2)
        spared = scene.of("vllm-1")
        with scene.of("vllm-0").lease():  # it chooses this one, though it is busy
            await scene.pool.scale_to([1])
            assert scene.cluster.pods["vllm-0"].terminating and spared.status == DRAINING
            await soon(lambda: spared.status == READY)
            assert scene.of("vllm-0").status == DRAINING

    tell(tmp_path, story)


def test_of_a_stateful_set_the_last_pods_go(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(3, Limits(1, 3))
        await scene.ready(3)
        last = scene.of("vllm-2")
        with last.lease():
            await scene.pool.scale_to([1])
            assert [scene.of(f"vllm-{i}").status for i in range(3)] == [READY, DRAINING, DRAINING]
            await scene.polls()
            assert scene.cluster.replicas == 3  # the last one is busy, and would go before the idle one
        await soon(lambda: scene.cluster.replicas == 1)
        assert not scene.cluster.pods["vllm-0"].terminating

    tell(tmp_path, story, "statefulsets")


def test_loading_pods_are_not_given_up_before_their_time(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 3), loading_s=0.5)
        await scene.ready(1)
        await scene.pool.scale_to([3])
        await scene.pool.scale_to([1])
        assert scene.cluster.replicas == 3 and scene.states() == [READY, STARTING, STARTING]
        await soon(lambda: scene.cluster.replicas == 1)
        assert scene.states() == [READY, OFF, OFF] and not scene.cluster.pods["vllm-0"].terminating

    tell(tmp_path, story)


def test_a_pod_that_is_not_ready_gets_nothing_until_it_is(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 1))
        await scene.ready(1)
        (worker,) = scene.pool.workers
        scene.cluster.pods["vllm-0"].ready = False
        await soon(lambda: worker.status == FAILED)
        assert worker.reason == "its pod is not ready"
        await scene.polls(10)
        assert worker.status == FAILED  # though it answers our own checks
        scene.cluster.pods["vllm-0"].ready = True
        await scene.ready(1)

    tell(tmp_path, story)


def test_a_pod_that_stops_answering_is_failed_before_kubernetes_sees_it(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 1))
        await scene.ready(1)
        scene.servers["vllm-0"].behaviour.health = 503
        await soon(lambda: scene.states() == [FAILED])
        scene.servers["vllm-0"].behaviour.health = 200
        await scene.ready(1)

    tell(tmp_path, story)


def test_pods_of_another_model_stay_out_until_the_old_ones_are_gone(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 2))
        await scene.ready(1)
        await scene.pool.scale_to([2])
        await scene.run_pod("vllm-1", model="n")
        await soon(lambda: FAILED in scene.states())
        assert "it serves 'n'" in scene.pool.workers[1].reason
        scene.cluster.pods["vllm-0"].terminating = True
        await soon(lambda: scene.pool.workers[1].status == READY)

    tell(tmp_path, story)


def test_more_pods_than_slots_wait_for_one(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 1))
        await scene.ready(1)
        scene.cluster.pods["vllm-9"] = FakePod()  # as in a rolling update
        await scene.run_pod("vllm-9")
        await scene.polls()
        scene.cluster.pods["vllm-0"].terminating = True
        (worker,) = scene.pool.workers
        await soon(lambda: worker.status == READY and f"//{scene.cluster.pods['vllm-9'].ip}:" in worker.url)

    tell(tmp_path, story)


def test_a_new_pod_on_an_old_address_is_another_worker(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 1))
        await scene.ready(1)
        (worker,) = scene.pool.workers
        era = worker.era
        scene.cluster.pods["vllm-1"] = scene.cluster.pods.pop("vllm-0")
        await soon(lambda: worker.status == READY and worker.era > era)

    tell(tmp_path, story)


def test_conflicts_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aladdin_env.bridge.workers.kubernetes_scale._FIRST_PAUSE_S", 0.001)

    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 3), poll_s=60.0)
        scene.cluster.conflicts = 2
        await scene.pool.scale_to([2])
        assert scene.cluster.replicas == 2
        scene.cluster.conflicts = 99
        with pytest.raises(OutsideFault, match="changed by somebody else"):
            await scene.pool.scale_to([3])

    tell(tmp_path, story)


def test_an_outage_of_the_api_server_leaves_the_workers_alone(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 2))
        await scene.ready(1)
        scene.cluster.status = 503
        with pytest.raises(OutsideFault, match="answers 503"):
            await scene.pool.scale_to([2])
        await scene.polls()
        assert scene.states() == [READY, OFF]
        scene.cluster.status = 0
        await soon(lambda: scene.cluster.replicas == 2)  # what was wanted is not forgotten
        scene.cluster.services.clear()
        await scene.polls()
        assert scene.states() == [READY, STARTING]

    tell(tmp_path, story)


def test_where_somebody_else_scales_it_only_follows(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.cluster.rights.discard(("patch", "deployments/scale"))
        await scene.begin(1, Limits(1, 2), scales=False)
        await scene.ready(1)
        await scene.pool.scale_to([2])
        await scene.polls()
        assert (scene.pool.can_scale, scene.pool.wanted, scene.cluster.patches) == (False, (2,), [])
        assert scene.states() == [READY, OFF]
        scene.cluster.set_replicas(2)  # an HPA that goes by our gauge
        await soon(lambda: scene.states() == [READY, STARTING])
        await scene.run_pod("vllm-1")
        await scene.ready(2)

    tell(tmp_path, story)


def test_the_limits_hold_from_the_start(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(0, Limits(1, 2))
        assert scene.pool.wanted == (1,)
        await soon(lambda: scene.cluster.replicas == 1)
        await scene.run_pod("vllm-0")
        await scene.ready(1)

    tell(tmp_path, story)
