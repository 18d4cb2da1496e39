"""A stretch of a log as an episode that can be simulated: its requests, the fleet as it was, what came of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aladdin_env.bridge.record.fleet_seen import FleetSeen
from aladdin_env.bridge.record.log import Log
from aladdin_env.bridge.record.outcome import Outcome
from aladdin_env.bridge.record.periods import Period
from aladdin_env.errors import InputError
from aladdin_env.metrics import Result
from aladdin_env.policy import make_policy
from aladdin_env.scenario import SLO, Scenario, SLOClass
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.setup import draw
from aladdin_env.simulator.state import OFF, WORKER_STATUS
from aladdin_traces import Trace, Workload

#: Outcome of a request that was turned away at the door.
REFUSED = "refused"
#: Turned away at the door, and yet asked for what any fleet of the log could have served.
_WANTED = "too_many_requests"


class Episode:
    """The requests of a period, and the fleet that served them.

    Requests that were not served to their end have no length of their own: they get those of others, drawn anew under
    each seed. Requests whose clients hung up are as long as they were, and count for nothing.

    Args:
        log: The log.
        period: Which part of it.

    Attributes:
        scenario: The fleet and the requests; what is recorded of laws, memory and cold starts is in it.
        requests: A row for each request, in the order of arrival, those turned away at the door included.
        recorded: What came of them.

    Raises:
        InputError: not one request of the period was served.
    """

    def __init__(self, log: Log, period: Period) -> None:
        self.period = period
        self.span_s = max(period.end_s - period.start_s, 1e-3)
        self.requests = _requests(log, period)
        self._finished = (self.requests["outcome"] == "finished").to_numpy()
        self._left = (self.requests["outcome"] == "left").to_numpy()
        if not self._finished.any():
            mend = "give a log in which some requests were served"
            raise InputError("requests", f"0 of {len(self.requests)} finished", mend)
        streams = self.requests["streams"].to_numpy(dtype=bool)
        self._timed = streams if (streams & self._finished).any() else np.ones(len(streams), dtype=bool)
        self._fleet = FleetSeen(log, period)
        slo = _slo(log, period)
        self.recorded = self._recorded(slo)
        self.scenario = self._scenario(log, slo)

    def simulate(self, spec: str, seed: int, *, recorded_coins: bool = False) -> Outcome:
        """What would have come of the same requests under a policy; the same seed draws the same for every policy.

        Args:
            spec: The policy.
            seed: Of unknown lengths, cold starts and coins.
            recorded_coins: Give each request the coin that it had.
        """
        rng = np.random.default_rng(seed)
        drawn = replace(draw(self.scenario, rng), trace=self._trace(rng))
        if recorded_coins:
            drawn = replace(drawn, coins=self.requests["coin"].to_numpy())
        return self._simulated(Simulator(self.scenario, draws=drawn).run(make_policy(spec, self.scenario)))

    def _recorded(self, slo: NDArray[np.float64]) -> Outcome:
        found = self.requests
        arrival_s, first_s, finish_s = (
            found[name].to_numpy() for name in ("arrival_s", "first_token_s", "finish_s")
        )  # fmt: skip
        tokens = found["output_tokens"].to_numpy()
        ttft_s = np.where(self._finished, first_s - arrival_s, np.nan)
        atgt_s = np.where(self._finished & (tokens > 1), (finish_s - first_s) / np.maximum(tokens - 1, 1), np.nan)
        limits = slo[found["klass"].to_numpy(dtype=np.int64)]
        met = self._finished & (ttft_s <= limits[:, 0]) & ~(atgt_s > limits[:, 1])
        return self._outcome(met, ttft_s, atgt_s, *self._fleet.steps())

    def _simulated(self, result: Result) -> Outcome:
        found, fleet = result.requests, result.fleet
        first_s, finish_s = found["first_token_s"].to_numpy(), found["finish_s"].to_numpy()
        tokens = found["generated_tokens"].to_numpy()
        atgt_s = np.where(tokens > 1, (finish_s - first_s) / np.maximum(tokens - 1, 1), np.nan)
        ttft_s = first_s - found["arrival_s"].to_numpy()
        cost = np.zeros(len(fleet))
        for kind in self.scenario.fleet.types:
            states = [f"{kind.name}_{status}" for status in WORKER_STATUS if status != WORKER_STATUS[OFF]]
            cost += kind.price_per_s * fleet[states].to_numpy().sum(axis=1)
        steps = fleet["time_s"].to_numpy(), fleet["gpus"].to_numpy(), cost
        return self._outcome(found["met_slo"].to_numpy(), ttft_s, atgt_s, *steps)

    def _outcome(
        self,
        met: NDArray[np.bool_],
        ttft_s: NDArray[np.float64],
        atgt_s: NDArray[np.float64],
        *steps: NDArray[np.float64],
    ) -> Outcome:
        arrival_s = self.requests["arrival_s"].to_numpy() - self.period.start_s
        ttft_s, atgt_s = (np.where(self._timed, values, np.nan) for values in (ttft_s, atgt_s))
        return Outcome(self.span_s, arrival_s, met, ~self._left, ttft_s, atgt_s, *steps)

    def _scenario(self, log: Log, slo: NDArray[np.float64]) -> Scenario:
        base = log.header.scenario
        counts = self._fleet.at_first(make_policy(self.period.acting, base).scales)
        types = tuple(
            replace(kind, initial=n, minimum=min(kind.minimum, n), maximum=max(kind.maximum, n))
            for kind, n in zip(self._fleet.types(), counts, strict=True)
        )
        used = int(self.requests["klass"].max()) + 1
        names = base.slo.names()
        classes = [SLOClass(names[k] if k < len(names) else f"class {k}", *slo[k].tolist()) for k in range(used)]
        ttft_s, atgt_s = slo[0].tolist()
        return replace(
            base,
            name=log.header.began,
            workload=Workload.from_trace(self._trace(np.random.default_rng(0))),
            fleet=replace(base.fleet, types=types, max_gpus=None),
            slo=SLO(ttft_s, atgt_s, tuple(classes) if used > 1 else ()),
            horizon_s=None,
        )

    def _trace(self, rng: np.random.Generator) -> Trace:
        found = self.requests
        known = self._finished | self._left
        output = np.maximum(found["output_tokens"].to_numpy(), 1)
        output[~known] = rng.choice(output[self._finished], int((~known).sum()))
        arrival_s = found["arrival_s"].to_numpy() - self.period.start_s
        return Trace.from_arrays(
            arrival_s, np.maximum(found["prompt_tokens"].to_numpy(), 1), output, found["klass"].to_numpy()
        )


def _requests(log: Log, period: Period) -> pd.DataFrame:
    refused = [
        {
            "arrival_s": record.t, "finish_s": record.t, "prompt_tokens": record.fields["prompt_tokens"],
            "output_tokens": 0.0, "klass": record.fields["klass"], "coin": 0.5, "outcome": REFUSED,
            "streams": False,
        }
        for record in log.records
        if record.kind == "refuse" and record.fields["reason"] == _WANTED
    ]  # fmt: skip
    found = log.requests
    if refused:
        found = pd.concat([found, pd.DataFrame(refused)], ignore_index=True)
    inside = (found["arrival_s"] >= period.start_s) & (found["arrival_s"] < period.end_s)
    return found[inside].sort_values("arrival_s", kind="stable", ignore_index=True)


def _slo(log: Log, period: Period) -> NDArray[np.float64]:
    table = log.header.slo.copy()
    for record in log.records:
        if record.kind == "slo" and record.t <= period.end_s:
            table[record.fields["klass"]] = record.fields["ttft_s"], record.fields["atgt_s"]
    return table
