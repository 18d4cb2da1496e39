"""Units of work of this folder's scripts: a policy or a bound, in all episodes of a setting; see :class:`Unit`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from aladdin_env.compare import TARGET, Contender, Ladder
from aladdin_env.compare.bounds import Bound, bound_of
from aladdin_env.compare.comparison import gpus_of
from aladdin_env.compare.work import Crew, Lab
from aladdin_env.compare.work import Progress as Tell
from aladdin_env.scenario import Scenario
from experiments.beyond.bounds import least_fleet, price_per_s
from experiments.paper.shared import Asked, Need, searched

Measures = Mapping[str, float]
"""Those of :func:`aladdin_env.metrics.summarise`, or a part, and what the kind of unit adds."""
Found = Mapping[str, list[Measures]]
"""By policy, or whatever else, the measures of each episode."""


class Unit(Protocol):
    """Something to simulate or to compute, in any process."""

    @property
    def scenario(self) -> Scenario:
        """The setting."""
        ...

    @property
    def seeds(self) -> int:
        """Episodes, of the seeds 0, 1, ..."""
        ...

    def measures(self) -> Iterator[Measures]:
        """Those of each episode."""
        ...


@dataclass(frozen=True)
class Fewest:
    """A search for the fewest workers that hold the target in each episode; nothing where no fleet does.

    Adds ``workers``, ``gpus`` and ``price_per_h``.

    Attributes:
        scenario: The setting.
        seeds: Episodes.
        contender: The placement.
        ladder: The fleets to try.
        start: Where the first search begins; the others begin a little below what the one before found, as a fleet
            that is much too small, simulated, takes long.
    """

    scenario: Scenario
    seeds: int
    contender: Contender
    ladder: Ladder
    start: int

    def measures(self) -> Iterator[Measures]:
        """Those on the fewest workers."""
        start = self.start
        for seed in range(self.seeds):
            found = searched(Lab(self.scenario), Need(self.scenario, self.contender, seed, start, self.ladder), _silent)
            if found.workers is None:
                start = max(1, self.ladder.most // 4)
                yield {}
                continue
            start = max(1, found.workers - 2)
            size = {"workers": found.workers, "gpus": gpus_of(self.scenario, found.counts)}
            yield found.runs[0].summary | size | {"price_per_h": 3600.0 * price_per_s(self.scenario, found.counts)}


@dataclass(frozen=True)
class Episodes:
    """Simulations of so many workers per type, or of the scenario's own fleet."""

    scenario: Scenario
    seeds: int
    contender: Contender
    counts: tuple[int, ...] | None = None

    def measures(self) -> Iterator[Measures]:
        """Those of the runs."""
        for seed in range(self.seeds):
            yield Lab(self.scenario).run(self.contender, seed, self.counts).summary


@dataclass(frozen=True)
class LeastFleets:
    """The clairvoyant bound of a fixed fleet: ``price_per_h``, and ``gpus`` where there is one worker type."""

    scenario: Scenario
    seeds: int

    def measures(self) -> Iterator[Measures]:
        """Below them no fixed fleet holds the target."""
        for seed in range(self.seeds):
            gpus, least_per_s = least_fleet(self.scenario, Lab(self.scenario).trace(seed))
            yield {"gpus": gpus, "price_per_h": 3600.0 * least_per_s}


@dataclass(frozen=True)
class LeastCosts:
    """The clairvoyant bound of whole episodes: ``cost``, the minima of the fleet included."""

    scenario: Scenario
    seeds: int

    def measures(self) -> Iterator[Measures]:
        """Below them no fleet, however it scales, holds the target."""
        for seed in range(self.seeds):
            yield {"cost": bound_of(Lab(self.scenario), Bound(seed, TARGET, any_size=False))}


def together(units: Mapping[str, Unit], asked: Asked) -> dict[str, list[Measures]]:
    """The measures of all units."""
    crew = Crew(
        next(iter(units.values())).scenario,
        _work,
        jobs=asked.jobs,
        progress=lambda done: asked.tell(done / len(units)),
    )
    return dict(zip(units, crew.do(list(units.values())), strict=True))


def _work(lab: Lab, unit: Unit, progress: Tell) -> list[Measures]:
    found = []
    for one in unit.measures():
        found.append(one)
        progress(len(found) / unit.seeds)
    return found


def _silent(done: float) -> None:
    """Nobody wants to know how far a search is."""
