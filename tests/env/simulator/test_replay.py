"""Replay: the same as a simulation of its own for every law and KV room, however often it runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aladdin_env.errors import InputError
from aladdin_env.latency import load_profile
from aladdin_env.scenario import SLO, Fleet, Scenario, WorkerType
from aladdin_env.simulator.replay import Replay
from aladdin_env.simulator.run import Simulator
from aladdin_traces import Trace, Workload

KIND = WorkerType("only", "llama-3.1-8b-a100-tp1", initial=1, minimum=1, maximum=1, max_num_seqs=32)


def trace(requests: int = 120) -> Trace:
    rng = np.random.default_rng(3)
    lengths = rng.integers(20, 1500, (2, requests))
    return Trace.from_arrays(np.sort(rng.uniform(0, 20, requests)), *lengths)


@pytest.mark.parametrize("scheduler", ["chunked", "prefill_first"])
def test_every_run_is_what_a_simulator_of_its_own_gives(scheduler: str) -> None:
    requests, preempted = trace(), 0
    replayed = Replay(requests, replace(KIND, scheduler=scheduler))
    for name, tokens in (("llama-3.1-8b-a100-tp1", 9_000), ("llama-3.1-8b-h100-tp1", 400_000)) * 2:
        kind = replace(KIND, scheduler=scheduler, profile=load_profile(name), kv_capacity_tokens=tokens)
        scenario = Scenario("one", Workload.from_trace(requests), Fleet((kind,)), SLO(99.0, 9.0), None, max_hold_s=1e9)
        whole = Simulator(scenario).run("round_robin").requests
        ours = replayed.run(kind.latency.row(kind.max_num_seqs), tokens // kind.block_size)
        np.testing.assert_array_equal(ours.first_token_s, whole["first_token_s"])
        np.testing.assert_array_equal(ours.finish_s, whole["finish_s"])
        np.testing.assert_array_equal(ours.preemptions, whole["preemptions"])
        preempted += int(ours.preemptions.sum())
    assert preempted > 0


def test_a_room_that_the_longest_request_does_not_fit_into_is_refused() -> None:
    replayed = Replay(trace(), KIND)
    row = KIND.latency.row(KIND.max_num_seqs)
    replayed.run(row, replayed.least_blocks)
    with pytest.raises(InputError, match=r"kv_blocks: .* give at least"):
        replayed.run(row, replayed.least_blocks - 1)
