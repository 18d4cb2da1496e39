"""What is measured (design: TTFT, ATGT, SLO attainment, goodput, GPU-seconds, cost) and the result of a simulation."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aladdin_env.scenario import Scenario
from aladdin_env.simulator.state import (
    FINISHED,
    OFF,
    REQUEST_STATUS,
    TRUNCATED,
    WORKER_STATUS,
    World,
)

_PERCENTILES = (50, 90, 95, 99)


class FleetHistory:
    """Counts of workers by type and status, and of requests, at every heartbeat."""

    def __init__(self, world: World) -> None:
        """Start with the state at time 0."""
        self._world = world
        self._type_of_slot = world.workers["type_index"].astype(np.int64)
        self._rows: list[NDArray[np.float64]] = []
        self.note()

    def note(self) -> None:
        """Add a row for now."""
        cluster = self._world.cluster[0]
        self._row(float(cluster["now_s"]))

    def close(self, end_s: float) -> None:
        """Add the row of the end, if it is not there yet."""
        if self._rows[-1][0] < end_s:
            self._row(end_s)

    def _row(self, time_s: float) -> None:
        cluster, workers = self._world.cluster[0], self._world.workers
        states = len(WORKER_STATUS)
        index = self._type_of_slot * states + workers["status"]
        counts = np.bincount(index, minlength=states * len(self._world.types))
        waiting, running = workers["waiting"].sum(), workers["running"].sum()
        head = [time_s, cluster["gpus"], cluster["arrived"], cluster["finished"], cluster["held"], waiting, running]
        self._rows.append(np.concatenate([np.array(head, dtype=np.float64), counts]))

    def frame(self, type_names: list[str]) -> pd.DataFrame:
        """One row per heartbeat: ``time_s, gpus, arrived, finished, held, waiting, running, <type>_<status>...``."""
        columns = ["time_s", "gpus", "arrived", "finished", "held", "waiting", "running"]
        columns += [f"{name}_{status}" for name in type_names for status in WORKER_STATUS]
        frame = pd.DataFrame(np.array(self._rows), columns=columns)
        return frame.drop(columns=[c for c in columns if c.endswith(f"_{WORKER_STATUS[OFF]}")])


class Result:
    """What a simulation gave.

    Attributes:
        scenario: What was simulated.
        policy: Name of the policy.
        summary: The measures, seconds, tokens and currency; see :func:`summarise`.
    """

    def __init__(self, scenario: Scenario, policy: str, world: World, requests: int, fleet: FleetHistory) -> None:
        """Take over the arrays of a finished run."""
        self.scenario = scenario
        self.policy = policy
        self._requests = world.requests[:requests]
        self._outputs = world.truth["output_tokens"][:requests]
        hits = world.prefixes["hit_tokens"]
        self._hits = hits[:requests] if len(hits) >= requests else np.zeros(requests, dtype=np.int32)
        self._fleet = fleet
        self.summary = summarise(world, requests, scenario)

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row per request, in order of arrival. Times in seconds, NaN for what never happened.

        ``queue_s``: from arrival until an engine admitted it. ``prefix_hit_tokens``: prompt tokens whose KV was cached
        there. ``met_slo``: first token and pace in time, and served.
        """
        r = self._requests
        served = (r["status"] == FINISHED) | (r["status"] == TRUNCATED)
        return pd.DataFrame(
            {
                "arrival_s": r["arrival_s"],
                "prompt_tokens": r["prompt_tokens"],
                "output_tokens": self._outputs,
                "predicted_tokens": r["predicted_tokens"],
                "prefix_hit_tokens": self._hits,
                "worker": r["worker"],
                "queue_s": r["admitted_s"] - r["arrival_s"],
                "first_token_s": r["first_token_s"],
                "finish_s": r["finish_s"],
                "generated_tokens": np.where(served, r["generated"], 0),
                "preemptions": r["preemptions"],
                "retries": r["retries"],
                "klass": r["klass"],
                "met_slo": served & (r["missed"] == 0),
                "status": pd.Categorical.from_codes(r["status"].astype(np.int8), categories=pd.Index(REQUEST_STATUS)),
            }
        )

    @cached_property
    def fleet(self) -> pd.DataFrame:
        """The fleet over time, a row per heartbeat (see :meth:`FleetHistory.frame`)."""
        return self._fleet.frame([kind.name for kind in self.scenario.fleet.types])


