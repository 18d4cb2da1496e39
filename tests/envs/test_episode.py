"""Episodes: rewards sum to the summary, they are the simulator's, they end as documented."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from aladdin_env.envs.engine import INFO
from aladdin_env.errors import InputError
from aladdin_env.scenario import SLO, RewardWeights
from aladdin_env.simulator.run import Simulator, simulate
from aladdin_env.simulator.setup import draw
from aladdin_env.simulator.state import HOLD
from aladdin_env.view import RequestView

KINDS = ("fixed", "elastic", "tight", "split", "failing")


def _random(env, observation):
    return env.action_space.sample()


def _as_kernel(kernel):
    """The kernel's answer, asked from outside."""

    def choose(env, observation):
        engine = env.unwrapped.engine
        view = engine.view(0)
        slot = kernel.place(view, RequestView(view.requests, int(engine.worlds[0].control[0]["asked"])))
        return engine.actions.slots if slot == HOLD else slot

    return choose


def _check_sum(rewards, summary, weights):
    unserved = summary["rejected"] + summary["failed"] + summary["truncated"]
    expected = weights.cost * summary["cost"] + weights.ttft_miss * summary["ttft_missed"]
    expected += weights.atgt_miss * summary["atgt_missed"] + weights.unserved * unserved
    assert sum(rewards) == pytest.approx(-expected, rel=1e-9)
    assert summary["cost"] > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["Placement", "Scaling", "Joint"])
