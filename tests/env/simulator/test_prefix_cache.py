"""Prefix caching in the compiled core: by hand, at scale, through pickled and grown environments."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import aladdin_env  # noqa: F401  (registers the environments)
from aladdin_env.errors import InputError
from aladdin_env.metrics import Result
from aladdin_env.observation import WORKER_FEATURES
from aladdin_env.scenario import SLO, Fleet, Scenario, WorkerType
from aladdin_env.scenario_file import read_scenario, write_scenario
from aladdin_env.simulator.run import simulate
from aladdin_traces import PrefixBlocks, Trace, Workload
from tests.env.simulator.test_closed_forms import OVERHEAD, PROFILE, decode, prefill

BLOCK = 16


def scenario(trace: Trace, workers: int = 1, **limits: object) -> Scenario:
    kind = WorkerType("w", PROFILE, initial=workers, minimum=workers, maximum=workers, **limits)  # type: ignore[arg-type]
    return Scenario("prefix", Workload.from_trace(trace), Fleet((kind,)), SLO(9.0, 9.0), None)


def trace_of(arrival: list[float], prompt: list[int], output: list[int], ids: list[list[int]], size: int) -> Trace:
    return Trace.from_arrays(arrival, prompt, output, prefix_blocks=PrefixBlocks.from_lists(ids, size))


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
def test_a_hit_skips_its_prefill(scheduler: str) -> None:
    asked = trace_of(
        [0.0, 10.0, 20.0], [100, 100, 96], [3, 3, 3], [[1, 2, 3, 4, 5, 6], [1, 2, 3, 9], [1, 2, 3, 4, 5, 6]], BLOCK
    )
    rows = simulate(scenario(asked, scheduler=scheduler), "round_robin").requests
    assert rows["prefix_hit_tokens"].tolist() == [0, 48, 80]  # of 96 tokens the last one is computed, hence its block
    new = [100, 52, 16]
    for r, tokens in enumerate(new):
        first = asked.arrival_s[r] + prefill(tokens) + OVERHEAD
        assert rows["first_token_s"][r] == pytest.approx(first, rel=1e-12)
        steps = decode(1, asked.prompt_tokens[r] + 1) + decode(1, asked.prompt_tokens[r] + 2)
        assert rows["finish_s"][r] == pytest.approx(first + steps, rel=1e-12)


def test_no_hits_where_nothing_is_cached() -> None:
    asked = trace_of([0.0, 10.0], [100, 100], [3, 3], [[1, 2], [1, 2]], BLOCK)
    off = simulate(scenario(asked, prefix_cache=False), "round_robin")
    assert off.summary["prefix_hit_ratio"] == 0.0
    assert off.requests["prefix_hit_tokens"].tolist() == [0, 0]


def test_blocks_must_be_whole_kv_blocks() -> None:
    asked = trace_of([0.0], [100], [3], [[1, 2]], 24)
    with pytest.raises(InputError, match=r"block_size.*divisor of the workload's prefix blocks of 24 tokens"):
        simulate(scenario(asked), "round_robin")


def conversations(n: int = 400, size: int = 32, seed: int = 0) -> Trace:
    """Sessions of growing prompts, all behind one system prompt."""
    rng = np.random.default_rng(seed)
    turns = np.zeros(40, dtype=int)
    lists, prompts = [], []
    for _ in range(n):
        s = int(rng.integers(len(turns)))
        turns[s] += 1
        depth = 4 + 2 * min(turns[s], 20)
        lists.append([0, 1] + [1000 * (s + 1) + i for i in range(depth)])
        prompts.append(size * (depth + 2) + int(rng.integers(1, size)))
    arrival = np.cumsum(rng.exponential(0.05, n))
    blocks = PrefixBlocks.from_lists(lists, size)
    return Trace.from_arrays(arrival, prompts, rng.integers(1, 60, n), prefix_blocks=blocks)


def run(policy: str, **limits: object) -> Result:
    return simulate(scenario(conversations(), workers=4, kv_capacity_tokens=60_000, **limits), policy)


def test_affinity_finds_the_cache() -> None:
    blind, near = run("round_robin").summary, run("prefix_affinity").summary
    assert near["prefix_hit_ratio"] > blind["prefix_hit_ratio"] + 0.1
    assert near["ttft_mean_s"] < blind["ttft_mean_s"]


def test_less_memory_less_hits() -> None:
    ratios = [
        simulate(scenario(conversations(), 1, kv_capacity_tokens=kv), "round_robin").summary["prefix_hit_ratio"]
        for kv in (8_000, 30_000, 200_000)
    ]
    assert ratios == sorted(ratios) and ratios[0] < 0.8 * ratios[-1]


def test_observations_show_the_hits() -> None:
    env = gym.make("aladdin/Placement-v0", scenario=scenario(conversations(), workers=4)).unwrapped
    observation, _ = env.reset(seed=0)
    at = WORKER_FEATURES.index("prefix_hit")
    seen = 0.0
    terminated = False
    while not terminated:
        hits = observation["workers"].reshape(4, -1)[:, at]
        view = env.engine.view(0)  # type: ignore[attr-defined]
        r = int(env.engine.worlds[0].control[0]["asked"])  # type: ignore[attr-defined]
        assert hits == pytest.approx(view.prefix_hits() / view.requests["prompt_tokens"][r], rel=1e-6)
        seen = max(seen, float(hits.max()))
        observation, _, terminated, _, _ = env.step(int(np.argmax(hits)))
    assert seen > 0.5


def test_environments_of_different_length_share_one_batch() -> None:
    """Arrays grow while other environments are in the middle of an episode: their caches must survive it."""
    sizes = iter([60, 120, 400, 30, 200, 350])

    def sampler(rng: np.random.Generator) -> Scenario:
        return scenario(conversations(next(sizes), seed=3), workers=4)

    single = []
    for n in (60, 120):
        env = gym.make("aladdin/Placement-v0", scenario=scenario(conversations(n, seed=3), workers=4))
        env.reset(seed=0)
        rewards = [env.step(i % 4)[1] for i in range(50)]
        single.append(rewards)
    envs = gym.make_vec(
        "aladdin/Placement-v0", num_envs=2, scenario=scenario(conversations(10), workers=4), scenario_sampler=sampler
    )
    envs.reset(seed=0)
    together = np.array([envs.step(np.array([i % 4, i % 4]))[1] for i in range(50)])
    assert together[:, 0].tolist() == single[0] and together[:, 1].tolist() == single[1]


def test_prefix_cache_survives_a_scenario_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for choice in (True, False):
        written = scenario(Trace.from_arrays([0.0], [5], [5]), prefix_cache=choice)
        write_scenario(written, tmp_path / "s.toml")
        assert read_scenario(tmp_path / "s.toml").fleet.types[0].prefix_cache is choice
    text = (tmp_path / "s.toml").read_text().replace("prefix_cache = false", "prefix_cache = 1")
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError, match=r"prefix_cache: 1 .* give true or false"):
        read_scenario(tmp_path / "s.toml")
    assert replace(written.fleet.types[0], prefix_cache=True) != written.fleet.types[0]
