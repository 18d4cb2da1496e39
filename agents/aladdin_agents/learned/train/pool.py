"""Environments of several scenarios, of several fleets, as one ``VecEnv`` of Stable-Baselines3.

Each part is a native batch. Where their fleets differ in slots or worker types, observations are padded to the largest
(slots without a worker, types without a number) and ``frame`` says which fleet they are of, so that a network takes
each in its own size; actions are renumbered in the same way, and what a fleet lacks is masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from aladdin_agents.learned.advice import SIZE
from aladdin_agents.learned.shape import Shape
from aladdin_agents.learned.train.experts import Experts
from aladdin_env.envs.engine import Engine
from aladdin_env.envs.sb3 import SB3VecEnv
from aladdin_env.envs.spaces import Task
from aladdin_env.envs.step import COUNTERS
from aladdin_env.features import LIMIT, REQUEST_FEATURES, WORKER_FEATURES, cluster_size
from aladdin_env.policy import make_policy
from aladdin_env.scenario import Scenario

Observation = dict[str, NDArray[Any]]
#: Weights of the reward for an episode of a scenario, in the order of ``aladdin_env.reward.TERMS``.
Weigh = Callable[[Scenario], NDArray[np.float64]]


@dataclass(frozen=True, order=True)
class Frame:
    """The size of a fleet: worker slots and worker types."""

    slots: int
    types: int

    @classmethod
    def of(cls, scenario: Scenario) -> Frame:
        """That of a scenario's fleet."""
        return cls(scenario.fleet.slots, len(scenario.fleet.types))

    def actions(self, task: Task) -> int:
        """How many actions there are."""
        return Shape.of(task, self.types).actions(self.slots)


def numbering(task: Task, small: Frame, large: Frame) -> NDArray[np.int64]:
    """For each action on a fleet of the frame ``small`` its number on one of the frame ``large``."""
    shape = Shape.of(task, small.types)
    slots = np.arange(small.slots if task.places else 0)
    rest = np.arange(shape.others + shape.changes) + (large.slots if task.places else 0)
    return np.concatenate((slots, rest))


class _Part:
    """A native batch within the whole."""

    def __init__(self, envs: SB3VecEnv, task: Task, whole: Frame, frame: int, first: int, adviser: str) -> None:
        self.envs = envs
        self.engine: Engine = envs.native.engine
        advisers = partial(make_policy, adviser)
        self.advisers = Experts(self.engine, advisers, "network.adviser") if adviser else None
        self.here = slice(first, first + envs.num_envs)
        self.frame = frame
        own = Frame.of(self.engine.scenario)
        self.numbers = numbering(task, own, whole)
        self.native = np.full(whole.actions(task), -1, dtype=np.int64)
        self.native[self.numbers] = np.arange(len(self.numbers))

    def now_s(self) -> NDArray[np.float64]:
        """When the decision that is due in each environment is due, seconds since the start of its episode."""
        time_s: NDArray[np.float64] = self.engine.out.counters[COUNTERS.index("time_s")].copy()
        return time_s

    def begin(self, environments: Iterable[int]) -> None:
        """Episodes have begun in these environments."""
        if self.advisers is not None:
            for e in environments:
                self.advisers.begin(e)

    def put(self, given: Observation, out: Observation) -> None:
        """Copy observations of this part to their place in those of the whole; advice in the part's own numbers."""
        for name in ("workers", "request", "cluster"):
            array = given[name]
            out[name][self.here, : array.shape[1]] = array
        out["mask"][self.here, self.numbers] = given["mask"]
        if self.advisers is not None:
            out["advice"][self.here] = self.advisers.advice()
        if "frame" in out:
            out["frame"][self.here] = self.frame


