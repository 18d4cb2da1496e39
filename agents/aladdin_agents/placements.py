"""Placements by name: each function makes one for a scenario (entry-point group ``aladdin.policies``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from aladdin_agents import aladdin, baselines, headroom, literal, pack
from aladdin_agents.tunable import TunableKernel, type_weights
from aladdin_env.policy import Kernel
from aladdin_env.scenario import Scenario


def _weighted(kernel: Kernel, scenario: Scenario, first: Mapping[str, float] | None = None) -> TunableKernel:
    weights = type_weights(scenario)
    named = dict(first or {}) | {
        f"weight_{kind.name}": float(x) for kind, x in zip(scenario.fleet.types, weights, strict=True)
    }
    return TunableKernel.of(kernel, named)


def make_random(scenario: Scenario) -> TunableKernel:
    """Any candidate, all equally likely."""
    return TunableKernel.of(baselines.random)


def make_round_robin(scenario: Scenario) -> TunableKernel:
    """The candidates in turn."""
    return TunableKernel.of(baselines.round_robin, more=np.zeros(2))


def make_least_request(scenario: Scenario) -> TunableKernel:
    """Join the shortest queue."""
    return _weighted(baselines.least_request, scenario)


def make_power_of_two(scenario: Scenario) -> TunableKernel:
    """The shorter queue of two random candidates."""
    return _weighted(baselines.power_of_two, scenario)


def make_least_tokens(scenario: Scenario) -> TunableKernel:
    """Fewest outstanding tokens."""
    return _weighted(baselines.least_tokens, scenario)


def make_least_kv(scenario: Scenario) -> TunableKernel:
    """Lowest KV use."""
    return TunableKernel.of(baselines.least_kv)


# The share of a prompt that makes a worker its home, and when balance matters more (vllm-router's defaults).
_AFFINITY = {"cache_threshold": 0.3, "balance_abs_threshold": 64.0, "balance_rel_threshold": 1.5}


def make_prefix_affinity(scenario: Scenario) -> TunableKernel:
    """Where most of the prompt is cached, then fewest tokens."""
    return _weighted(baselines.prefix_affinity, scenario, _AFFINITY)


def make_lmetric(scenario: Scenario) -> TunableKernel:
    """LMetric: prefill tokens times batch size."""
    return _weighted(baselines.lmetric, scenario)


def make_least_headroom(scenario: Scenario) -> TunableKernel:
    """Predicted latency, packed: llm-d's latency scorer, strategy "least"."""
    return headroom.make(scenario, headroom.least_headroom)


def make_most_headroom(scenario: Scenario) -> TunableKernel:
    """Predicted latency, spread: llm-d's latency scorer, strategy "most"."""
    return headroom.make(scenario, headroom.most_headroom)


def make_pack_to_cap(scenario: Scenario) -> TunableKernel:
    """The fullest worker below a cap: AIBrix's slo-pack-load."""
    return pack.make()


_GROUP_SIZE = 64  # workers that one scheduler of a distributed one looks after


def make_aladdin_grouped(scenario: Scenario) -> TunableKernel:
    """Aladdin in groups of at most 64 workers: a distributed scheduler for high rates."""
    groups = -(-scenario.fleet.slots // _GROUP_SIZE)
    return replace(aladdin.make(scenario, aladdin.Settings(groups=groups)), name="aladdin_grouped")


def make_aladdin(scenario: Scenario) -> TunableKernel:
    """The paper's best fit over four constraints."""
    return aladdin.make(scenario)


#: Beyond the paper: the share of a prompt that makes a worker its home, and the promises that no request may break.
PLUS = aladdin.Settings(affinity=0.3, shed=0.5)


def make_aladdin_plus(scenario: Scenario) -> TunableKernel:
    """Aladdin beyond the paper: sheds what would break others' promises, at home where the prefix is cached."""
    return replace(aladdin.make(scenario, PLUS), name="aladdin_plus")


def make_aladdin_literal(scenario: Scenario) -> TunableKernel:
    """Aladdin's formulas taken literally: it trusts the predicted remainders, and never holds."""
    return literal.make(scenario)
