"""Logs of a bridge whose workers are the simulator's: what it makes of them again should be what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from aladdin_env import SLO, Fleet, Scenario, WorkerType, Workload
from aladdin_env.bridge.events import Regime, Ticket
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.record.recorder import Recorder, RecordSettings
from aladdin_env.policy import make_policy
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.state import READY
from aladdin_traces import Poisson
from tests.env.bridge.record.traffic import BEGAN

REQUESTS = RecordSettings()
KIND = WorkerType(
    "worker", "llama-3.1-8b-h100-tp1", initial=2, minimum=1, maximum=4, max_num_seqs=16, price_per_gpu_hour=3.6
)


def served_scenario(rate_rps: float = 16.0, seconds: float = 300.0, **changes) -> Scenario:
    """Workers that are nearly full."""
    workload = Workload.generated(Poisson(rate_rps), "sharegpt")
    kind = replace(KIND, **changes)
    return Scenario("live", workload, Fleet((kind,)), SLO(0.5, 0.02), horizon_s=seconds, heartbeat_s=5.0)


def record_simulation(
    path: Path,
    scenario: Scenario,
    acting: str,
    policy: str,
    *,
    seed: int = 0,
    mode: str = "shadow",
    shadow: Callable[[int, int], int | None] = lambda row, slot: slot,
    settings: RecordSettings = REQUESTS,
    began: datetime = BEGAN,
    change: Callable[[Ticket], None] = lambda ticket: None,
    around: Callable[[Recorder, float], None] = lambda recorder, now_s: None,
) -> pd.DataFrame:
    """Simulate, and have a recorder hear of it as if it were real; gives the requests.

    Args:
        shadow: What the policy that does not act answers, by row and by what the acting one answered.
        change: What else is different about a request that has ended.
        around: Called before each request's end, with the time.
    """
    simulator = Simulator(scenario, seed)
    requests = simulator.run(acting).requests
    cluster = LiveCluster.open(scenario, make_policy(acting, scenario), 1)
    recorder = Recorder(path, cluster, Regime(mode, 0.5, policy, acting), settings, seed=seed, wall_clock=lambda: began)
    for slot in range(scenario.fleet.types[0].initial):
        recorder.moved(slot, READY, 0.0, 0.0)
    for row in np.argsort(requests["finish_s"].to_numpy(), kind="stable").tolist():
        one = requests.iloc[row]
        slot = int(one["worker"])
        ticket = Ticket(
            f"r{row}", 0, int(one["klass"]), int(one["prompt_tokens"]), float(simulator.draws.coins[row]), True,
            float(one["arrival_s"]), slot, acting, float(one["arrival_s"]), float(one["first_token_s"]),
            float(one["finish_s"]), int(one["generated_tokens"]), shadow=shadow(row, slot), outcome="finished",
        )  # fmt: skip
        change(ticket)
        around(recorder, ticket.ended_s)
        recorder.ended(ticket)
    recorder.close()
    return requests
