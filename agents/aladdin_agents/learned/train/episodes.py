"""Whole episodes to search on: drawn once, met by every candidate, in any process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import Weights
from aladdin_agents.learned.layout import check_weights, steered_layers, weight_sizes
from aladdin_agents.learned.policy import made
from aladdin_agents.learned.shape import Shape
from aladdin_agents.learned.train.config import Config
from aladdin_agents.learned.train.curriculum import Load
from aladdin_agents.learned.train.sources import Source, Varied, single_sources
from aladdin_agents.learned.train.validation import as_combined, completed, expert_of
from aladdin_env.simulator.run import Simulator


@dataclass(frozen=True)
class Tried:
    """What a candidate has to do.

    Attributes:
        number: Of the set of episodes.
        source: The training scenario, by its place among ``single_sources``.
        candidate: Its weights as one vector; None: the expert.
    """

    number: int
    source: int
    candidate: tuple[float, ...] | None


def play(config: Config, card: Card, tried: Tried) -> tuple[float, float]:
    """Attainment and cost of a candidate in an episode."""
    simulator = _simulator(config, tried.number, tried.source)
    scenario = simulator.scenario
    if tried.candidate is None:
        policy = expert_of(config, scenario)
    else:
        weights = weights_from(np.array(tried.candidate), card.shape)
        policy = completed(config, as_combined(made(weights, card, scenario, "candidate")), scenario)
    summary = simulator.run(policy).summary
    return summary["slo_attainment"], summary["cost"]


def vector_from(weights: Weights, shape: Shape) -> NDArray[np.float64]:
    """The weights of a steered policy as one vector."""
    sizes = weight_sizes(steered_layers(shape))
    check_weights("weights", weights, sizes)
    return np.concatenate([weights[name].ravel() for name in sizes]).astype(np.float64)


def weights_from(vector: NDArray[np.float64], shape: Shape) -> Weights:
    """The inverse of :func:`vector_from`."""
    found: Weights = {}
    at = 0
    for name, size in weight_sizes(steered_layers(shape)).items():
        count = int(np.prod(size))
        found[name] = vector[at : at + count].reshape(size).astype(np.float32)
        at += count
    return found


def length_of(shape: Shape) -> int:
    """How many weights there are."""
    return sum(int(np.prod(size)) for size in weight_sizes(steered_layers(shape)).values())


@cache
def _sources(config: Config) -> tuple[Source, ...]:
    return single_sources(config)


@cache
def _simulator(config: Config, number: int, source: int) -> Simulator:
    """The episode of a training scenario in a set: every process draws the same."""
    load = Load(config.curriculum)
    load.level = config.curriculum.full
    rng = np.random.default_rng([config.seed, number, source])
    return Simulator(Varied(_sources(config)[source], load, config.environment.horizon_s)(rng), rng)
