"""Networks that are advised: they begin as their adviser, hear what it says, and may do otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from aladdin_agents.learned.advice import DEMAND, NO_ACTION, SIZE, Adviser
from aladdin_agents.learned.checkpoint import load, save
from aladdin_agents.learned.forward import Forward
from aladdin_agents.learned.networks import EquivariantNet, weights_of
from aladdin_agents.learned.policy import load_policy
from aladdin_agents.learned.shape import Shape
from aladdin_agents.learned.train.config import config_from
from aladdin_agents.learned.train.curriculum import Load
from aladdin_agents.learned.train.merge import merge
from aladdin_agents.learned.train.run import train
from aladdin_agents.learned.train.sources import make_pool, sources_of
from aladdin_agents.scale_aladdin import AladdinScaler, Demand
from aladdin_env import InputError
from aladdin_env.envs.spaces import Actions, Task
from aladdin_env.policy import HOLD, REJECT, Combined, combine, make_policy
from aladdin_env.simulator.run import Simulator
from tests.agents.learned.train.toys import elastic, small, too_many, written

from . import samples
from .samples import ADVISED, ADVISER


def untrained(shape: Shape, trust: float = 100.0) -> EquivariantNet:
    """A fresh network that trusts its adviser."""
    torch.manual_seed(0)
    made = EquivariantNet(shape, 8)
    made.set_trust(trust)
    return made


class Says:
    """Answers always the same."""

    name = "says"

    def __init__(self, slot: int, wanted: list[int]) -> None:
        self.slot, self.wanted = slot, wanted

    def place(self, view, request) -> int:
        return self.slot

    def scale(self, view):
        return self.wanted


def test_an_untrained_network_does_what_its_adviser_does(tmp_path):
    scenario = elastic()
    shape = Shape(1, True, True, holds=True, rejects=True, max_change=8, advised=True)
    path = tmp_path / "fresh.npz"
    save(path, weights_of(untrained(shape)), samples.card(shape, hidden=8))
    expected = Simulator(scenario, 3).run(make_policy(ADVISER, scenario)).summary
    found = Simulator(scenario, 3).run(combine(load_policy(path, scenario))).summary
    assert found == expected
    save(path, weights_of(untrained(shape, trust=-100.0)), samples.card(shape, hidden=8))
    assert Simulator(scenario, 3).run(combine(load_policy(path, scenario))).summary != expected


def test_an_adviser_forgets_with_its_network(tmp_path):
    shape = replace(ADVISED["joint, advised"], types=1)
    path = tmp_path / "fresh.npz"
    save(path, weights_of(untrained(shape)), samples.card(shape, hidden=8))
    policy = load_policy(path, elastic())
    first = Simulator(elastic(), 3).run(combine(policy)).summary
    assert Simulator(elastic(), 3).run(combine(policy)).summary == first


@pytest.mark.parametrize("shape", ADVISED.values(), ids=ADVISED)
def test_to_exchange_workers_exchanges_their_logits_and_the_advice(shape):
    network = samples.net(shape)
    arrays = samples.observations(replace(shape, types=1), 8, 60)
    order = np.random.default_rng(1).permutation(8)
    slots = 8 if shape.places else 0
    actions = np.concatenate((order[:slots], np.arange(slots, replace(shape, types=1).actions(8))))
    moved = [array.copy() for array in arrays]
    moved[0] = arrays[0][:, order]
    where = np.argsort(actions)
    said = arrays[3][:, 0].astype(int)
    moved[3][:, 0] = np.where(said >= 0, where[said], -1)
    logits, values = samples.in_torch(network, *arrays)
    others, same = samples.in_torch(network, *moved)
    np.testing.assert_allclose(others, logits[:, actions], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(same, values, rtol=1e-4, atol=1e-4)


def test_the_advised_action_alone_gets_the_trust():
    shape = ADVISED["joint, advised"]
    network = untrained(shape, trust=5.0)
    *rest, advice = samples.observations(shape, 6, 40)
    silent = advice.copy()
    silent[:, 0] = NO_ACTION
    gained = samples.in_torch(network, *rest, advice)[0] - samples.in_torch(network, *rest, silent)[0]
    for row, action in zip(gained, advice[:, 0].astype(int), strict=True):
        assert (np.delete(row, action) == 0.0).all() if action >= 0 else (row == 0.0).all()
        assert action < 0 or row[action] == pytest.approx(5.0, abs=0.2)


def test_answers_become_actions():
    scenario = samples.two_types()
    env = samples.environment_for(Shape(2, True, True, holds=True), scenario).unwrapped
    env.reset(seed=0)
    actions = Actions.of(Task(True, True, True, False, 2), scenario)
    mask = np.ones(actions.size, dtype=np.int8)
    view, free = env.engine.view(0), actions.first_change

    def placed(slot):
        return Adviser(combine(Says(slot, [3, 3])), actions).placed(view, None, mask)

    assert placed(4) == 4 and placed(HOLD) == actions.slots and placed(REJECT) == NO_ACTION
    adviser = Adviser(combine(Says(0, [5, 3])), actions)
    more = adviser.changed(view, mask)
    assert actions.changes[more - free].tolist() == [0, 2]
    advice = adviser.advice(more, scaling=True)
    assert advice.tolist() == [more, 0, 0, 1.0, 0] + [0.0] * len(DEMAND)
    assert adviser.advice(actions.slots, scaling=False).tolist() == [actions.slots, 1.0] + [0.0] * (SIZE - 2)
    mask[more] = 0
    assert actions.changes[adviser.changed(view, mask) - free].tolist() == [0, 1]
    env.close()


def test_what_the_scaler_knows_of_the_demand():
    """Loads are shares of what the fleet serves: with one worker less they rise by n / (n - 1)."""
    scenario = samples.cluster_of(horizon_s=60.0)
    scaler = AladdinScaler(scenario)
    seen: list[tuple[Demand, int]] = []

    class Watched:
        name = "watched"

        def scale(self, view):
            wanted = scaler.scale(view)
            ready = sum(s in (1, 2) for s in view.workers["status"].tolist())
            seen.append((scaler.demand, ready))
            return wanted

    Simulator(scenario, 1).run(Combined(make_policy("aladdin_plus", scenario).placement, Watched()))
    told = [(demand, n) for demand, n in seen if demand != Demand()]
    assert len(told) > 3
    for demand, n in told:
        assert 0.0 < demand.rho <= 1.0 and demand.rate <= demand.forecast
        if n > 1:
            assert demand.after_stop == pytest.approx(demand.forecast * n / (n - 1))


def test_a_pool_of_several_fleets_carries_advice(tmp_path):
    scenarios = [written(elastic(), tmp_path), written(too_many(), tmp_path)]
    config = config_from(
        {"task": "joint", "scenarios": scenarios, "environment": {"envs": 6, "max_change": 8},
         "learner": {"batch_size": 64}, "network": {"adviser": ADVISER, "trust": 100.0}}
    )  # fmt: skip
    from aladdin_agents.learned.train.config import Curriculum
    from aladdin_agents.learned.train.learner import make_learner

    pool = make_pool(config, sources_of(config), Load(Curriculum(low=1.0, start=1.0, full=1.0)))
    model = make_learner(config, pool)
    pool.seed(0)
    seen = pool.reset()
    for _ in range(100):
        assert seen["advice"].shape == (6, SIZE)
        with torch.no_grad():
            tensors = {key: torch.from_numpy(np.asarray(array)) for key, array in seen.items()}
            chosen, _, _ = model.policy(tensors, deterministic=True, action_masks=pool.action_masks())
        for part in pool.parts:
            advised = seen["advice"][part.here, 0].astype(int)
            assert (part.native[chosen.numpy()[part.here]] == advised)[advised >= 0].all()
        seen, *_ = pool.step(chosen.numpy())
    pool.close()


def test_a_run_begins_as_its_adviser_and_both_halves_merge(tmp_path):
    scenario = written(elastic(), tmp_path)
    network = {"adviser": ADVISER, "hidden": 8}
    none = {"steps": 1000, "value_rollouts": 1}
    halves = []
    for task in ("placement", "scaling"):
        config = small(task, scenario, steps=0, network=network, imitation=none)
        outcome = train(config, tmp_path / task)
        assert outcome.agreement is None
        halves.append(load(outcome.best))
        assert halves[-1][1].adviser == ADVISER
    weights, joint = merge(*halves, "aladdin train joint.toml")
    whole, one, other = Forward(weights, joint), Forward(*halves[0]), Forward(*halves[1])
    slots = 9
    free = slots + joint.shape.others
    for workers, request, cluster, advice in zip(*samples.observations(joint.shape, slots, 50), strict=True):
        found = whole.logits(workers, request, cluster, advice).copy()
        own, theirs = advice.copy(), advice.copy()
        if advice[0] >= free:
            own[0], theirs[0] = NO_ACTION, advice[0] - free
        else:
            theirs[0] = NO_ACTION
        assert np.allclose(found[:free], one.logits(workers, request, cluster, own), atol=1e-4)
        assert np.allclose(found[free:], other.logits(workers, request, cluster, theirs), atol=1e-4)
    with pytest.raises(InputError, match=r"stages.scaling: 'no adviser' is not valid"):
        merge(
            halves[0],
            (halves[1][0], replace(halves[1][1], adviser="", shape=replace(halves[1][1].shape, advised=False))),
            "",
        )


def test_what_cannot_advise_is_refused(tmp_path):
    shape = ADVISED["placement, advised"]
    for adviser, mend in [("", "give one if"), ("other.npz", "give the names"), ("../x+aladdin", "give the names")]:
        with pytest.raises(InputError, match=f"card.adviser.*{mend}"):
            samples.card(shape, adviser=adviser)
    with pytest.raises(InputError, match=r"card.adviser"):
        samples.card(Shape(1, True, False), adviser=ADVISER)
    with pytest.raises(InputError, match=r"network.adviser.*of kind 'mlp' takes no advice"):
        config_from({"network": {"kind": "mlp", "adviser": ADVISER}})
    with pytest.raises(InputError, match=r"network.adviser: 'best.npz' is not valid"):
        config_from({"network": {"adviser": "best.npz"}})
    computed = Forward(weights_of(untrained(shape)), samples.card(shape, hidden=8))
    workers, request, cluster, _ = (array[0] for array in samples.observations(shape, 4, 3))
    with pytest.raises(InputError, match="this network is advised"):
        computed.logits(workers, request, cluster)
