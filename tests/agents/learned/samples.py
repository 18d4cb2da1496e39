"""Untrained networks of every kind, random and real observations, and small clusters to decide for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import aladdin_env  # noqa: F401, registers the environments
from aladdin_agents.learned.advice import SIZE
from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import save
from aladdin_agents.learned.networks import Net, make_net, weights_of
from aladdin_agents.learned.shape import Shape
from aladdin_env import SLO, Fleet, Scenario, WorkerType, Workload
from aladdin_env.features import OBSERVATION_VERSION, W, cluster_size
from aladdin_traces import Poisson

SHAPES = {
    "placement": Shape(1, True, False),
    "placement, HOLD and REJECT": Shape(1, True, False, True, True),
    "placement, REJECT": Shape(2, True, False, rejects=True),
    "scaling, 2 types": Shape(2, False, True),
    "scaling, 3 types": Shape(3, False, True, max_change=3),
    "joint": Shape(1, True, True),
    "joint, 2 types, HOLD": Shape(2, True, True, holds=True, max_change=1),
}
ADVISED = {
    "placement, advised": Shape(1, True, False, True, True, advised=True),
    "scaling, advised": Shape(2, False, True, max_change=3, advised=True),
    "joint, advised": Shape(2, True, True, rejects=True, advised=True),
}
NETWORKS = ("equivariant", "mlp")
ADVISER = "aladdin_plus+aladdin"


def net(shape: Shape, network: str = "equivariant", slots: int = 8, seed: int = 0, hidden: int = 32) -> Net:
    """A network whose weights are all at work, those of the logits too."""
    torch.manual_seed(seed)
    made = make_net(network, shape, hidden, slots)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.3)
    return made


def card(shape: Shape, network: str = "equivariant", slots: int = 8, hidden: int = 32, **changes: Any) -> Card:
    """Its card."""
    plain: dict[str, Any] = {
        "kind": shape.kind,
        "network": network,
        "shape": shape,
        "hidden": hidden,
        "adviser": ADVISER if shape.advised else "",
        "slots": slots if network == "mlp" else None,
        "observation_version": OBSERVATION_VERSION,
        "scenarios": ("toy",),
        "seeds": (0, 1),
        "steps": 1000,
        "commit": "0123abc",
        "versions": {"numpy": np.__version__},
        "command": "aladdin train toy.toml",
        "results": {"slo_attainment": 0.5},
        "date": "2026-01-31",
    }
    return Card(**{**plain, **changes})


def write(path: Path, shape: Shape, network: str = "equivariant", slots: int = 8, seed: int = 0) -> str:
    """A checkpoint in ``path``; its name."""
    save(path, weights_of(net(shape, network, slots, seed)), card(shape, network, slots))
    return str(path)


def observations(shape: Shape, slots: int, n: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Random ones: every status, some slots OFF or without room, sometimes all of them; advice where it is given."""
    rng = np.random.default_rng(seed)
    workers = rng.uniform(-1.0, 3.0, (n, slots, 24)).astype(np.float32)
    status = rng.integers(-1, 4, (n, slots))
    status[0], status[1] = -1, 1
    workers[:, :, : W.failed + 1] = status[:, :, None] == np.arange(4)
    type_index = np.sort(np.arange(slots) % shape.types)
    workers[:, :, W.type] = ((type_index + 1.0) / shape.types).astype(np.float32)
    kinds = rng.uniform(0.0, 1.0, (shape.types, 4)).astype(np.float32)
    workers[:, :, W.prefill_role : W.price + 1] = kinds[type_index]
    workers[:, :, W.can_place] = (status == 1) & (rng.random((n, slots)) < 0.8)
    workers[2, :, W.can_place] = 0.0
    request = rng.uniform(0.0, 2.0, (n, 10)).astype(np.float32)
    cluster = rng.uniform(-1.0, 2.0, (n, cluster_size(shape.types))).astype(np.float32)
    if not shape.advised:
        return workers, request, cluster
    advice = rng.uniform(0.0, 1.0, (n, SIZE)).astype(np.float32)
    advice[:, 0] = rng.integers(-1, shape.actions(slots), n)
    return workers, request, cluster, advice


def in_torch(network: Net, *arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and values."""
    with torch.no_grad():
        logits, values = network(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
    return logits.numpy(), values.numpy()


def worker_type(name: str = "h100", workers: int = 4, least: int = 1, **changes: Any) -> WorkerType:
    """Between ``least`` and twice ``workers``."""
    profile = changes.pop("profile", "llama-3.1-8b-h100-tp1")
    return WorkerType(name, profile, **{"initial": workers, "minimum": least, "maximum": 2 * workers, **changes})


def cluster_of(*types: WorkerType, rate: float = 30.0, horizon_s: float = 30.0, **changes: Any) -> Scenario:
    """Half a minute of conversations."""
    workload = Workload.generated(Poisson(rate), "sharegpt")
    base = Scenario("toy", workload, Fleet(types or (worker_type(),)), SLO(1.0, 0.02), horizon_s, heartbeat_s=2.0)
    return replace(base, **changes)


def two_types() -> Scenario:
    """A fleet of two types, 12 slots, that fails now and then."""
    from aladdin_env.scenario import Failures

    scenario = cluster_of(worker_type("h100", 3), worker_type("a100", 3, profile="llama-3.1-8b-a100-tp1"))
    return replace(scenario, fleet=replace(scenario.fleet, failures=Failures(60.0, 5.0)))


def scenario_for(shape: Shape) -> Scenario:
    """A cluster of as many types."""
    profiles = ("llama-3.1-8b-h100-tp1", "llama-3.1-8b-a100-tp1", "llama-3.1-8b-h200-tp1")
    return cluster_of(*(worker_type(f"t{k}", 2, profile=profiles[k]) for k in range(shape.types)))


def environment_for(shape: Shape, scenario: Scenario) -> gym.Env[Any, Any]:
    """The environment whose actions a network of ``shape`` has outputs for."""
    name = {"placement": "Placement", "scaling": "Scaling", "joint": "Joint"}[shape.kind]
    options: dict[str, Any] = {"scenario": scenario}
    if shape.places:
        options |= {"allow_hold": shape.holds, "allow_reject": shape.rejects}
    if shape.scales:
        options["max_change"] = shape.max_change
    return gym.make(f"aladdin/{name}-v0", **options)


def real_observations(shape: Shape, n: int, seed: int = 0) -> Iterator[dict[str, np.ndarray]]:
    """The first ``n`` of an environment under random actions, ``workers`` as a table."""
    env = environment_for(shape, scenario_for(shape))
    observation, info = env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(n):
        yield {**observation, "workers": observation["workers"].reshape(-1, 24)}
        observation, _, terminated, truncated, info = env.step(env.action_space.sample(info["action_mask"]))
        if terminated or truncated:
            observation, info = env.reset()
    env.close()
