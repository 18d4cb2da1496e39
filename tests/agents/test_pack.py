"""Packing up to a cap: shares by hand, the fullest within the cap, and who waits."""

from __future__ import annotations

import pytest

from aladdin_agents import pack, placements
from aladdin_agents.tunable import TunableKernel
from aladdin_env import SLO
from aladdin_env.compiled import compiled
from aladdin_env.policy import HOLD
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.state import PREFILLED

from .worlds import C1, C2, C3, K1, K2, kind, profile, put_counts, random_requests, scenario_of, state

_full_share, _pace_share = (compiled(one.py_func) for one in (pack.full_share, pack.pace_share))
ATGT = 0.03


def made(**settings):
    return lambda scenario: TunableKernel.of(pack.pack_to_cap, dict(pack.PARAMETERS) | settings)


def packed(workers=3, types=None, **settings):
    """Idle workers; every request has a prompt of 100 tokens and 100 predicted ones."""
    requests = [(float(i), 100, 50) for i in range(40)]
    return state(scenario_of(requests, *(types or [kind(workers=workers)]), slo=SLO(1.0, ATGT)), made(**settings))


def put(s, members, prompts, predicted):
    """Let each worker have so many requests with so many tokens together."""
    put_counts(s.world, members)
    s.world.workers["member_prompt_tokens"] = prompts
    s.world.workers["member_predicted_tokens"] = predicted


def share(s, w, function=_full_share, r=0):
    world = s.world
    return function(
        world.workers, world.requests, world.cluster, world.types, world.laws, world.slo, s.kernel.memory, w, r
    )


def test_every_request_takes_its_part_of_what_the_pace_allows():
    """Three requests of 400, 500 and (the newcomer) 100 prompt tokens, 100 predicted each."""
    s = packed(workers=1, prefill=1e9)
    put(s, 2, 900, 200)
    pace = 3 * C2 + K2 * (1000 + 150) + 3 * (K1 * 1000 / 3 + C1) / 99
    assert share(s, 0, _pace_share) == pytest.approx(pace / (0.4 * (ATGT - C3)))
    assert share(s, 0) == share(s, 0, _pace_share)
    put(s, 0, 0, 0)
    alone = C2 + K2 * 150 + (K1 * 100 + C1) / 99
    assert share(s, 0) == pytest.approx(alone / (0.4 * (ATGT - C3)))


def test_in_linear_laws_shares_add_up():
    s = packed(workers=1, prefill=1e9)
    put(s, 0, 0, 0)
    one = share(s, 0)
    put(s, 9, 900, 900)
    assert share(s, 0) == pytest.approx(10 * one)


def test_prefill_kv_and_places_fill_a_worker_too():
    s = packed(workers=1, pace=1e9)
    put(s, 9, 39_900, 100)  # 10 requests, 40,000 tokens of prompt, 200 to come: 19 to decode each
    stalled = 10 * (K1 * 4000 + C1) / 19
    pace = C3 + 10 * C2 + K2 * (40_000 + 100) + stalled
    assert share(s, 0) == pytest.approx(max(stalled / pace / 0.7, 40_100 / (0.9 * 40_000)))
    put(s, 9, 3_500, 4_000)
    blocks = int(s.world.workers["kv_blocks"][0]) * 16
    assert share(s, 0) == pytest.approx(max(5_650 / (0.9 * blocks), share(s, 0, _pace_share)))
    s.world.workers["max_num_seqs"] = 8
    assert share(s, 0) == 10 / 8


def test_a_prefill_worker_is_full_when_a_quarter_of_ttft_is_queued():
    split = {"scheduler": "split"}
    types = [kind("p", 1, role="prefill", **split), kind("d", 1, role="decode", **split)]
    s = packed(types=types)
    s.world.workers["waiting_prefill_tokens"] = 1000, 0
    s.world.workers["waiting"] = 1, 0
    assert share(s, 0) == pytest.approx((K1 * 1100 + C1) / (0.25 * 1.0))


def test_a_decode_worker_uses_its_own_share_of_the_pace():
    split = {"scheduler": "split"}
    types = [kind("p", 1, role="prefill", **split), kind("d", 1, role="decode", **split)]
    s = packed(types=types)
    s.world.requests["stage"] = PREFILLED
    put(s, (0, 9), (0, 900), (0, 900))
    assert share(s, 1, _pace_share) == pytest.approx((10 * C2 + K2 * 1500) / (0.8 * (ATGT - C3)))


def test_the_fullest_within_the_cap_takes_it():
    s = packed(workers=4)
    put(s, (3, 9, 6, 0), (300, 900, 600, 0), (300, 900, 600, 0))
    shares = [share(s, w) for w in range(4)]
    assert shares[0] < shares[2] < shares[1] < 1.0
    assert s.choose() == 1
    s = packed(workers=4, cap=0.5 * (shares[1] + shares[2]))
    put(s, (3, 9, 6, 0), (300, 900, 600, 0), (300, 900, 600, 0))
    assert s.choose() == 2


def test_the_cap_itself_is_within():
    s = packed(workers=1)
    put(s, 5, 500, 500)
    exact = share(s, 0)
    for cap, expected in ((exact, 0), (exact * (1 - 1e-9), HOLD)):
        s = packed(workers=1, cap=cap)
        put(s, 5, 500, 500)
        assert s.choose() == expected


def test_ties_go_to_the_lowest_slot():
    s = packed(workers=3)
    put(s, (0, 5, 5), (0, 500, 500), (0, 500, 500))
    assert s.choose() == 1


def test_beyond_the_cap_it_waits_but_an_idle_worker_takes_any():
    s = packed(workers=2, cap=0.001)
    assert s.choose() == 0
    put(s, (1, 0), (100, 0), (100, 0))
    assert s.choose() == 1
    put(s, 1, 100, 100)
    assert s.choose() == HOLD


def test_a_hopeless_objective_still_serves_one_at_a_time():
    requests = [(0.0, 100, 20)] * 5
    scenario = scenario_of(requests, kind(workers=1), slo=SLO(1.0, 1.02 * C3), max_hold_s=1e6)
    result = Simulator(scenario, 1).run(placements.make_pack_to_cap(scenario))
    assert result.summary["finished"] == 5
    spans = result.requests.sort_values("first_token_s")
    assert (spans["first_token_s"].to_numpy()[1:] >= spans["finish_s"].to_numpy()[:-1]).all()


def test_it_keeps_workers_empty_that_least_request_would_use():
    scenario = scenario_of(random_requests(400, 5.0, seed=4, long=0.0), kind(workers=6), slo=SLO(1.0, ATGT))
    used = {
        name: Simulator(scenario, 1).run(getattr(placements, f"make_{name}")(scenario)).requests["worker"].nunique()
        for name in ("pack_to_cap", "least_request")
    }
    assert used["least_request"] == 6 and used["pack_to_cap"] < 4


def test_a_faster_type_is_fuller_later():
    types = [kind("slow", 1), kind("fast", 1, profile=profile("fast", speed=4.0))]
    s = packed(types=types, prefill=1e9)
    assert share(s, 0, _pace_share) > 4 * share(s, 1, _pace_share)
    assert s.choose() == 0
