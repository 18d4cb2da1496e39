"""Several batches as one: numbered, padded and rewarded as each of them alone."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from aladdin_agents.learned.shape import Shape
from aladdin_agents.learned.train.config import Curriculum, config_from
from aladdin_agents.learned.train.curriculum import Load
from aladdin_agents.learned.train.learner import make_learner
from aladdin_agents.learned.train.pool import Frame, PooledVecEnv, numbering
from aladdin_agents.learned.train.sources import make_pool, sources_of
from aladdin_env.envs.sb3 import SB3VecEnv
from aladdin_env.envs.spaces import Actions, Task
from aladdin_env.errors import InputError
from tests.agents.learned.train.toys import elastic, one_useless, small, too_many, written

TASKS = {
    "Placement": Task(True, False, holds=True, rejects=True),
    "Scaling": Task(False, True, max_change=1),
    "Joint": Task(True, True, holds=True, rejects=True, max_change=2),
}


def options(name):
    task = TASKS[name]
    found = {"allow_hold": task.holds, "allow_reject": task.rejects} if task.places else {"policy": "least_request"}
    return found | ({"max_change": task.max_change} if task.scales else {})


def part(name, scenario, n, seed):
    return SB3VecEnv.make(f"aladdin/{name}-v0", n, seed=seed, scenario=scenario, **options(name))


@pytest.mark.parametrize("name", TASKS)
def test_an_action_means_the_same_by_its_number_in_a_larger_fleet(name):
    task = TASKS[name]
    small_fleet, large = too_many(), elastic()
    own, whole = Actions.of(task, small_fleet), Actions.of(task, large)
    numbers = numbering(task, Frame.of(small_fleet), Frame.of(large))
    assert len(numbers) == own.size
    for action, number in enumerate(numbers.tolist()):
        mine, theirs = own.name(action), whole.name(number)
        assert mine == theirs.replace(" a", " fast") if "fast" in mine else mine == theirs


@pytest.mark.parametrize("name", TASKS)
def test_parts_behave_as_they_do_alone(name):
    task = TASKS[name]
    scenarios = (elastic(), too_many(), one_useless())
    pool = PooledVecEnv([part(name, s, 2, None) for s in scenarios], task, [s.name for s in scenarios])
    alone = [part(name, s, 2, None) for s in scenarios]
    seeds = pool.seed(7)
    for k, envs in enumerate(alone):
        envs._seeds = list(seeds[2 * k : 2 * k + 2])
    seen, singles = pool.reset(), [envs.reset() for envs in alone]
    assert pool.observation_space.contains({key: array[0] for key, array in seen.items()})
    rng, ended = np.random.default_rng(0), 0
    for _ in range(400):
        masks = pool.action_masks()
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        seen, rewards, dones, infos = pool.step(actions)
        for k, (envs, before) in enumerate(zip(alone, pool.parts, strict=True)):
            here = slice(2 * k, 2 * k + 2)
            singles[k], own_rewards, own_dones, own_infos = envs.step(before.native[actions[here]])
            assert np.array_equal(rewards[here], own_rewards) and np.array_equal(dones[here], own_dones)
            for key in ("workers", "request", "cluster"):
                width = singles[k][key].shape[1]
                assert np.array_equal(seen[key][here, :width], singles[k][key])
                assert not seen[key][here, width:].any()
            assert seen["mask"][here].sum() == singles[k]["mask"].sum()
            for e in np.flatnonzero(own_dones).tolist():
                ended += 1
                assert infos[2 * k + e]["scenario"] == scenarios[k].name
                assert infos[2 * k + e]["summary"]["cost"] == own_infos[e]["summary"]["cost"]
    assert ended > 0
    pool.close()


def test_rewards_are_weighed_from_the_first_decision_on():
    pool = PooledVecEnv(
        [part("Scaling", too_many(), 2, None), part("Scaling", elastic(), 2, None)],
        TASKS["Scaling"],
        ["too-many", "elastic"],
    )
    prices = {"too-many": 100.0, "elastic": 7.0}
    pool.weigh(lambda scenario: np.array([prices[scenario.name], 0.0, 0.0, 0.0]))
    pool.seed(1)
    pool.reset()
    sums = np.zeros(4)
    for _ in range(200):
        actions = np.zeros(4, dtype=np.int64)
        _, rewards, dones, infos = pool.step(actions)
        sums += rewards
        for e in np.flatnonzero(dones).tolist():
            info = infos[e]
            assert sums[e] == pytest.approx(-prices[info["scenario"]] * info["summary"]["cost"], rel=1e-4)
            sums[e] = 0.0


def test_padding_never_reaches_the_network(tmp_path):
    """Logits and values of a mixed batch are those of each observation on its own."""
    scenarios = [written(elastic(), tmp_path), written(too_many(), tmp_path)]
    more = {"environment": {"envs": 6}, "learner": {"batch_size": 64}}
    config = config_from({"task": "joint", "scenarios": scenarios, **more})
    pool = make_pool(config, sources_of(config), Load(Curriculum(low=1.0, start=1.0, full=1.0)))
    assert pool.frames == (Frame(4, 1), Frame(5, 2))
    model = make_learner(config, pool)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.normal_(0.0, 0.3)
    pool.seed(0)
    seen = pool.reset()
    order = np.random.default_rng(0).permutation(6)
    mixed = {key: torch.from_numpy(array[order]) for key, array in seen.items()}
    with torch.no_grad():
        logits, values = model.policy.logits_and_values(mixed)
        for own in pool.parts:
            native = {key: torch.from_numpy(array) for key, array in own.envs.native.observe().items()}
            workers = native["workers"].view(own.envs.num_envs, -1, 24)
            expected, value = model.policy.net(workers, native["request"], native["cluster"])
            rows = [int(np.flatnonzero(order == e)[0]) for e in range(own.here.start, own.here.stop)]
            assert torch.allclose(logits[rows][:, own.numbers], expected, atol=1e-5)
            assert torch.allclose(values[rows], value, atol=1e-5)


def test_environments_are_shared_by_scenarios_and_refused_where_they_do_not_fit(tmp_path):
    scenarios = [written(elastic(), tmp_path), written(too_many(), tmp_path)]
    load = Load(Curriculum())
    config = config_from({"task": "joint", "scenarios": scenarios, "environment": {"envs": 64}})
    assert [part.envs.num_envs for part in make_pool(config, sources_of(config), load).parts] == [32, 32]
    few = config_from(
        {"task": "joint", "scenarios": scenarios, "environment": {"envs": 1}, "learner": {"batch_size": 64}}
    )
    with pytest.raises(InputError, match=r"environment.envs: 1 is not valid; give at least 2"):
        make_pool(few, sources_of(few), load)
    mlp = config_from({"task": "joint", "scenarios": scenarios, "network": {"kind": "mlp"}})
    with pytest.raises(InputError, match=r"network.kind: 'mlp' is not valid; an MLP fits one fleet"):
        make_pool(mlp, sources_of(mlp), load)


def test_training_episodes_vary_in_load_and_length_and_always_have_requests(tmp_path):
    config = small(
        "placement",
        written(elastic(), tmp_path),
        environment={"horizon_s": 4.0},
        curriculum={"low": 0.5, "start": 0.5, "full": 2.0},
    )
    load = Load(config.curriculum)
    pool = make_pool(config, sources_of(config), load)
    sampler = pool.parts[0].engine.setup.scenario_sampler
    rng = np.random.default_rng(0)
    low = [sampler(rng) for _ in range(50)]
    load.level = 2.0
    high = [sampler(rng) for _ in range(50)]
    assert {s.workload.mean_rate_rps for s in low} == {6.0}
    assert min(s.workload.mean_rate_rps for s in high) < 10.0 < 20.0 < max(s.workload.mean_rate_rps for s in high)
    assert all(2.0 <= s.horizon_s <= 6.0 for s in low + high)
    silent = small("placement", written(elastic(name="silent"), tmp_path), environment={"horizon_s": 1e-9})
    with pytest.raises(InputError, match=r"environment.horizon_s: .* too short for silent"):
        make_pool(silent, sources_of(silent), Load(silent.curriculum)).reset()


def test_shape_and_spaces_agree():
    for name, task in TASKS.items():
        frame = Frame.of(elastic())
        assert frame.actions(task) == gym.make(f"aladdin/{name}-v0", scenario=elastic(), **options(name)).action_space.n
        assert Shape.of(task, 2).actions(frame.slots) == frame.actions(task)


def test_two_scenarios_of_one_name_are_refused(tmp_path):
    file = written(elastic(), tmp_path)
    with pytest.raises(InputError, match="scenarios: 'elastic' is not valid; two of the scenarios have this name"):
        sources_of(replace(small("joint", file), scenarios=(file, file)))
