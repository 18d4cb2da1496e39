"""The recorded requests once more in the simulator, beside what was recorded: how far the simulator can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from aladdin_env.bridge.decider import CANARY
from aladdin_env.bridge.record.episode import Episode
from aladdin_env.bridge.record.log import Log
from aladdin_env.bridge.record.outcome import Blocks
from aladdin_env.bridge.record.periods import periods
from aladdin_env.errors import InputError


@dataclass(frozen=True)
class SimToReal:
    """What :func:`sim_to_real` finds.

    Attributes:
        policy: The policy that was simulated.
        requests: Requests that it served.
        span_s: Seconds in which they came.
        recorded: The measures as they were.
        simulated: The measures of the simulation.
        notes: What a reader should know, a line each.
    """

    policy: str
    requests: int
    span_s: float
    recorded: dict[str, float]
    simulated: dict[str, float]
    notes: list[str]


def sim_to_real(log: Log, policy: str | None = None) -> SimToReal:
    """Simulate the longest stretch of a log under one mode and the same policies.

    Args:
        log: The log.
        policy: What to simulate; None: the policy that acted, with the coins that its requests had.

    Raises:
        InputError: no request was served, or the requests cannot be simulated on this fleet.
    """
    found = periods(log)
    if not found:
        raise InputError("log", f"{len(log.requests)} requests in 0 s", "give a log in which some requests were served")
    period = max(found, key=lambda one: one.end_s - one.start_s)
    episode = Episode(log, period)
    spec = policy or period.acting
    outcome = episode.simulate(spec, 0, recorded_coins=True)
    measures = [Blocks([one], [1]).measures() for one in (episode.recorded, outcome)]
    notes = []
    if len(found) > 1:
        notes.append(f"Modes or policies changed: this is the longest stretch of {len(found)}.")
    if period.regime.mode == CANARY and policy is None:
        share = f"{period.regime.canary:.0%}"
        notes.append(f"{period.regime.policy} decided about {share} of the requests; {spec} is simulated for all.")
    return SimToReal(spec, len(episode.requests), episode.span_s, measures[0], measures[1], notes)