class PooledVecEnv(VecEnv):
    """Native batches of one task, side by side.

    ``infos[e]["scenario"]`` of an episode that ends is its scenario's name; ``SB3VecEnv`` says what else is there.

    Args:
        parts: At least one; all of the same task.
        task: What the agent decides.
        names: Of all scenarios that episodes may have.
        adviser: Policy whose advice is part of the observations (``advice``); "": nobody's.

    Attributes:
        names: The same.
        scenario_index: For each environment which of them the last step was taken in.
        frames: The different sizes of their fleets, ascending; ``frame`` in an observation counts them.
        elapsed_s: Seconds from the last decision to this one in each environment; 0 where an episode has just begun.
    """

    def __init__(self, parts: Sequence[SB3VecEnv], task: Task, names: Sequence[str], adviser: str = "") -> None:
        own = [Frame.of(part.native.scenario) for part in parts]
        self.task = task
        self.names = tuple(dict.fromkeys(names))
        self._number = {name: i for i, name in enumerate(self.names)}
        self.frames = tuple(sorted(set(own)))
        self.whole = Frame(max(f.slots for f in own), max(f.types for f in own))
        firsts = np.cumsum([0, *(part.num_envs for part in parts)])
        self.parts = [
            _Part(part, task, self.whole, self.frames.index(frame), int(first), adviser)
            for part, frame, first in zip(parts, own, firsts[:-1], strict=True)
        ]
        self._weigh: Weigh | None = None
        space = spaces.Dict(self._boxes())
        super().__init__(int(firsts[-1]), space, spaces.Discrete(self.whole.actions(task)))
        self._actions: NDArray[np.int64] = np.zeros(self.num_envs, dtype=np.int64)
        self._masks = np.zeros((self.num_envs, self.whole.actions(task)), dtype=np.bool_)
        self.elapsed_s = np.zeros(self.num_envs)
        self.scenario_index = np.zeros(self.num_envs, dtype=np.int64)

    def _boxes(self) -> dict[str, spaces.Space[Any]]:
        sizes = {
            "workers": self.whole.slots * len(WORKER_FEATURES),
            "request": len(REQUEST_FEATURES),
            "cluster": cluster_size(self.whole.types),
        }
        boxes: dict[str, spaces.Space[Any]] = {
            name: spaces.Box(-LIMIT, LIMIT, (size,), np.float32) for name, size in sizes.items()
        }
        boxes["mask"] = spaces.MultiBinary(self.whole.actions(self.task))
        if self.parts[0].advisers is not None:
            boxes["advice"] = spaces.Box(-LIMIT, np.inf, (SIZE,), np.float32)
        if len(self.frames) > 1:
            boxes["frame"] = spaces.Box(0.0, len(self.frames) - 1.0, (1,), np.float32)
        return boxes

    # --- what training asks -----------------------------------------------------------------------------------------

    def weigh(self, weights: Weigh) -> None:
        """Reward by these weights from now on, in every environment."""
        self._weigh = weights
        for part in self.parts:
            self._weigh_some(part, range(part.envs.num_envs))

    def _weigh_some(self, part: _Part, environments: Iterable[int]) -> None:
        if self._weigh is not None:
            for e in environments:
                part.engine.rules.weights[e] = self._weigh(part.engine.scenarios[e])

    # --- VecEnv -----------------------------------------------------------------------------------------------------

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the environments for the next reset; each has a generator of its own, far from its neighbours."""
        self._seeds = [int(n) for n in np.random.SeedSequence(seed).generate_state(self.num_envs)]
        for part in self.parts:
            part.envs._seeds = self._seeds[part.here]
        return self._seeds

    def reset(self) -> Observation:
        """Begin an episode in every environment."""
        given = [part.envs.reset() for part in self.parts]
        self.elapsed_s[:] = 0.0
        self._reset_seeds()
        for part in self.parts:
            self._weigh_some(part, range(part.envs.num_envs))
            part.begin(range(part.envs.num_envs))
        return self._together(given)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions of the next :meth:`step_wait`."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(self) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One decision in every environment; an environment whose episode has ended begins the next one at once."""
        given: list[Observation] = []
        infos: list[dict[str, Any]] = []
        rewards, dones = np.zeros(self.num_envs, dtype=np.float32), np.zeros(self.num_envs, dtype=np.bool_)
        for part in self.parts:
            names = [scenario.name for scenario in part.engine.scenarios]
            self.scenario_index[part.here] = [self._number[name] for name in names]
            before_s = part.now_s()
            part.envs.step_async(part.native[self._actions[part.here]])
            observation, rewards[part.here], dones[part.here], told = part.envs.step_wait()
            self.elapsed_s[part.here] = np.where(dones[part.here], 0.0, part.now_s() - before_s)
            ended = np.flatnonzero(dones[part.here]).tolist()
            for e in ended:
                told[e]["scenario"] = names[e]
                del told[e]["terminal_observation"]  # no episode is truncated: nobody needs it
            self._weigh_some(part, ended)
            part.begin(ended)
            given.append(observation)
            infos += told
        return self._together(given), rewards, dones, infos

    def _together(self, given: Sequence[Observation]) -> Observation:
        if len(given) == 1:
            self._masks = given[0]["mask"].astype(np.bool_)
            advisers = self.parts[0].advisers
            return given[0] if advisers is None else given[0] | {"advice": advisers.advice().copy()}
        assert isinstance(self.observation_space, spaces.Dict)
        boxes = self.observation_space.spaces.items()
        out = {name: np.zeros((self.num_envs, *(box.shape or ())), box.dtype) for name, box in boxes}
        for part, observation in zip(self.parts, given, strict=True):
            part.put(observation, out)
        self._masks = np.asarray(out["mask"], dtype=np.bool_)
        return out

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions, (environments, actions)."""
        return self._masks

    def close(self) -> None:
        """Close the environments."""
        for part in self.parts:
            part.envs.close()

    def get_images(self) -> Sequence[None]:
        """None: nothing is rendered in training."""
        return [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute for each environment, the same for all of a part."""
        found = [value for part in self.parts for value in part.envs.get_attr(attr_name)]
        return [found[e] for e in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of all environments together."""
        for part in self.parts:
            part.envs.set_attr(attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """``action_masks`` of each environment."""
        if method_name != "action_masks":
            raise AttributeError(f"{method_name!r}: only action_masks can be called on single environments")
        return [self._masks[e] for e in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """As the parts say."""
        found = [wrapped for part in self.parts for wrapped in part.envs.env_is_wrapped(wrapper_class)]
        return [found[e] for e in self._get_indices(indices)]
