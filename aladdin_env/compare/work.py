"""Units of work on one scenario, in this process or in several; the results are the same."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from aladdin_env.compare.contenders import Contender
from aladdin_env.errors import OutsideFault
from aladdin_env.scenario import Scenario
from aladdin_traces import Trace

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")
#: Told how many units are done (a fraction of the current one included).
Progress = Callable[[float], None]

_KEPT_REQUESTS = 4_000_000  # of drawn episodes, about 25 bytes each
_LOOK_EVERY_S = 0.5
_WORTH_A_POOL_S = 6.0  # starting processes and loading compiled code takes about 2 s


@dataclass(frozen=True)
class Run:
    """What a simulation left behind.

    Attributes:
        summary: The measures, see :func:`aladdin_env.metrics.summarise`.
        fleet: The fleet over time where it was asked for.
    """

    summary: dict[str, float]
    fleet: pd.DataFrame | None = None


class Lab:
    """Simulations of one scenario. Every policy meets the same drawn episodes (common random numbers)."""

    def __init__(self, scenario: Scenario) -> None:
        """Draw nothing yet."""
        self.scenario = scenario
        self._simulators: OrderedDict[tuple[int, tuple[int, ...] | None], Any] = OrderedDict()

    def run(
        self,
        contender: Contender,
        seed: int,
        counts: tuple[int, ...] | None = None,
        *,
        keep_fleet: bool = False,
        progress: Progress | None = None,
    ) -> Run:
        """Simulate; ``counts`` fixes the workers of each type."""
        simulator = self._simulator(seed, counts)
        result = simulator.run(contender.make(simulator.scenario), progress=progress)
        return Run(result.summary, result.fleet if keep_fleet else None)

    def trace(self, seed: int) -> Trace:
        """The requests of the episode that all policies meet under ``seed``."""
        drawn: Trace = self._simulator(seed, None).draws.trace
        return drawn

    def _simulator(self, seed: int, counts: tuple[int, ...] | None) -> Any:
        from aladdin_env.simulator.run import Simulator  # compiles on import

        key = (seed, counts)
        if key not in self._simulators:
            scenario = self.scenario if counts is None else self.scenario.with_workers(counts)
            self._simulators[key] = Simulator(scenario, seed)
        self._simulators.move_to_end(key)
        while len(self._simulators) > 1 and self._held() > _KEPT_REQUESTS:
            self._simulators.popitem(last=False)
        return self._simulators[key]

    def _held(self) -> int:
        return sum(len(simulator.draws.trace) for simulator in self._simulators.values())


Work = Callable[[Lab, Unit, Progress], Outcome]


class Crew(Generic[Unit, Outcome]):
    """Does ``work`` for many units.

    Args:
        scenario: What the lab of every process simulates; None: there is no lab, the work gets None for it.
        work: A function of a module, so that other processes find it.
        jobs: Processes; None uses several where that pays, 1 only this one.
        progress: Told how far the whole is.
        keep: Given each unit and its outcome as soon as it is done, in this process and in any order.
    """

    def __init__(
        self,
        scenario: Scenario | None,
        work: Work[Unit, Outcome],
        *,
        jobs: int | None = None,
        progress: Progress | None = None,
        keep: Callable[[Unit, Outcome], None] | None = None,
    ) -> None:
        self._scenario = scenario
        self._work = work
        self._jobs = jobs
        self._progress: Progress = progress or (lambda done: None)
        self._keep: Callable[[Unit, Outcome], None] = keep or (lambda unit, outcome: None)

    def do(self, units: Sequence[Unit]) -> list[Outcome]:
        """The outcomes, in the order of ``units``."""
        done: list[Outcome] = []
        if self._jobs is None or self._jobs == 1:
            done = self._do_here(units)
        rest = units[len(done) :]
        return done + (self._do_elsewhere(rest, len(done)) if rest else [])

    def _do_here(self, units: Sequence[Unit]) -> list[Outcome]:
        """All units, or with ``jobs`` open those up to the point where other processes are worth their start."""
        lab = _lab_of(self._scenario)
        done: list[Outcome] = []
        for i, unit in enumerate(units):
            start_s = time.perf_counter()
            done.append(self._work(lab, unit, lambda part, i=i: self._progress(i + part)))  # type: ignore[misc]
            self._keep(unit, done[-1])
            self._progress(i + 1)
            left_s = (time.perf_counter() - start_s) * (len(units) - i - 1)
            # the first unit also loads, or makes, the compiled code
            if self._jobs is None and i > 0 and left_s > _WORTH_A_POOL_S and usable_cpus() > 1:
                break
        return done

    def _do_elsewhere(self, units: Sequence[Unit], done: int) -> list[Outcome]:
        jobs = min(self._jobs or usable_cpus(), len(units))
        with _processes(jobs, self._scenario) as pool:
            with _interrupts_ignored():  # a child that is still starting would answer Ctrl-C with a traceback
                futures = {pool.submit(_do_unit, self._work, unit): unit for unit in units}
            self._watch(futures, done)
        return [future.result() for future in futures]

    def _watch(self, futures: Mapping[Future[Outcome], Unit], done: int) -> None:
        waiting = set(futures)
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ended:
                self._keep(futures[future], future.result())  # raises what the unit raised
            self._progress(done + len(futures) - len(waiting))


@contextmanager
def team(work: Callable[[Unit], Outcome], jobs: int) -> Iterator[Callable[[Sequence[Unit], Progress], list[Outcome]]]:
    """Processes that stay for many calls: gives a function that does units and returns the outcomes in their order.

    Args:
        work: A function of a module, or a partial one, so that other processes find it.
        jobs: Processes; 1: only this one.
    """
    if jobs == 1:
        yield partial(_do_in_turn, work)
        return
    with _processes(jobs, None) as pool:
        yield partial(_do_by_pool, pool, work)


def _do_in_turn(work: Callable[[Unit], Outcome], units: Sequence[Unit], progress: Progress) -> list[Outcome]:
    found = []
    for i, unit in enumerate(units):
        progress(i)
        found.append(work(unit))
    return found


def _do_by_pool(
    pool: ProcessPoolExecutor, work: Callable[[Unit], Outcome], units: Sequence[Unit], progress: Progress
) -> list[Outcome]:
    with _interrupts_ignored():
        futures = [pool.submit(work, unit) for unit in units]
    waiting = set(futures)
    while waiting:
        _, waiting = wait(waiting, timeout=_LOOK_EVERY_S, return_when=FIRST_COMPLETED)
        progress(len(futures) - len(waiting))
    return [future.result() for future in futures]


_lab: Any = None  # of a child process


def _lab_of(scenario: Scenario | None) -> Any:
    return None if scenario is None else Lab(scenario)


def _start_child(scenario: Scenario | None) -> None:
    global _lab
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    _lab = _lab_of(scenario)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Where the parent was killed nobody wants the results, and the pool would wait for more work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do_unit(work: Work[Unit, Outcome], unit: Unit) -> Outcome:
    return work(_lab, unit, lambda done: None)


@contextmanager
def _processes(jobs: int, scenario: Scenario | None) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes that ends at once when something goes wrong."""
    before = set(active_children())
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start_child, initargs=(scenario,))
    try:
        yield pool
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(active_children()) - before:
            child.terminate()
        if isinstance(error, BrokenProcessPool):
            raise OutsideFault("a process was killed, maybe for want of memory: give fewer --jobs") from error
        raise
    pool.shutdown()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Children started within ignore Ctrl-C from their first instant."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def mean_of(runs: Sequence[Run], measure: str) -> float:
    """Mean of a measure over runs."""
    return float(np.mean([run.summary[measure] for run in runs]))