def _percentiles(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    if len(values) == 0:
        return {f"{name}_p{p}_s": float("nan") for p in _PERCENTILES} | {f"{name}_mean_s": float("nan")}
    found = np.percentile(values, _PERCENTILES)
    return {f"{name}_p{p}_s": float(v) for p, v in zip(_PERCENTILES, found, strict=True)} | {
        f"{name}_mean_s": float(values.mean())
    }


def request_times(requests: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """TTFT (all queueing included), ATGT (of requests with two tokens or more), end-to-end and queue seconds."""
    status, generated = requests["status"], requests["generated"]
    arrival_s, first_s, finish_s = (requests[name].copy() for name in ("arrival_s", "first_token_s", "finish_s"))
    served = (status == FINISHED) | (status == TRUNCATED)
    paced = served & (generated > 1)
    begun = ~np.isnan(first_s)
    return {
        "ttft": (first_s - arrival_s)[begun],
        "atgt": (finish_s - first_s)[paced] / (generated[paced] - 1),
        "e2e": (finish_s - arrival_s)[served],
        "queue": (requests["admitted_s"] - arrival_s)[served],
    }


def summarise(world: World, n: int, scenario: Scenario) -> dict[str, float]:
    """The measures of a run: percentiles of TTFT, ATGT, end-to-end and queue time, attainment, goodput, cost.

    ``slo_attainment``: requests served within their SLO over all that arrived. ``goodput_rps``: those per second of the
    run. ``goodput_per_gpu_rps``: per GPU in use on average. ``prefix_hit_ratio``: prompt tokens whose KV was cached
    over all that were admitted (0 without prefix caching). GPU time counts from 0 to the end of the last request.
    ``bounded_predictions``: output lengths that the predictor gave as no number, below 1 or above 10^6 tokens.
    """
    requests = world.requests[:n]
    cluster, control = world.cluster[0], world.control[0]
    duration_s = max(float(cluster["accrued_s"]), 1e-9)
    met = int(cluster["slo_met"])
    gpu_s = float(cluster["gpu_seconds"])
    out: dict[str, float] = {
        "requests": n,
        "duration_s": duration_s,
        "slo_attainment": met / n,
        "goodput_rps": met / duration_s,
        "goodput_per_gpu_rps": met / gpu_s if gpu_s > 0 else float("nan"),
        "throughput_rps": int(cluster["finished"]) / duration_s,
        "output_tokens_per_s": int(cluster["finished_output_tokens"]) / duration_s,
        "gpu_seconds": gpu_s,
        "gpu_hours": gpu_s / 3600,
        "gpus_mean": gpu_s / duration_s,
        "cost": float(cluster["cost"]),
        "cost_per_1k_requests": 1000 * float(cluster["cost"]) / n,
    }
    asked = int(cluster["prefix_asked_tokens"])
    out["prefix_hit_ratio"] = int(cluster["prefix_hit_tokens"]) / asked if asked else 0.0
    for name, values in request_times(requests).items():
        out |= _percentiles(name, values)
    counts = (
        "finished", "ttft_missed", "atgt_missed", "rejected", "failed", "truncated", "preemptions", "retries",
        "bounded_predictions",
    )  # fmt: skip
    out |= {name: int(cluster[name]) for name in counts}
    out["unfinished"] = n - out["finished"] - out["rejected"] - out["failed"]
    out |= {name: int(control[name]) for name in ("decisions", "prefill_steps", "decode_steps", "mixed_steps")}
    if scenario.slo.classes:
        for k, name in enumerate(scenario.slo.names()):
            mine = requests[requests["klass"] == k]
            good = (mine["missed"] == 0) & (mine["status"] == FINISHED)
            out[f"slo_attainment_{name}"] = float(good.mean()) if len(mine) else float("nan")
    return out
