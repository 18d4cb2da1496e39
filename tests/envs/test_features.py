"""Every feature against its formula, worked out by hand on a small state."""

import math
from dataclasses import replace

import numpy as np
import pytest

from aladdin_env.features import CLUSTER_FEATURES, CLUSTER_TABLE, REQUEST_TABLE, TYPE_FEATURES, TYPE_TABLE, WORKER_TABLE
from aladdin_env.latency import DecodeLaw, PrefillLaw, load_profile
from aladdin_env.observation import OBSERVATION_VERSION, blank, encode
from aladdin_env.scenario import SLO, Fleet, Scenario, SLOClass, WorkerType
from aladdin_env.simulator.setup import Room, draw, load, one, shape_of, write_static
from aladdin_env.simulator.state import allocate
from aladdin_traces import FixedLengths, Poisson, Workload

NOW, HORIZON = 100.0, 400.0
K1, C1, K2, C2, C3, OVERHEAD, ATTENTION = 1e-4, 0.010, 1e-6, 1e-4, 0.008, 0.003, 1e-9
TTFT, ATGT = 0.5, 0.04
PROMPT, OUTPUT, WAITED = 1000, 300.0, 0.1


def prefill(tokens, squares=None):
    return K1 * tokens + C1 + ATTENTION * (tokens * tokens if squares is None else squares)


def decode(batch, context):
    return K2 * context + C2 * batch + C3


def _profile(gpus):
    law = replace(PrefillLaw.linear(K1, C1), attention_s_per_token2=ATTENTION)
    return replace(
        load_profile("llama-3.1-8b-h100-tp1"), prefill=law, decode=DecodeLaw.linear(K2, C2, C3),
        mixed_overlap_s=0.002, overhead_s=OVERHEAD, kv_bytes_per_request=0.0, gpus=gpus,
    )  # fmt: skip


@pytest.fixture
def world():
    """Two types of two slots: 0 works, 1 is idle, 2 starts, 3 is off. A request of class 1 is at hand."""
    types = (
        WorkerType(
            "a", _profile(1), 2, 0, 2, 3.0, kv_capacity_tokens=16000, max_num_seqs=64, max_num_batched_tokens=2048
        ),
        WorkerType("b", _profile(4), 0, 0, 2, 1.0, kv_capacity_tokens=32000, scheduler="prefill_first"),
    )
    slo = SLO(classes=(SLOClass("slow", 5.0, 0.2), SLOClass("quick", TTFT, ATGT)))
    workload = Workload.generated(Poisson(5.0), FixedLengths(PROMPT, 200))
    scenario = Scenario(
        "hand", workload, Fleet(types), slo, horizon_s=HORIZON, heartbeat_s=10.0, start_of_day_s=21500.0
    )
    draws = draw(scenario, np.random.default_rng(0))
    made = one(allocate(1, shape_of(scenario, Room(len(draws.trace), 1), 1, False)), 0)
    write_static(made, scenario)
    load(made, scenario, draws, np.zeros(0))
    worker = made.workers[0]
    for name, value in {
        "step": 3, "running": 8, "decoding": 8, "waiting": 2, "inbound": 1, "members": 11,
        "outbound": 16, "kv_used_blocks": 250,
        "context_tokens": 4000, "waiting_prefill_tokens": 600, "decode_steps": 50, "member_prompt_tokens": 3000,
        "member_predicted_tokens": 2200.0, "prediction_error_tokens": -512.0, "step_end_s": NOW + 0.005,
    }.items():  # fmt: skip
        worker[name] = value
    worker["slack_key_s"][:] = (NOW - 4.0, NOW - 1.9, np.inf, np.inf)
    made.workers["status"][2], made.workers["ready_s"][2] = 1, NOW + 45.0
    made.workers["running"][3] = 77  # OFF: whatever is left there is not shown
    request = made.requests[0]
    request["arrival_s"], request["predicted_tokens"], request["klass"] = NOW - WAITED, OUTPUT, 1
    request["status"], request["retries"] = 1, 1
    cluster = made.cluster[0]
    for name, value in {
        "now_s": NOW, "next_heartbeat_s": 104.0, "beats": 9, "arrived": 520, "beat_arrived": 490, "held": 8,
        "arrived_prompt_tokens": 560_000, "beat_prompt_tokens": 528_000, "finished": 480, "beat_finished": 470,
        "slo_met": 400, "beat_slo_met": 392, "in_flight": 40, "unserved": 13, "finished_output_tokens": 96_000,
    }.items():  # fmt: skip
        cluster[name] = value
    cluster["cost_rate_per_s"] = 6.0 / 3600
    made.history[:9] = [(40 + 5 * i, 45_000.0, 50, 40) for i in range(9)]
    return made