def test_rewards_sum_to_the_summary(name, kind, scenario, kernel, play):
    weights = RewardWeights(cost=3.0, ttft_miss=0.7, atgt_miss=0.2, unserved=5.0)
    given = replace(scenario(kind, rate=40.0), reward=weights, slo=SLO(0.05, 0.0075))
    env = gym.make(f"aladdin/{name}-v0", scenario=given, **({"policy": kernel} if name == "Scaling" else {}))
    env.action_space.seed(1)
    rewards, info = play(env, _random, seed=2)
    _check_sum(rewards, info["summary"], weights)
    assert info["summary"]["ttft_missed"] + info["summary"]["atgt_missed"] > 0
    assert info["cost"] == pytest.approx(info["summary"]["cost"], rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_is_the_simulator(kind, scenario, kernel, play):
    """Decided from outside by the same policy, an episode is the one that ``simulate`` gives, figure by figure."""
    given = scenario(kind)
    _, info = play(gym.make("aladdin/Placement-v0", scenario=given, allow_hold=True), _as_kernel(kernel), seed=11)
    expected = simulate(given, kernel, seed=11).summary
    assert info["summary"] == pytest.approx(expected, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_without_change_is_the_simulator(kind, scenario, kernel, play):
    given = scenario(kind)
    _, info = play(gym.make("aladdin/Scaling-v0", scenario=given, policy=kernel), lambda env, obs: 0, seed=11)
    assert info["summary"] == pytest.approx(simulate(given, kernel, seed=11).summary, rel=1e-12, nan_ok=True)


def test_policies_inside_are_the_simulators(scenario, kernel, python_policy, scaler, play):
    given = scenario("elastic")

    class Both:
        name = "both"
        place, scale, reset = python_policy.place, scaler.scale, scaler.reset

    expected = Simulator(given, 11).run(Both()).summary
    env = gym.make("aladdin/Placement-v0", scenario=given, scaler=scaler)
    _, info = play(env, _as_kernel(kernel), seed=11)
    assert info["summary"] == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_hooks_of_the_policy_inside(scenario, python_policy, play):
    env = gym.make("aladdin/Scaling-v0", scenario=scenario(), policy=python_policy)
    _, info = play(env, lambda env, obs: 0)
    inside = env.unwrapped.engine.guests[0].placement
    assert inside is not python_policy, "an environment has a copy of its own"
    assert inside.finished == info["summary"]["finished"] == info["summary"]["requests"]


def test_scale_actions_do_what_they_say(scenario, kernel):
    env = gym.make("aladdin/Scaling-v0", scenario=scenario("elastic"), policy=kernel, max_change=2)
    observation, _ = env.reset(seed=0)
    engine = env.unwrapped.engine
    names = [engine.actions.name(a) for a in range(engine.actions.size)]
    assert names == ["no change", "-2 a", "-1 a", "+1 a", "+2 a", "-2 b", "-1 b", "+1 b", "+2 b"]
    # a: 2 of at most 4, at least 1; b: 1 of at most 3, at least 1; 3 of 6 GPUs in use
    assert observation["mask"].tolist() == [1, 0, 1, 1, 1, 0, 0, 1, 1]
    env.step(names.index("+2 b"))
    assert np.count_nonzero(engine.worlds[0].workers["status"][4:7]) == 3, "all of b run or start"
    observation, *_ = env.step(0)
    assert observation["mask"].tolist() == [1, 0, 1, 1, 0, 1, 1, 0, 0], "5 of 6 GPUs are in use"


@pytest.mark.parametrize("name", ["Placement", "Joint"])
def test_cut_at_the_horizon(name, scenario):
    env = gym.make(f"aladdin/{name}-v0", scenario=scenario(horizon_s=6.0), drain=False)
    env.reset(seed=0)
    over = False
    while not over:
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        over = terminated or truncated
    assert truncated and not terminated
    assert info["time_s"] == info["summary"]["duration_s"] == 6.0
    assert info["summary"]["unfinished"] > 0


def test_runs_to_the_last_request(scenario, play):
    env = gym.make("aladdin/Placement-v0", scenario=scenario())
    _, info = play(env, _random)
    assert info["in_flight"] == 0 and info["summary"]["unfinished"] == 0
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    assert set(INFO) <= info.keys()
    assert isinstance(info["slo_attainment"], float)


def test_forbidden_action(scenario):
    env = gym.make("aladdin/Placement-v0", scenario=scenario("elastic"))
    env.reset(seed=0)
    for action in (3, 7, -1):
        with pytest.raises(InputError, match=rf"action.*{action}.*(not allowed now|no such action); allowed: 0, 1, 4"):
            env.step(action)
    env.step(1)


def test_hold_is_offered_again_and_rejected_in_the_end(scenario, play):
    env = gym.make("aladdin/Placement-v0", scenario=scenario(horizon_s=5.0), allow_hold=True)
    hold = env.action_space.n - 1
    _, info = play(env, lambda env, obs: hold)
    assert info["summary"]["rejected"] == info["summary"]["requests"]
    assert info["unserved"] == info["summary"]["requests"]


@pytest.mark.parametrize("hold", [False, True])
def test_reject_turns_away_at_once(scenario, play, hold):
    given = scenario(horizon_s=5.0)
    env = gym.make("aladdin/Placement-v0", scenario=given, allow_hold=hold, allow_reject=True)
    slots = given.fleet.slots
    assert env.action_space.n == slots + hold + 1
    assert env.unwrapped.engine.actions.name(slots + hold) == "reject"
    _, info = play(env, lambda env, obs: slots + hold)
    assert info["summary"]["rejected"] == info["summary"]["requests"] == info["unserved"]
    assert info["time_s"] <= 5.0 + given.heartbeat_s  # nobody was held


def test_draws_can_be_given(scenario, kernel, play):
    given = scenario()
    draws = draw(given, np.random.default_rng(5))
    env = gym.make("aladdin/Placement-v0", scenario=given)
    _, info = env.reset(seed=0, options={"draws": draws})
    assert info["time_s"] == draws.trace.arrival_s[0]


def test_same_seed_as_the_simulator(scenario):
    given = scenario()
    env = gym.make("aladdin/Placement-v0", scenario=given)
    _, info = env.reset(seed=9)
    assert info["time_s"] == Simulator(given, 9).draws.trace.arrival_s[0]


def test_no_decision_at_all_is_refused(scenario):
    env = gym.make("aladdin/Scaling-v0", scenario=replace(scenario(), heartbeat_s=5000.0), policy="least_request")
    with pytest.raises(InputError, match="ends before a first decision"):
        env.reset(seed=0)


def test_profiles_can_be_drawn(scenario):
    seen = []

    def slower(rng, kind):
        factor = rng.uniform(1.0, 2.0)
        seen.append(factor)
        decode = kind.latency.decode
        return replace(kind.latency, decode=replace(decode, alpha_s=tuple(factor * a for a in decode.alpha_s)))

    env = gym.make("aladdin/Placement-v0", scenario=scenario("fixed"), profile_sampler=slower)
    env.reset(seed=0)
    first = env.unwrapped.engine.worlds[0].laws.copy()
    env.reset()
    assert len(set(seen)) == 2
    assert not np.array_equal(env.unwrapped.engine.worlds[0].laws, first)
    env.reset(seed=0)
    assert np.array_equal(env.unwrapped.engine.worlds[0].laws, first), "drawn from the environment's own generator"


def test_drawn_scenarios_keep_their_shape(scenario):
    env = gym.make("aladdin/Placement-v0", scenario=scenario("fixed"), scenario_sampler=lambda rng: scenario("elastic"))
    with pytest.raises(InputError, match="scenario_sampler"):
        env.reset(seed=0)
