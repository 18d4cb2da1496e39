"""The stretches of a log: who decided when."""

from __future__ import annotations

from dataclasses import dataclass

from aladdin_env.bridge.decider import ACTIVE
from aladdin_env.bridge.events import Regime
from aladdin_env.bridge.record.log import Log, regime_of


@dataclass(frozen=True)
class Period:
    """A stretch of a log under one regime, seconds since the bridge began."""

    start_s: float
    end_s: float
    regime: Regime

    @property
    def acting(self) -> str:
        """The policy that decided about most requests, and under ``shadow`` about all."""
        return self.regime.policy if self.regime.mode == ACTIVE else self.regime.baseline

    @property
    def pair(self) -> tuple[str, str]:
        """Policy and baseline."""
        return self.regime.policy, self.regime.baseline


def periods(log: Log) -> list[Period]:
    """The stretches of a log, from its first request and one change of mode or policy to the next."""
    arrivals = log.requests["arrival_s"]
    found, regime = [], log.header.regime
    start_s = max(log.header.t, float(arrivals.iloc[0])) if len(arrivals) else log.header.t
    for record in log.records:
        if record.kind == "switch":
            found.append(Period(start_s, record.t, regime))
            start_s, regime = record.t, regime_of(record.fields)
    found.append(Period(start_s, log.end_s, regime))
    return [period for period in found if period.end_s > period.start_s]
