"""A result: one policy in one episode of one scenario, or the bound there, with what made it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from aladdin_agents.benchmark.entrants import BOUND, Entrant
from aladdin_agents.benchmark.provenance import commit, versions
from aladdin_agents.benchmark.scenarios import BENCHMARK, Case, case_of

MEASURES = ("cost", "gpu_hours", "slo_attainment", "goodput_rps", "ttft_p99_s", "atgt_p99_s", "requests")
"""What a row measures; see :func:`aladdin_env.metrics.summarise` for units. Empty in the file: not known (NaN)."""

Key = tuple[str, str, str, str, int]
"""Split, task, scenario, policy, seed."""


@dataclass(frozen=True)
class Row:
    """One policy in one episode of one scenario, or the bound there; the columns of the file, in their order.

    Attributes:
        benchmark: Version of the benchmark.
        split: Split of the scenario.
        task: Task of the scenario.
        scenario: Its name.
        policy: ``placement`` or ``placement+scaler``, where both parts may be files; or "bound".
        seed: The episode.
        cost: Currency.
        gpu_hours: GPU time.
        slo_attainment: Share of the requests within their SLO, 0 to 1; of a bound, what it is a bound for.
        goodput_rps: Requests within their SLO per second.
        ttft_p99_s: 99th percentile of the time to the first token, seconds.
        atgt_p99_s: 99th percentile of the seconds per token.
        requests: How many arrived.
        policy_sha256: Of the policy's files, joined by "+"; empty without files.
        policy_package: Third-party packages that it comes from, ``name==version``; empty for ours.
        commit: Of the checkout that ran it, with "-dirty" where files had changed; empty for an installed package.
        aladdin_env: Version of this package.
        numpy: Version of NumPy.
        numba: Version of Numba.
    """

    benchmark: str
    split: str
    task: str
    scenario: str
    policy: str
    seed: int
    cost: float
    gpu_hours: float
    slo_attainment: float
    goodput_rps: float
    ttft_p99_s: float
    atgt_p99_s: float
    requests: float
    policy_sha256: str
    policy_package: str
    commit: str
    aladdin_env: str
    numpy: str
    numba: str

    @classmethod
    def of(cls, case: Case, entrant: Entrant | None, seed: int, measures: Mapping[str, float]) -> Row:
        """The row of what this code has measured; without an entrant that of the bound."""
        known: dict[str, Any] = {name: float(measures.get(name, math.nan)) for name in MEASURES}
        known |= {"split": case.split, "task": case.task, "scenario": case.name, "seed": seed}
        if entrant is None:
            known |= {"policy": BOUND, "policy_sha256": "", "policy_package": ""}
        else:
            known |= {"policy": entrant.policy, "policy_sha256": entrant.sha256, "policy_package": entrant.package}
        known |= {"benchmark": BENCHMARK, "commit": commit()} | versions()
        return cls(**known)

    @property
    def key(self) -> Key:
        """What no other row of a file has."""
        return (self.split, self.task, self.scenario, self.policy, self.seed)

    @property
    def case(self) -> Case:
        """The scenario."""
        return case_of(self.split, self.task, self.scenario)

    def __getitem__(self, measure: str) -> float:
        """A measure by its name."""
        value: float = getattr(self, measure)
        return value

    def texts(self) -> list[str]:
        """The fields as a file has them: numbers so that they read back equal, nothing for what is not known."""
        return ["" if value != value else str(value) for value in asdict(self).values()]


COLUMNS = tuple(field.name for field in fields(Row))


def differing(one: Row, other: Row, tolerance: float = 0.0) -> tuple[str, ...]:
    """The measures in which two rows differ by more than a relative ``tolerance``; both unknown is equal."""

    def same(a: float, b: float) -> bool:
        return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=tolerance, abs_tol=0.0)

    return tuple(name for name in MEASURES if not same(one[name], other[name]))
