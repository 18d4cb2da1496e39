"""A batch of environments over one set of arrays; the single, the vector and the SB3 environment all run on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from aladdin_env.envs.guests import Guests
from aladdin_env.envs.spaces import Actions, Task, observation_sizes
from aladdin_env.envs.step import ACT, COUNTERS, NOBODY, RESUME, SKIP, Outputs, Rules, outputs, step_batch
from aladdin_env.errors import InputError
from aladdin_env.features import WORKER_FEATURES
from aladdin_env.latency import LatencyProfile
from aladdin_env.metrics import summarise
from aladdin_env.policy import Kernel
from aladdin_env.reward import TERMS, weights_row
from aladdin_env.scenario import Scenario, WorkerType
from aladdin_env.simulator.core import DONE, TIME
from aladdin_env.simulator.setup import Draws, Room, check, draw, load, one, shape_of, write_static
from aladdin_env.simulator.state import World, allocate
from aladdin_env.view import ClusterView

ScenarioSampler = Callable[[np.random.Generator], Scenario]
ProfileSampler = Callable[[np.random.Generator, WorkerType], LatencyProfile]

#: Fields of ``info`` at every step, cumulative since the start of the episode.
INFO = (*COUNTERS, *TERMS)
#: Measures that ``info`` carries as plain numbers at the end of an episode, for loggers such as SB3's ``Monitor``.
HEADLINES = ("slo_attainment", "goodput_rps", "gpu_hours", "gpus_mean", "ttft_p99_s", "atgt_p99_s")
_GROWTH = 1.25


@dataclass(frozen=True)
class Setup:
    """What an environment is made of.

    Attributes:
        scenario: A scenario, the name of a preset, or the path of a TOML file.
        task: What the agent decides.
        placement: Policy that places where the agent does not: name or object.
        scaler: Policy that scales where the agent does not: name, object, or None for a fixed fleet.
        drain: An episode runs until its last request has ended; otherwise it is cut at the horizon.
        scenario_sampler: Draws a scenario of the same shape for each episode.
        profile_sampler: Draws a latency profile for each worker type and episode.
    """

    scenario: Scenario | str | Path
    task: Task
    placement: str | object | None = None
    scaler: str | object | None = None
    drain: bool = True
    scenario_sampler: ScenarioSampler | None = None
    profile_sampler: ProfileSampler | None = None


def load_scenario(source: Scenario | str | Path) -> Scenario:
    """The scenario itself, a preset by name, or a TOML file."""
    if isinstance(source, Scenario):
        return source
    from aladdin_env import presets

    return presets.load_scenario(source)


def _frame(scenario: Scenario) -> tuple[Any, ...]:
    """What scenarios of one environment must have in common: the size of every array but those of requests."""
    shape = shape_of(scenario, Room(1, 1), 1, False)
    types = [(kind.name, kind.maximum) for kind in scenario.fleet.types]
    return (types, scenario.fleet.is_split, shape.row, shape.max_num_seqs, shape.block_size)


class Engine:
    """Environments ``0 .. n-1`` of one :class:`Setup`, advanced together by compiled code.

    Attributes:
        out: Rewards, observations and masks after a step (arrays that the next step overwrites).
        actions: Numbering of the actions.
        scenarios: The scenario of each environment's current episode.
    """

    def __init__(self, setup: Setup, environments: int = 1) -> None:
        if environments < 1:
            raise InputError("num_envs", environments, "give 1 or more")
        self.setup = setup
        self.scenario = load_scenario(setup.scenario)
        self.environments = environments
        self.actions = Actions.of(setup.task, self.scenario)
        self.scenarios = [self.scenario] * environments
        self.guests = [Guests.invite(setup.placement, setup.scaler, self.scenario) for _ in range(environments)]
        first = self.guests[0]
        self._kernel: Kernel = first.kernel or NOBODY
        self._use_kernel = first.kernel is not None
        self._progress = first.kernel.needs_progress if first.kernel else not setup.task.places
        self._serves = first.needs_python
        self._listens = first.listens
        sizes = observation_sizes(self.scenario)
        self.out: Outputs = outputs(
            environments, self.scenario.fleet.slots, self.actions.size,
            (len(WORKER_FEATURES), sizes["request"], sizes["cluster"]),
        )  # fmt: skip
        self.rules = Rules(
            changes=self.actions.changes,
            weights=np.zeros((environments, 4)),
            until_s=np.full(environments, np.inf),
            horizon_s=np.full(environments, np.inf),
            places=np.array([setup.task.places], dtype=np.int8),
            holds=np.array([self.actions.holds], dtype=np.int8),
            rejects=np.array([self.actions.rejects], dtype=np.int8),
        )
        self._totals = np.zeros(environments, dtype=np.int64)
        self._written: list[Scenario | None] = [None] * environments
        self._allocate(Room(1, 1))
        self._step = self._compiled_step()

    # --- arrays ---------------------------------------------------------------------------------------------------

    def _allocate(self, room: Room) -> None:
        shape = shape_of(self.scenario, room, len(self._kernel.memory), self._listens)
        self._room = room
        self._take(allocate(self.environments, shape))
        self._written = [None] * self.environments

    def _take(self, batch: World) -> None:
        self.batch = batch
        self.worlds = [one(batch, e) for e in range(self.environments)]
        self._views: dict[int, ClusterView] = {}

    def _fit(self, needed: Room) -> None:
        """Make room for an episode; what other environments are in the middle of is kept."""
        if all(need <= has for need, has in zip(needed, self._room, strict=True)):
            return
        old = self.batch
        room = Room(*(max(has, math.ceil(_GROWTH * need)) for need, has in zip(needed, self._room, strict=True)))
        written = self._written
        self._allocate(room)
        for name, before in old._asdict().items():
            getattr(self.batch, name)[tuple(slice(0, n) for n in before.shape)] = before
        self.batch.failures["time_s"][:, old.failures.shape[1] :] = np.inf
        self._written = written

    def _compiled_step(self) -> Callable[..., int]:
        """The machine code for these arguments: without the dispatcher a call takes a quarter of the time."""
        arguments = self._arguments(np.zeros(self.environments, dtype=np.int64))
        step_batch(*arguments)  # nothing to do yet, but it compiles or loads
        dispatcher: Any = step_batch
        compiled = dispatcher.overloads[tuple(numba.typeof(argument) for argument in arguments)]
        entry: Callable[..., int] = compiled.entry_point
        return entry

    def _arguments(self, actions: NDArray[np.int64]) -> tuple[Any, ...]:
        kernel = self._kernel.function
        return self.batch, self.rules, self.out, actions, kernel, self._use_kernel, self._progress

    # --- episodes -------------------------------------------------------------------------------------------------

    def begin(
        self, environments: Sequence[int], rngs: Sequence[np.random.Generator], draws: Draws | None = None
    ) -> None:
        """Start new episodes, drawn from ``rngs`` (or the given ``draws``), and run them to their first decision."""
        for e, rng in zip(environments, rngs, strict=True):
            self._load(e, rng, draws)
        self._run(np.zeros(self.environments, dtype=np.int64))
        self.out.booked[list(environments)] = 0.0  # what there was before the first decision counts to its reward
        for e in environments:
            if self.over(e):
                self.out.todo[:] = SKIP
                mend = "it ends before a first decision: give initial workers, and requests for more than a heartbeat"
                raise InputError("scenario", self.scenarios[e].name, mend)

    def _load(self, e: int, rng: np.random.Generator, draws: Draws | None) -> None:
        scenario = self._sample_scenario(rng)
        drawn = draws if draws is not None else draw(scenario, rng)
        trace = drawn.trace
        check(scenario, trace)
        self._fit(Room.of(scenario, drawn))
        if self.scenarios[e] is not scenario:
            self.scenarios[e] = scenario
            self._views.pop(e, None)
            self._refresh_guests(e)
        guests, world = self.guests[e], self.worlds[e]
        if self._written[e] is not scenario:
            write_static(world, scenario)
            self._written[e] = scenario
        world.control[0]["log_on"] = self._listens
        world.control[0]["beat_returns"] = self.setup.task.scales or guests.scaler is not None
        memory = guests.kernel.memory if guests.kernel else np.zeros(0)
        load(world, scenario, drawn, memory)
        horizon_s = scenario.horizon_s if scenario.horizon_s is not None else float(trace.arrival_s[-1])
        self.rules.weights[e] = weights_row(scenario.reward)
        self.rules.horizon_s[e] = horizon_s
        self.rules.until_s[e] = np.inf if self.setup.drain else horizon_s
        self.out.booked[e] = 0.0
        self.out.todo[e] = RESUME
        self._totals[e] = len(trace)
        guests.reset(scenario)

    def _sample_scenario(self, rng: np.random.Generator) -> Scenario:
        scenario = self.scenario
        if self.setup.scenario_sampler is not None:
            scenario = self.setup.scenario_sampler(rng)
            if _frame(scenario) != _frame(self.scenario):
                mend = "let it keep worker types, maxima, max_num_seqs and block_size of the environment's scenario"
                raise InputError("scenario_sampler", scenario.name, mend)
        if self.setup.profile_sampler is not None:
            sampler = self.setup.profile_sampler
            types = tuple(replace(kind, profile=sampler(rng, kind)) for kind in scenario.fleet.types)
            scenario = replace(scenario, fleet=replace(scenario.fleet, types=types))
        return scenario

    def _refresh_guests(self, e: int) -> None:
        """Policies named by the user are made for the scenario they act in; objects stay as they are."""
        guests, setup = self.guests[e], self.setup
        made = Guests.invite(setup.placement, setup.scaler, self.scenarios[e])
        if isinstance(setup.placement, str):
            guests.placement = made.placement
        if isinstance(setup.scaler, str):
            guests.scaler = made.scaler

    # --- steps ----------------------------------------------------------------------------------------------------

    def step(self, actions: NDArray[np.int64]) -> None:
        """Apply an action in every environment and run each to its next decision or its end.

        Raises:
            InputError: an action that its mask forbids (nothing has been changed then), or an episode that is over.
        """
        self.out.todo[:] = ACT
        self._run(actions)

    def _run(self, actions: NDArray[np.int64]) -> None:
        bad = self._step(*self._arguments(actions))
        if bad >= 0:
            self.out.todo[:] = SKIP
            raise self._forbidden(bad, int(actions[bad]))
        if self._serves or self._listens:
            self._serve(actions)

    def _serve(self, actions: NDArray[np.int64]) -> None:
        """Let the policies inside decide until no environment waits for them."""
        while (waiting := np.flatnonzero(self.out.todo == RESUME)).size:
            for e in waiting.tolist():
                self.guests[e].serve(int(self.out.reason[e]), self.worlds[e], self.view(e))
            self._step(*self._arguments(actions))
        for e in range(self.environments) if self._listens else ():
            if self.over(e):
                self.guests[e].hear(self.worlds[e], self.view(e))

    def _forbidden(self, e: int, action: int) -> InputError:
        allowed = np.flatnonzero(self.out.mask[e]).tolist()
        shown = ", ".join(map(str, allowed[:24])) + (", ..." if len(allowed) > 24 else "")
        where = f" of environment {e}" if self.environments > 1 else ""
        exists = 0 <= action < self.actions.size
        why = f"{self.actions.name(action)} is not allowed now" if exists else "there is no such action"
        return InputError(f"action{where}", action, f"{why}; allowed: {shown}")

    # --- what people and learners ask ----------------------------------------------------------------------------

    def over(self, e: int) -> bool:
        """Whether the episode of environment ``e`` has ended."""
        return bool(self.out.reason[e] in (DONE, TIME))

    def view(self, e: int) -> ClusterView:
        """A read-only view of environment ``e``."""
        if e not in self._views:
            self._views[e] = ClusterView(self.worlds[e], self.scenarios[e])
        return self._views[e]

    def info(self, e: int) -> dict[str, Any]:
        """What ``info`` of environment ``e`` carries at every step."""
        found: dict[str, Any] = dict(zip(INFO, self.out.counters[:, e].tolist(), strict=True))
        found["action_mask"] = self.out.mask[e].copy()
        return found

    def infos(self) -> dict[str, NDArray[Any]]:
        """The same for all environments: an array for each field."""
        found: dict[str, NDArray[Any]] = dict(zip(INFO, self.out.counters.copy(), strict=True))
        found["action_mask"] = self.out.mask.copy()
        return found

    def summary(self, e: int) -> dict[str, float]:
        """The measures of the episode of environment ``e`` so far."""
        return summarise(self.worlds[e], int(self._totals[e]), self.scenarios[e])

    def final_info(self, e: int) -> dict[str, Any]:
        """The last ``info`` of an episode: the summary too, and its headlines as plain numbers."""
        summary = self.summary(e)
        return {**self.info(e), "summary": summary, **{name: float(summary[name]) for name in HEADLINES}}
