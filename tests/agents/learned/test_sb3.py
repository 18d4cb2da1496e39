"""The networks as a policy of Stable-Baselines3: its own distributions, masks kept, same seed same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy

from aladdin_agents.learned.networks import weights_of
from aladdin_agents.learned.sb3 import ClusterPolicy
from aladdin_agents.learned.shape import Shape
from aladdin_env import InputError
from aladdin_env.envs.sb3 import SB3VecEnv

from . import samples
from .samples import NETWORKS

JOINT = Shape(1, True, True, holds=True, rejects=True)


def model(name: str = "equivariant", seed: int = 0, shape: Shape = JOINT, **changes) -> MaskablePPO:
    names = {"placement": "Placement", "scaling": "Scaling", "joint": "Joint"}
    options = {"allow_hold": shape.holds, "allow_reject": shape.rejects} if shape.places else {}
    scenario = samples.cluster_of(horizon_s=12.0)
    envs = SB3VecEnv.make(f"aladdin/{names[shape.kind]}-v0", 8, seed=seed, scenario=scenario, **options)
    kwargs = {"network": name, "hidden": 16, "shape": shape}
    plain = {"n_steps": 16, "batch_size": 64, "n_epochs": 2, "seed": seed, "device": "cpu"}
    return MaskablePPO(ClusterPolicy, envs, policy_kwargs=kwargs, **{**plain, **changes})


def batch(made: MaskablePPO, n: int = 64) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    arrays = samples.observations(JOINT, 8, n)
    names = ("workers", "request", "cluster")
    obs = {name: torch.from_numpy(array.reshape(n, -1)) for name, array in zip(names, arrays, strict=True)}
    mask = np.random.default_rng(0).random((n, made.action_space.n)) < 0.4
    mask[:, 3] = True
    obs["mask"] = torch.from_numpy(mask.astype(np.float32))
    return obs, mask


@pytest.mark.parametrize("name", NETWORKS)
def test_probabilities_are_those_of_sb3(name):
    made = model(name)
    obs, mask = batch(made)
    with torch.no_grad():
        for parameter in made.policy.parameters():
            parameter.normal_(0.0, 0.3)
        for masks in (mask, None):
            plain = made.policy.get_distribution(obs, masks)
            actions, values, log_probs = made.policy(obs, action_masks=masks)
            assert masks is None or masks[np.arange(64), actions.numpy()].all()
            torch.testing.assert_close(log_probs, plain.log_prob(actions))
            again, own_log_probs, entropy = made.policy.evaluate_actions(obs, actions, masks)
            torch.testing.assert_close(own_log_probs, log_probs)
            torch.testing.assert_close(entropy, plain.entropy())
            torch.testing.assert_close(again, values)
            torch.testing.assert_close(made.policy.predict_values(obs), values)
            best, _, _ = made.policy(obs, deterministic=True, action_masks=masks)
            assert (best == plain.get_actions(deterministic=True)).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_forbidden_action_is_never_drawn(name):
    """Not even where it would be by far the best."""
    made = model(name)
    obs, mask = batch(made, 16)
    with torch.no_grad():
        for parameter in made.policy.parameters():
            parameter.mul_(100.0)
        for _ in range(200):
            actions, _, _ = made.policy(obs, action_masks=mask)
            assert mask[np.arange(16), actions.numpy()].all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [Shape(1, True, False), Shape(1, False, True), JOINT], ids=lambda shape: shape.kind)
def test_it_learns_with_masks_and_is_evaluated(name, shape):
    made = model(name, shape=shape)
    before = weights_of(made.policy.net)
    made.learn(300)
    after = weights_of(made.policy.net)
    assert any((after[key] != before[key]).any() for key in before)
    assert all(np.isfinite(array).all() for array in after.values())
    evaluate_policy(made, made.get_env(), n_eval_episodes=2, warn=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_seed_gives_the_same_weights(name):
    first, second, other = (weights_of(model(name, seed).learn(256).policy.net) for seed in (1, 1, 2))
    assert all((first[key] == second[key]).all() for key in first)
    assert any((first[key] != other[key]).any() for key in first)


@pytest.mark.parametrize("name", NETWORKS)
def test_save_and_load(tmp_path, name):
    made = model(name)
    made.save(tmp_path / "a.zip")
    again = MaskablePPO.load(tmp_path / "a.zip", env=made.get_env(), device="cpu")
    obs, mask = batch(made)
    with torch.no_grad():
        for one, other in zip(made.policy.evaluate_actions(obs, torch.full((64,), 3), mask),
                              again.policy.evaluate_actions(obs, torch.full((64,), 3), mask), strict=True):  # fmt: skip
            torch.testing.assert_close(one, other, rtol=0, atol=0)
    again.learn(128)


def test_a_shape_that_does_not_fit_is_refused():
    for shape in (None, Shape(1, True, False), Shape(2, True, True, holds=True, rejects=True)):
        with pytest.raises(InputError, match=r"policy_kwargs\.shape"):
            MaskablePPO(ClusterPolicy, model().get_env(), policy_kwargs={"shape": shape}, device="cpu")
