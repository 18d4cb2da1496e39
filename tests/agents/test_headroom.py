"""Routing by predicted latency: tiers, weights and draws, as llm-d's latency scorer makes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from aladdin_agents import placements
from aladdin_agents.headroom import PARAMETERS, pace_p90
from aladdin_agents.predictions import steady_pace
from aladdin_agents.tunable import TunableKernel
from aladdin_env import SLO
from aladdin_env.compiled import compiled
from aladdin_env.policy import Combined
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.state import DECODE_ROLE, PREFILLED

from .worlds import kind, put_counts, put_waiting, random_requests, scenario_of, state

BOTH = ("least_headroom", "most_headroom")
_pace_p90, _steady_pace = (compiled(one.py_func) for one in (pace_p90, steady_pace))


def made(name, **settings):
    """The placement with other settings of the pipeline."""

    def make(scenario):
        kernel = getattr(placements, f"make_{name}")(scenario)
        named = dict(kernel.parameters) | settings
        return TunableKernel.of(kernel, named, kernel.memory[len(named) :])

    return make


def idle(name, workers=3, n=4000, **settings):
    scenario = scenario_of([(float(i), 100, 50) for i in range(n)], kind(workers=workers, scheduler="chunked"))
    return state(scenario, made(name, **settings))


def shares(s, n=4000):
    counts = Counter(s.choose(r) for r in range(n))
    return np.array([counts[w] / n for w in range(len(s.world.workers))])


def queued(s, *tokens):
    """Workers that have so many tokens to prefill, and no request that they could owe anything."""
    s.world.requests["arrival_s"] = 0.0
    s.world.workers["waiting_prefill_tokens"] = tokens
    put_counts(s.world, 1)
    s.world.workers["waiting"] = 1


@pytest.mark.parametrize("name", BOTH)
def test_equal_workers_are_equally_likely(name):
    np.testing.assert_allclose(shares(idle(name)), 1 / 3, atol=0.03)


def test_weights_are_linear_in_the_headroom():
    """TTFT rooms at 0, 1/2 and 1 of their range: weights 2, 51.5 and 101, or the other way round."""
    queued_tokens = 4000, 2000, 0
    for name, weights in (("most_headroom", (2, 51.5, 101)), ("least_headroom", (101, 51.5, 2))):
        s = idle(name, pace_weight=0.0)
        queued(s, *queued_tokens)
        np.testing.assert_allclose(shares(s), np.array(weights) / sum(weights), atol=0.03)


@pytest.mark.parametrize("name", BOTH)
def test_only_one_in_a_hundred_goes_where_an_objective_would_be_missed(name):
    s = idle(name)
    queued(s, 3000, 100_000, 90_000)
    found = shares(s)
    assert found[0] == pytest.approx(1.0 - PARAMETERS["explore"], abs=0.01)
    s = idle(name, explore=0.0)
    queued(s, 3000, 100_000, 90_000)
    assert shares(s)[0] == 1.0


@pytest.mark.parametrize("name", BOTH)
def test_without_any_headroom_the_idle_one_then_the_shortest_deficit(name):
    s = idle(name, pace_weight=0.0)
    queued(s, 100_000, 90_000, 95_000)
    found = shares(s)
    assert found[1] > found[2] > found[0]
    s.world.requests["arrival_s"] = -100.0  # late wherever they go
    s.world.workers["waiting_prefill_tokens"] = 0
    put_counts(s.world, (2, 2, 0))
    assert shares(s)[2] == 1.0


def test_short_of_pace_only_comes_before_short_of_ttft():
    s = idle("most_headroom", workers=2)
    queued(s, 100_000, 0)
    s.world.slo[:, 1] = 1e-6
    s.world.requests["predicted_tokens"] = 1e6
    assert shares(s)[1] == 1.0


@pytest.mark.parametrize("name", BOTH)
def test_a_decode_worker_is_judged_by_its_pace(name):
    types = (
        kind("p", 1, scheduler="split", role="prefill"),
        kind("d", 2, scheduler="split", role="decode"),
    )
    s = state(scenario_of([(0.0, 100, 50)] * 3000, *types), made(name))
    s.world.requests["stage"] = PREFILLED
    assert s.world.workers["role"][1] == DECODE_ROLE
    s.world.workers["accepts"] = 1, 2, 2
    for r in range(1, 20):
        put_waiting(s.world, 2, r)
    found = np.array([s.choose(r) for r in range(100, 3000)])
    packed = 2 if name == "least_headroom" else 1
    assert np.mean(found == packed) == pytest.approx(101 / 103, abs=0.02)


def test_the_pace_is_a_quantile():
    """The 90th percentile lies above the mean, the more so the shorter the output and the more prompts vary."""
    s = idle("least_headroom")
    put_counts(s.world, 20)
    world = s.world
    memory = s.kernel.memory.copy()

    def both(sigmas=1.2816, output=100.0):
        world.requests["predicted_tokens"][0] = output
        memory[list(PARAMETERS).index("sigmas")] = sigmas
        arrays = world.workers, world.requests, world.cluster, world.types, world.laws
        return _pace_p90(*arrays, memory, 0, 0) - _steady_pace(*arrays, 0, 0)

    assert both(sigmas=0.0) == 0.0
    assert both() > 0.0
    assert both(sigmas=2 * 1.2816) == pytest.approx(2 * both())
    assert both(output=10.0) > both(output=1000.0)


def test_packing_fills_few_workers_and_spreading_all():
    """The same load: strategy "least" leaves the workers less even than "most"."""
    scenario = scenario_of(random_requests(1500, 30.0, seed=2, long=0.0), kind(workers=4), slo=SLO(2.0, 0.05))
    spread = {}
    for name in BOTH:
        result = Simulator(scenario, 1).run(Combined(made(name)(scenario)))
        spread[name] = result.requests["worker"].value_counts().std()
        assert result.summary["slo_attainment"] > 0.9
    assert spread["least_headroom"] > spread["most_headroom"]


def test_several_types_and_classes_are_no_trouble():
    scenario = scenario_of(random_requests(300, 20.0, seed=4), kind("a", 2), kind("b", 2, scheduler="chunked"))
    scenario = replace(scenario, max_hold_s=1e6)
    for name in BOTH:
        assert Simulator(scenario, 1).run(Combined(made(name)(scenario))).summary["finished"] == 300
