"""Prices that hold a target, loads that grow, verdicts that keep promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aladdin_agents.learned.train.config import Curriculum, Lagrangian
from aladdin_agents.learned.train.curriculum import Load
from aladdin_agents.learned.train.lagrangian import Prices, cost_of_a_request
from aladdin_agents.learned.train.validation import FIRST_SEED, Validator, trials_of
from aladdin_env.reward import TERMS
from aladdin_env.scenario import Fleet
from aladdin_env.simulator.run import simulate
from tests.agents.learned.train.toys import elastic, load, one_useless, small, too_many, written

CHOSEN = Lagrangian(target=0.99, start=10.0, rate=0.1, low=1.0, high=50.0)


def test_the_price_stands_still_at_the_target_and_moves_to_it_from_both_sides():
    prices = Prices(CHOSEN, [too_many(), elastic()], scales=True)
    prices.update({"elastic": [0.99, 0.98, 1.0]})
    assert prices.price("elastic") == pytest.approx(10.0)
    prices.update({"elastic": [0.97]})
    assert prices.price("elastic") == pytest.approx(10.0 * np.exp(0.1 * 2.0))
    prices.update({"elastic": [0.2]})  # however bad, it is not torn away
    assert prices.price("elastic") == pytest.approx(10.0 * np.exp(0.1 * 5.0))
    for _ in range(100):
        prices.update({"elastic": [1.0]})
    assert prices.price("elastic") == 1.0
    for _ in range(100):
        prices.update({"elastic": [0.5]})
    assert prices.price("elastic") == 50.0
    assert prices.price("too-many") == 10.0  # another scenario, another price
    again = Prices(CHOSEN, [too_many(), elastic()], scales=True)
    again.restore(prices.state())
    assert again.price("elastic") == 50.0


def test_a_toy_response_is_driven_to_the_target():
    """Misses that fall with the price, as those of an agent that follows it: they end at the allowed share."""
    prices = Prices(CHOSEN, [elastic()], scales=True)
    for _ in range(300):
        missed = 0.2 / prices.price("elastic")
        prices.update({"elastic": [1.0 - missed]})
    assert missed == pytest.approx(0.01, rel=0.05)


def test_weights_are_in_costs_of_a_request_and_the_same_for_large_and_small():
    scenario = elastic()
    cost = cost_of_a_request(scenario)
    assert cost == pytest.approx((2 * 2.0 + 1 * 1.0) / 3600 / 12.0)
    found = Prices(CHOSEN, [scenario], scales=True).weights(scenario)
    assert found == pytest.approx(np.array([1 / cost, 10.0, 10.0, 10.0]) / 12.0)
    assert Prices(CHOSEN, [scenario], scales=False).weights(scenario) == pytest.approx(np.array([0, 1, 1, 1]) / 12.0)
    wide = replace(scenario.fleet.types[0], initial=8, minimum=0, maximum=9)
    large = replace(scenario, fleet=Fleet((wide,)), workload=load(48.0))
    fleet = 8 * 2.0 / 3600  # the fleet at time 0 costs as much as one unit of reward per second, whatever its size
    assert Prices(CHOSEN, [large], scales=True).weights(large)[0] * fleet == pytest.approx(1.0)
    assert TERMS[0] == "cost"


def test_the_load_grows_as_the_objective_is_attained():
    growing = Load(Curriculum(low=0.5, start=0.6, full=0.9, growth=0.2, attainment=0.9, patience=1000))
    rng = np.random.default_rng(0)
    drawn = [growing.draw(rng) for _ in range(200)]
    assert 0.5 <= min(drawn) < 0.51 and 0.59 < max(drawn) <= 0.6
    growing.note([1.0] * 7, 10)
    assert growing.level == 0.6  # too few episodes to tell
    growing.note([1.0], 20)
    assert growing.level == pytest.approx(0.8)
    growing.note([0.5] * 100, 500)
    assert growing.level == pytest.approx(0.8)
    again = Load(Curriculum(low=0.5, start=0.6, full=0.9, growth=0.2, attainment=0.9, patience=1000))
    again.restore(growing.state())
    again.note([], 1019)
    assert again.level == pytest.approx(0.8)
    again.note([], 1020)  # patience
    assert again.level == 0.9
    assert Load(Curriculum(low=1.0, start=1.0, full=1.0)).draw(rng) == 1.0


def test_the_verdict_on_the_expert_is_that_of_a_simulation(tmp_path):
    config = small("placement", written(one_useless(), tmp_path), imitation={"expert": "round_robin"})
    validator = Validator(config, trials_of(config))
    expected = simulate(one_useless(), "round_robin", seed=FIRST_SEED).summary["slo_attainment"]
    verdict = validator.judge_expert()
    assert verdict.score == verdict.attainment == expected
    assert verdict.cost_ratio == 1.0


def test_cheaper_is_better_only_where_promises_are_kept(tmp_path):
    config = small("scaling", written(elastic(), tmp_path))
    validator = Validator(config, trials_of(config))

    def case(attainment, cost):
        return {"elastic": {"slo_attainment": attainment, "cost": cost}}

    validator.restore(case(0.999, 10.0))
    assert validator.judge_expert().score == 0.0
    assert validator.compare(case(0.99, 8.0)).score == pytest.approx(0.2)
    assert validator.compare(case(0.98, 8.0)).score == pytest.approx(0.2 - 1.0)
    assert validator.compare(case(1.0, 12.0)).score == pytest.approx(-0.2)
    validator.restore(case(0.95, 10.0))  # what the expert cannot hold is not asked
    assert validator.compare(case(0.96, 8.0)).score == pytest.approx(0.2)
