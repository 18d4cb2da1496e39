"""Time of one decision by a learned placement: ``python -m experiments.bench.inference``.

A busy cluster of 16 and of 64 workers; untrained weights, which take as long as trained ones. Logits alone by NumPy
and by torch; SB3's ``predict`` (deterministic, with the mask); and ``place`` of the policy: observation, mask, logits,
best. Medians of single calls, microseconds, one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.table import Table

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.export import card_of
from aladdin_agents.learned.forward import Forward
from aladdin_agents.learned.networks import weights_of
from aladdin_agents.learned.policy import LearnedPlacement
from aladdin_agents.learned.sb3 import ClusterPolicy
from aladdin_agents.learned.shape import Shape
from aladdin_env.bench.worlds import Bench, bench_scenario
from aladdin_env.cli.output import stdout
from aladdin_env.envs.spaces import Actions, observation_space
from aladdin_env.observation import blank, encode
from aladdin_env.view import ClusterView, RequestView

SIZES = (16, 64)
NETWORKS = {"equivariant": 32, "mlp": 64}  # hidden
SHAPES = {"placement": Shape(1, True, False), "joint": Shape(1, True, True)}
CALLS, WARM_S = 3000, 60.0


@dataclass(frozen=True)
class _Subject:
    """A policy in all its forms, and a cluster to decide for."""

    card: Card
    policy: ClusterPolicy
    forward: Forward
    placement: LearnedPlacement
    view: ClusterView
    request: RequestView
    seen: dict[str, Any]
    mask: Any


def _subject(workers: int, network: str, shape: Shape) -> _Subject:
    bench = Bench.of(bench_scenario(workers, "chunked", int(5.0 * workers * (WARM_S + 10))), "least_request")
    bench.load()
    bench.advance(WARM_S)
    actions = Actions.of(shape.task, bench.scenario)
    space: Any = observation_space(bench.scenario, actions)
    discrete: Any = _discrete(actions.size)
    policy = ClusterPolicy(space, discrete, lambda _: 0.0, network=network, hidden=NETWORKS[network], shape=shape)
    card = card_of(policy.net, scenarios=(), seeds=(), steps=0, commit="", command="", results={})
    weights = weights_of(policy.net)
    world = bench.world
    r = int(world.control[0]["next_arrival"])
    seen: dict[str, Any] = blank(workers, 1)
    encode(
        world.workers, world.requests, world.cluster, world.types, world.laws, world.slo, world.history, r, False,
        float("inf"), seen["workers"], seen["request"], seen["cluster"],
    )  # fmt: skip
    view = ClusterView(world, bench.scenario)
    mask = np.arange(actions.size) < workers
    placement = LearnedPlacement(weights, card, bench.scenario, "learned")
    return _Subject(
        card, policy, Forward(weights, card), placement, view, RequestView(view.requests, r), seen, mask
    )  # fmt: skip


def _discrete(actions: int) -> Any:
    from gymnasium.spaces import Discrete

    return Discrete(actions)


def median_us(call: Callable[[], object]) -> float:
    """Median microseconds of single calls, after a tenth as many that warm up."""
    for _ in range(CALLS // 10):
        call()
    took = np.zeros(CALLS)
    for i in range(CALLS):
        start = time.perf_counter_ns()
        call()
        took[i] = time.perf_counter_ns() - start
    return float(np.median(took)) / 1e3


def measure(workers: int, network: str, shape: Shape) -> dict[str, float]:
    """Microseconds of each way to decide."""
    subject = _subject(workers, network, shape)
    seen = subject.seen
    tensors = {name: torch.from_numpy(array.copy()).view(1, -1) for name, array in seen.items()}
    flat = {name: array.ravel() for name, array in seen.items()} | {"mask": subject.mask.astype(np.int8)}

    def in_torch() -> None:
        with torch.no_grad():
            subject.policy.logits_and_values(tensors)

    return {
        "NumPy logits": median_us(lambda: subject.forward.logits(seen["workers"], seen["request"], seen["cluster"])),
        "torch logits": median_us(in_torch),
        "SB3 predict": median_us(
            lambda: subject.policy.predict(flat, deterministic=True, action_masks=subject.mask)
        ),
        "place()": median_us(lambda: subject.placement.place(subject.view, subject.request)),
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    table = Table(title="one decision, us (median)")
    columns: list[str] = []
    for kind, shape in SHAPES.items():
        for network in NETWORKS:
            for workers in SIZES:
                found = measure(workers, network, shape)
                if not columns:
                    columns = list(found)
                    for heading in ("decides", "network", "workers", *columns):
                        table.add_column(heading, justify="right")
                table.add_row(kind, network, str(workers), *(f"{found[name]:.1f}" for name in columns))
    stdout().print(table)


if __name__ == "__main__":
    main()
