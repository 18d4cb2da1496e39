"""Where units of work are done: in processes of this machine, or on a Ray cluster. No result depends on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from aladdin_agents.scale_out.cluster import RETRIES, Origin, connected, plain_faults
from aladdin_env.compare.work import Crew, Progress

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")
Work = Callable[[Unit, Progress], Outcome]
"""A function of a module, or a partial one, so that other processes find it."""


class Engine(Protocol):
    """Does work for many units."""

    def do(
        self,
        work: Work[Unit, Outcome],
        units: Sequence[Unit],
        *,
        progress: Progress,
        keep: Callable[[Unit, Outcome], None],
    ) -> None:
        """Do all units.

        Args:
            work: What to do with a unit; told how far it is (a share of it).
            units: What to do it with.
            progress: Told how many units are done.
            keep: Given each unit and its outcome as soon as it is done, in any order, in this thread.

        Raises:
            InputError: raised by the work.
            OutsideFault: processes that die.
        """


@dataclass(frozen=True)
class LocalProcesses:
    """This machine.

    Attributes:
        jobs: Processes; None: several where that pays.
    """

    jobs: int | None = None

    def do(
        self,
        work: Work[Unit, Outcome],
        units: Sequence[Unit],
        *,
        progress: Progress,
        keep: Callable[[Unit, Outcome], None],
    ) -> None:
        """See :class:`Engine`."""
        if units:
            Crew(None, partial(_without_lab, work), jobs=self.jobs, progress=progress, keep=keep).do(units)


def _without_lab(work: Work[Unit, Outcome], lab: object, unit: Unit, progress: Progress) -> Outcome:
    return work(unit, progress)


@dataclass(frozen=True)
class RayTasks:
    """A Ray cluster: a task for each unit, begun again elsewhere where its process dies.

    Attributes:
        address: Of the cluster, see :func:`aladdin_agents.scale_out.cluster.connected`.
        jobs: Most tasks at a time; None: as many as the cluster has CPUs.
    """

    address: str
    jobs: int | None = None

    def do(
        self,
        work: Work[Unit, Outcome],
        units: Sequence[Unit],
        *,
        progress: Progress,
        keep: Callable[[Unit, Outcome], None],
    ) -> None:
        """See :class:`Engine`."""
        if not units:
            return
        with connected(self.address) as ray:
            task = ray.remote(num_cpus=1, max_retries=RETRIES)(_do_there)
            origin, left = Origin.here(), deque(units)
            given: dict[Any, Unit] = {}
            while left or given:
                while left and len(given) < (self.jobs or len(units)):
                    unit = left.popleft()
                    given[task.remote(origin, work, unit)] = unit
                for done in _next_done(ray, list(given)):
                    unit = given.pop(done)
                    with plain_faults(ray, str(unit)):
                        outcome = ray.get(done)
                    keep(unit, outcome)
                progress(len(units) - len(left) - len(given))


def _next_done(ray: Any, tasks: list[Any]) -> list[Any]:
    """Those that have ended; waits for the first."""
    ray.wait(tasks, num_returns=1)
    done: list[Any] = ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]
    return done


def _do_there(origin: Origin, work: Work[Unit, Outcome], unit: Unit) -> Outcome:
    """In a process of the cluster."""
    origin.settle()
    return work(unit, lambda part: None)


def engine_of(ray: str | None, jobs: int | None) -> Engine:
    """What ``--ray`` and ``--jobs`` ask for."""
    return LocalProcesses(jobs) if ray is None else RayTasks(ray, jobs)
