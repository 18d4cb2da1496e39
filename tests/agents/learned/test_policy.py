"""Checkpoints as policies: by path wherever a name goes, the decisions of the environments, on fleets of any size."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from typer.testing import CliRunner

from aladdin_agents.learned.checkpoint import load
from aladdin_agents.learned.export import card_of, export_net, save_model
from aladdin_agents.learned.forward import Forward
from aladdin_agents.learned.policy import LearnedJoint, LearnedPlacement, LearnedScaler, load_policy
from aladdin_agents.learned.sb3 import ClusterPolicy
from aladdin_agents.learned.shape import Shape
from aladdin_env import InputError
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.cli import app
from aladdin_env.compare.contenders import contenders, settings_of
from aladdin_env.envs.spaces import Task
from aladdin_env.policy import combine, make_policy, make_scaler
from aladdin_env.presets import load_scenario
from aladdin_env.simulator.run import Simulator, simulate
from aladdin_env.simulator.setup import draw
from aladdin_env.simulator.state import READY, STARTING
from aladdin_traces import Workload

from . import samples

FIXED = Shape(1, True, False)
CHOOSY = Shape(1, True, False, holds=True, rejects=True)
SCALING = Shape(1, False, True)
JOINT = Shape(1, True, True)


@pytest.fixture
def made(tmp_path):
    """Writes a checkpoint and gives its path."""

    def make(shape: Shape, network: str = "equivariant", slots: int = 8, seed: int = 0) -> str:
        name = f"{shape.kind}-{network}-{slots}-{seed}.npz"
        return samples.write(tmp_path / name, shape, network, slots, seed)

    return make


def same(one: dict[str, float], other: dict[str, float]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name] == other[name] or (np.isnan(one[name]) and np.isnan(other[name])), name


# --- the decisions of the environments ------------------------------------------------------------------------------


def played(shape: Shape, path: str, scenario, seed: int) -> dict[str, float]:
    """Summary of an episode of the environment, each action the best allowed one."""
    env = samples.environment_for(shape, scenario)
    forward = Forward(*load(path))
    observation, info = env.reset(seed=seed)
    over = False
    while not over:
        logits = forward.logits(observation["workers"].reshape(-1, 24), observation["request"], observation["cluster"])
        allowed = info["action_mask"].astype(bool)
        observation, _, terminated, truncated, info = env.step(int(np.where(allowed, logits, -np.inf).argmax()))
        over = terminated or truncated
    summary: dict[str, float] = info["summary"]
    return summary


def trace_scenario():
    """A fixed trace without a horizon of its own, and two types that fail."""
    rng = np.random.default_rng(0)
    workload = Workload.from_arrays(np.cumsum(rng.exponential(0.05, 400)), rng.integers(1, 900, 400),
                                    rng.integers(1, 200, 400))  # fmt: skip
    return replace(samples.two_types(), workload=workload, horizon_s=None)


@pytest.mark.parametrize("scenario", [samples.two_types(), trace_scenario()], ids=["generated", "trace"])
@pytest.mark.parametrize("network", samples.NETWORKS)
def test_a_joint_policy_does_in_the_simulator_what_it_did_in_training(made, scenario, network):
    shape = Shape(2, True, True, holds=True)
    sizes = set()
    for seed in range(4):
        path = made(shape, network, scenario.fleet.slots, seed)
        result = simulate(scenario, path, seed=seed)
        same(played(shape, path, scenario, seed), result.summary)
        sizes.update(result.fleet["gpus"])
    assert len(sizes) > 2


def test_a_placement_does_in_the_simulator_what_it_did_in_training(made):
    scenario = samples.cluster_of().with_workers((5,))
    rejected = 0
    for seed in range(6):
        path = made(CHOOSY, seed=seed)
        summary = simulate(scenario, path, seed=seed).summary
        same(played(CHOOSY, path, scenario, seed), summary)
        rejected += summary["rejected"]
    assert rejected > 0


def test_a_scaler_does_in_the_simulator_what_it_did_in_training(made):
    scenario = samples.two_types()
    shape = Shape(2, False, True)
    for seed in range(3):
        path = made(shape, seed=seed)
        same(played(shape, path, scenario, seed), simulate(scenario, f"aladdin+{path}", seed=seed).summary)


def test_split_fleets_place_twice(made):
    scenario = replace(load_scenario("split-phase"), horizon_s=20.0)
    for seed in range(3):
        result = simulate(scenario, f"{made(FIXED, seed=seed)}+{made(SCALING, seed=seed)}", seed=seed)
        assert result.summary["finished"] > 0


# --- paths wherever names go ----------------------------------------------------------------------------------------


def test_paths_stand_for_placements_scalers_and_both(made):
    scenario = samples.cluster_of()
    placement, scaling, joint = made(FIXED), made(SCALING), made(JOINT)
    for spec, kinds, name in (
        (placement, (LearnedPlacement, None), "placement-equivariant-8-0"),
        (f"{placement}+aladdin", (LearnedPlacement, None), "placement-equivariant-8-0+aladdin"),
        (f"aladdin+{scaling}", (None, LearnedScaler), "aladdin+scaling-equivariant-8-0"),
        (f"{placement} + {scaling}", (LearnedPlacement, LearnedScaler), None),
        (joint, (LearnedJoint, LearnedJoint), "joint-equivariant-8-0"),
        (f"{joint}+aladdin", (LearnedJoint, None), None),
        (f"least_request+{joint}", (None, LearnedJoint), None),
    ):
        policy = make_policy(spec, scenario)
        for part, kind in zip((policy.placement, policy.scaler), kinds, strict=True):
            assert kind is None or type(part) is kind
        assert name in (None, policy.name)
        assert policy.scales == ("+" in spec or spec == joint)
        assert simulate(scenario, spec, seed=1).summary["finished"] > 0


def test_wrong_parts_and_files_are_refused(made, tmp_path):
    scenario = samples.cluster_of()
    placement, scaling = made(FIXED), made(SCALING)
    for spec, text in (
        (scaling, "only scales"),
        (f"{scaling}+aladdin", "only scales"),
        (f"aladdin+{placement}", "only places"),
        ("none.npz", "no such file"),
        ("aladdin+none.zip", "no such file"),
        ("alladin", "did you mean 'aladdin'"),
        (f"{placement}.bin", "choose one of"),
    ):
        with pytest.raises(InputError, match=text):
            make_policy(spec, scenario)
    with pytest.raises(InputError, match="only places"):
        make_scaler(placement, scenario)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="damaged"):
        make_policy(str(tmp_path / "broken.npz"), scenario)


def test_in_comparisons_and_on_the_command_line(made):
    scenario = samples.cluster_of()
    placement, joint = made(FIXED), made(JOINT)
    entered = contenders(scenario, ["aladdin", placement, joint, f"aladdin+{joint}"])
    assert [one.label for one in entered] == ["aladdin+aladdin", f"{placement}+aladdin", joint, f"aladdin+{joint}"]
    names = f"aladdin,{placement},{joint}"
    arguments = ["compare", "--scenario", "sharegpt-poisson", "--horizon", "20", "--policies", names]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "network=equivariant 32" in done.output
    done = CliRunner().invoke(app, [*arguments[:-1], "none.npz"])
    assert done.exit_code == 2
    assert "no such file" in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_inside_environments(made):
    """A learned placement under a scaling agent, a learned scaler under a placing one; copies do not mix them up."""
    scenario = samples.cluster_of()
    for name, options in (("Scaling", {"policy": made(FIXED)}), ("Placement", {"scaler": made(SCALING)})):
        by_name = gym.make_vec(f"aladdin/{name}-v0", 3, scenario=scenario, **options)
        ((kind, path),) = options.items()
        objects = {kind: load_policy(path, scenario)}
        by_object = gym.make_vec(f"aladdin/{name}-v0", 3, scenario=scenario, **objects)
        observations = [envs.reset(seed=4)[0] for envs in (by_name, by_object)]
        for _ in range(60):
            for key in observations[0]:
                np.testing.assert_array_equal(observations[0][key], observations[1][key])
            actions = np.argmax(observations[0]["mask"], axis=1)
            observations = [envs.step(actions)[0] for envs in (by_name, by_object)]


def test_settings_tell_what_the_card_says(made):
    policy = make_policy(made(JOINT), samples.cluster_of())
    told = settings_of(policy)["placement joint-equivariant-8-0"]
    assert told["network"] == "equivariant 32"
    assert told["scenarios"] == 1
    assert told["steps"] == 1000
    assert told["slo_attainment"] == 0.5


# --- fleets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3, 32])
def test_an_equivariant_policy_runs_on_fleets_it_was_not_trained_on(made, workers):
    scenario = samples.cluster_of(samples.worker_type(workers=workers))
    for spec in (made(FIXED), made(JOINT), f"aladdin+{made(SCALING)}"):
        assert simulate(scenario, spec).summary["finished"] > 0
    three = load_scenario("mixed-fleet")
    assert simulate(replace(three, horizon_s=15.0), made(JOINT)).summary["finished"] > 0


def test_an_mlp_names_the_fleet_that_it_takes(made):
    path = made(JOINT, "mlp", 8)
    assert simulate(samples.cluster_of(), path).summary["finished"] > 0
    for scenario in (samples.cluster_of(samples.worker_type(workers=5)), samples.two_types()):
        with pytest.raises(InputError, match=r"trained for 8 slots of 1 worker type and takes.*equivariant"):
            simulate(scenario, path)
    policy = load_policy(path, samples.cluster_of())
    with pytest.raises(InputError, match="equivariant"):
        Simulator(samples.two_types()).run(policy)


def test_one_object_serves_episodes_of_several_fleets(made):
    policy = load_policy(made(JOINT), samples.cluster_of())
    for scenario in (samples.two_types(), samples.cluster_of(), samples.two_types()):
        same(simulate(scenario, policy, seed=3).summary, simulate(scenario, made(JOINT), seed=3).summary)


class Watched:
    """A policy that checks every decision of another."""

    name = "watched"

    def __init__(self, inner, max_change: int):
        self.inner, self.max_change = inner, max_change
        self.changes = set()
        self.scenario = None

    def reset(self, scenario):
        self.scenario = scenario
        self.inner.reset(scenario)

    def place(self, view, request):
        answer = self.inner.place(view, request)
        assert answer in view.candidates(request)
        assert self.inner.place(view, request) == answer
        return answer

    def scale(self, view):
        wanted = self.inner.scale(view)
        if wanted is not None:
            statuses = [
                view.workers["status"][kind["first_slot"] :][: kind["slots"]].tolist() for kind in view.types
            ]  # fmt: skip
            had = [sum(status in (STARTING, READY, 4) for status in each) for each in statuses]
            moved = [n - m for n, m in zip(wanted, had, strict=True)]
            assert sum(change != 0 for change in moved) == 1
            assert max(map(abs, moved)) <= self.max_change
            for kind, n in zip(self.scenario.fleet.types, wanted, strict=True):
                assert kind.minimum <= n <= kind.maximum
            self.changes.update(moved)
        return wanted


@pytest.mark.parametrize("most", [1, 3])
def test_a_heartbeat_changes_one_type_by_few_workers_within_the_limits(made, most):
    scenario = samples.two_types()
    shape = Shape(2, True, True, max_change=most)
    seen = set()
    for seed in range(8):
        watched = Watched(load_policy(made(shape, seed=seed), scenario), most)
        Simulator(scenario, seed).run(watched)
        seen |= watched.changes
    assert seen - {0}
    assert max(map(abs, seen)) <= most


def test_no_more_gpus_than_the_fleet_may_have(made):
    base = samples.two_types()
    scenario = replace(base, fleet=replace(base.fleet, max_gpus=7))
    for seed in range(6):
        result = simulate(scenario, made(Shape(2, True, True), seed=seed), seed=seed)
        assert result.fleet["gpus"].max() <= 7


# --- copies, processes, live traffic --------------------------------------------------------------------------------


def test_copies_decide_alike(made):
    scenario = samples.two_types()
    policy = load_policy(made(JOINT), scenario)
    expected = simulate(scenario, policy, seed=2).summary
    for other in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        same(simulate(scenario, other, seed=2).summary, expected)
    assert combine(policy).scales


SCRIPT = """
import hashlib
from aladdin_env.presets import load_scenario
from aladdin_env.simulator.run import simulate
from dataclasses import replace
scenario = replace(load_scenario("mixed-fleet"), horizon_s=10.0)
print(hashlib.sha256(simulate(scenario, {path!r}, seed=5).requests.to_csv().encode()).hexdigest())
"""


def test_other_processes_decide_alike(made):
    path = made(Shape(3, True, True))
    scenario = replace(load_scenario("mixed-fleet"), horizon_s=10.0)
    here = hashlib.sha256(simulate(scenario, path, seed=5).requests.to_csv().encode()).hexdigest()
    script = SCRIPT.format(path=path)
    environment = {**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


def test_a_simulation_with_a_checkpoint_needs_no_torch(made):
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from dataclasses import replace\n"
        "from aladdin_env.presets import load_scenario\n"
        "from aladdin_env.simulator.run import simulate\n"
        f"simulate(replace(load_scenario('sharegpt-poisson'), horizon_s=5.0), {made(JOINT)!r})\n"
        "assert not any(name.startswith(('stable_baselines3', 'sb3_contrib')) for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_live_traffic(made):
    """The bridge's arrays are the simulator's; where nothing can take a request the answer is to hold it."""
    scenario = samples.cluster_of()
    draws = draw(scenario, np.random.default_rng(0))
    policy = make_policy(made(FIXED), scenario)
    LiveCluster.warm_up(scenario, draws, policy)
    cluster = LiveCluster(scenario, draws, policy)
    for r in range(20):
        cluster.arrive(r, 0.1 * r)
        assert 0 <= cluster.place(r, 0.1 * r) < scenario.fleet.slots
    cluster.world.workers["accepts"] = 0
    cluster.arrive(20, 2.0)
    assert cluster.place(20, 2.0) == -1


def test_a_model_of_sb3_is_a_policy_too(tmp_path):
    scenario = samples.cluster_of(horizon_s=10.0)
    env = samples.environment_for(JOINT, scenario)
    model = MaskablePPO(
        ClusterPolicy, env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu", policy_kwargs={"shape": JOINT}
    )
    model.learn(32)
    card = card_of(model.policy.net, scenarios=["toy"], seeds=[0], steps=32, commit="", command="", results={})
    save_model(tmp_path / "model.zip", model, card)
    export_net(tmp_path / "model.npz", model.policy.net, card)
    zipped, exported = (simulate(scenario, str(tmp_path / name), seed=3) for name in ("model.zip", "model.npz"))
    same(zipped.summary, exported.summary)


def test_the_task_is_that_of_the_shape():
    assert CHOOSY.task == Task(places=True, scales=False, holds=True, rejects=True)