def _encode(world, r=0, scaling=False, horizon_s=HORIZON):
    out = blank(4, 2)
    encode(
        world.workers, world.requests, world.cluster, world.types, world.laws, world.slo, world.history, r, scaling,
        horizon_s, out["workers"], out["request"], out["cluster"],
    )  # fmt: skip
    cluster = dict(
        zip([*CLUSTER_FEATURES, *(f"{k}_{n}" for k in "ab" for n in TYPE_FEATURES)], out["cluster"], strict=True)
    )
    rows = [dict(zip([f.name for f in WORKER_TABLE], row, strict=True)) for row in out["workers"]]
    return rows, dict(zip([f.name for f in REQUEST_TABLE], out["request"], strict=True)), cluster


def _check(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_worker_at_work(world):
    """Chunked: the queue of 600 and the prompt of 1000 fit into one step beside 8 decoding requests."""
    squares = PROMPT**2 + 600**2 / 2
    wait = 0.005 + (prefill(1600, squares) + decode(8, 4000) - 0.002) + OVERHEAD
    stall = prefill(PROMPT)
    slow = (NOW - 4.0 + 0.2 * 50 - NOW - stall) / 0.2
    quick = (NOW - 1.9 + ATGT * 50 - NOW - stall) / ATGT
    assert quick < slow
    _check(
        _encode(world)[0][0],
        {
            "starting": 0, "ready": 1, "draining": 0, "failed": 0, "type": 0.5, "prefill_role": 0, "decode_role": 0,
            "gpus": 1 / 8, "price": 3 / 4, "running": 8 / 64, "waiting": 3 / 32, "waiting_tokens": 600 / 2048,
            "outbound": 0.5, "kv_used": 250 / 1000, "context": 4000 / 16000, "decode_now": decode(8, 4000) / ATGT,
            "decode_after": decode(12, 3000 + 1100 + PROMPT + OUTPUT / 2) / ATGT,
            "ttft_here": (WAITED + wait) / TTFT, "slack": quick,
            "kv_peak": (3000 + 2200 + PROMPT + OUTPUT) / 16000, "prediction_error": -0.25, "ready_in": 0,
            "prefix_hit": 0, "can_place": 1,
        },
    )  # fmt: skip


def test_idle_starting_and_off_workers(world):
    _, idle, starting, off = _encode(world)[0]
    nothing = dict.fromkeys(idle, 0)
    _check(
        idle,
        nothing
        | {
            "ready": 1, "type": 0.5, "gpus": 1 / 8, "price": 3 / 4, "slack": 10,
            "decode_after": decode(1, PROMPT + OUTPUT / 2) / ATGT,
            "ttft_here": (WAITED + prefill(PROMPT) + OVERHEAD) / TTFT, "kv_peak": (PROMPT + OUTPUT) / 16000,
            "can_place": 1,
        },
    )  # fmt: skip
    # b costs 4 GPUs at 1.0, a one at 3.0
    _check(starting, nothing | {"starting": 1, "type": 1, "gpus": 0.5, "price": 1, "ready_in": 45 / 60})
    _check(off, nothing | {"type": 1, "gpus": 0.5, "price": 1})


def test_request(world):
    _check(
        _encode(world)[1],
        {
            "present": 1, "prompt": PROMPT / 4096, "log_prompt": math.log2(PROMPT) / 16, "predicted_output": 300 / 1024,
            "ttft_slo": TTFT / 10, "atgt_slo": ATGT / 0.1, "waited": WAITED / TTFT, "held": 1, "retries": 1 / 3,
            "prefilled": 0,
        },
    )  # fmt: skip


def test_cluster(world):
    """Six seconds into the tenth heartbeat; the ninth brought 80 arrivals."""
    rate = (30 + 80) / 16
    rate_all = sum(40 + 5 * i for i in range(9)) / 90
    angle = 2 * math.pi * (21500 + NOW) / 86400
    _check(
        _encode(world)[2],
        {
            "scaling_decision": 0, "rate": rate / 40, "rate_4": (65 + 70 + 75 + 80) / 40 / 40, "rate_16": rate_all / 40,
            "trend": (rate - rate_all) / (rate + rate_all), "token_rate": (32_000 + 45_000) / 16 / 40_000,
            "mean_prompt": 560_000 / 520 / 4096, "mean_output": 200 / 1024, "attainment": (8 + 40) / (10 + 50),
            "attainment_16": 0.8, "unserved": 13 / 520 / 0.1, "held": 8 / 32, "in_flight": 40 / 256,
            "day_sin": math.sin(angle), "day_cos": math.cos(angle), "heartbeat_in": 0.4, "horizon_left": 0.75,
            "beats_left": 0.3, "cost_rate": 6 / (2 * 3 + 2 * 4), "starting": 0.25, "ready": 0.5, "draining": 0,
            "failed": 0, "ready_in": 45 / 60,
            "a_serving": 1, "a_coming": 0, "a_leaving": 0, "a_load": 11 / 64 / 2, "a_kv_used": 0.25 / 2,
            "b_serving": 0, "b_coming": 0.5, "b_leaving": 0, "b_load": 0, "b_kv_used": 0,
        },
    )  # fmt: skip


def test_no_request_at_hand(world):
    """A scaling decision: the predictions leave the request out, the objectives are those of class 0."""
    rows, request, cluster = _encode(world, r=-1, scaling=True, horizon_s=math.inf)
    assert set(request.values()) == {0}
    assert cluster["scaling_decision"] == 1 and cluster["horizon_left"] == 1 and cluster["beats_left"] == 10
    worker = rows[0]
    assert worker["ttft_here"] == worker["can_place"] == 0
    assert worker["decode_after"] == pytest.approx(decode(11, 3000 + 1100) / 0.2, rel=1e-5)
    assert worker["kv_peak"] == pytest.approx(5200 / 16000)
    assert worker["slack"] == pytest.approx((-1.9 + ATGT * 50) / ATGT, rel=1e-4)


def test_long_queue_takes_several_steps(world):
    world.workers["waiting_prefill_tokens"][0] = 5500
    tokens, squares = 6500 / 4, (PROMPT**2 + 5500**2 / 2) / 4  # budget 2048 - 8
    wait = 0.005 + 4 * (prefill(tokens, squares) + decode(8, 4000) - 0.002) + OVERHEAD
    assert _encode(world)[0][0]["ttft_here"] == pytest.approx((WAITED + wait) / TTFT, rel=1e-5)


def test_prefilled_request_looks_at_decode_only(world):
    world.requests["stage"][0] = 2
    world.workers["accepts"][0] = 2
    world.workers["role"][0] = 2
    world.types["role"][0] = 2
    rows, request, _ = _encode(world)
    assert request["prefilled"] == 1
    assert rows[0]["can_place"] == 1 and rows[1]["can_place"] == 0
    assert rows[0]["ttft_here"] == 0 and rows[0]["decode_role"] == 1
    assert rows[0]["slack"] == pytest.approx((-1.9 + ATGT * 50) / ATGT, rel=1e-4)


def test_nothing_leaves_the_bounds(world):
    for name in ("waiting", "waiting_prefill_tokens", "member_prompt_tokens"):
        world.workers[name][0] = 2_000_000
    world.workers["prediction_error_tokens"][0] = -np.inf
    world.workers["slack_key_s"][0, 0] = -1e12
    world.workers["step_end_s"][0] = np.nan
    world.cluster["in_flight"] = 10**9
    rows, request, cluster = _encode(world)
    for values in (*rows, request, cluster):
        assert np.isfinite(list(values.values())).all()
        assert np.abs(list(values.values())).max() <= 10.0


def test_before_the_first_heartbeat(world):
    cluster = world.cluster[0]
    for name in ("beats", "beat_arrived", "beat_prompt_tokens", "beat_finished", "beat_slo_met"):
        cluster[name] = 0
    cluster["now_s"], cluster["next_heartbeat_s"], cluster["arrived"] = 0.2, 10.0, 3
    found = _encode(world)[2]
    assert found["rate"] == found["rate_4"] == found["rate_16"] == pytest.approx(3 / 1.0 / 40)
    assert found["trend"] == 0


def test_tables_are_complete():
    assert OBSERVATION_VERSION == 1
    for table in (WORKER_TABLE, REQUEST_TABLE, CLUSTER_TABLE, TYPE_TABLE):
        assert len({feature.name for feature in table}) == len(table)
        assert all(feature.meaning and feature.scale for feature in table)
