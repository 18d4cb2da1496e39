"""``aladdin/Joint-v0``: place every request and scale the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, Unpack

from gymnasium.utils import EzPickle

from aladdin_env.envs.base import ClusterEnv
from aladdin_env.envs.engine import ProfileSampler, ScenarioSampler, Setup
from aladdin_env.envs.spaces import Task
from aladdin_env.envs.vector import ClusterVectorEnv
from aladdin_env.scenario import Scenario

DEFAULT_SCENARIO = "sharegpt-poisson"


class JointOptions(TypedDict, total=False):
    """Keyword arguments of :class:`JointEnv`."""

    allow_hold: bool
    allow_reject: bool
    max_change: int
    drain: bool
    scenario_sampler: ScenarioSampler | None
    profile_sampler: ProfileSampler | None


def joint_setup(
    scenario: Scenario | str | Path,
    *,
    allow_hold: bool = False,
    allow_reject: bool = False,
    max_change: int = 2,
    drain: bool = True,
    scenario_sampler: ScenarioSampler | None = None,
    profile_sampler: ProfileSampler | None = None,
) -> Setup:
    """The agent places and scales."""
    return Setup(
        scenario,
        Task(places=True, scales=True, holds=allow_hold, rejects=allow_reject, max_change=max_change),
        drain=drain,
        scenario_sampler=scenario_sampler,
        profile_sampler=profile_sampler,
    )


class JointEnv(ClusterEnv):
    """Place every request and scale the fleet of an LLM-serving cluster: the problem of the Aladdin paper.

    ## Description
    Each step is the next decision of either kind: a placement (as in ``aladdin/Placement-v0``) when a request is to be
    put on a worker, a scaling (as in ``aladdin/Scaling-v0``) at each heartbeat. Nothing is decided by a policy inside.

    ## Action space
    One ``Discrete(slots [+ 1] [+ 1] + 1 + types x 2 x max_change)``: the slots, HOLD with ``allow_hold``, REJECT with
    ``allow_reject``, then "no change" and the changes of the fleet. ``mask`` allows only the half that is asked for;
    ``cluster``'s first feature says which it is.

    Only what ``mask`` allows may be chosen; anything else raises an ``InputError`` and changes nothing.
    ``action_space.sample()`` draws among the allowed actions.

    ## Observation space
    As in ``aladdin/Placement-v0``; at a scaling decision ``request`` is 0.

    ## Reward, starting state, episode end
    As in ``aladdin/Placement-v0``.

    ## Arguments
    ```python
    gymnasium.make("aladdin/Joint-v0", scenario="sharegpt-poisson", allow_hold=False, max_change=2)
    ```
    - ``scenario``: a preset's name, the path of a TOML file, or a ``Scenario``.
    - ``allow_hold``: whether HOLD is an action.
    - ``allow_reject``: whether REJECT is an action.
    - ``max_change``: most workers of a type to start or stop at one heartbeat.
    - ``drain``, ``scenario_sampler``, ``profile_sampler``, ``render_mode``: as in ``aladdin/Placement-v0``.

    ## Version history
    - v0: first release, ``OBSERVATION_VERSION`` 1.
    """

    def __init__(
        self,
        scenario: Scenario | str | Path = DEFAULT_SCENARIO,
        *,
        render_mode: str | None = None,
        **options: Unpack[JointOptions],
    ) -> None:
        EzPickle.__init__(self, scenario, render_mode=render_mode, **options)
        super().__init__(joint_setup(scenario, **options), render_mode)


class JointVectorEnv(ClusterVectorEnv):
    """Many :class:`JointEnv` in one compiled call; ``gymnasium.make_vec("aladdin/Joint-v0", ...)``."""

    def __init__(
        self,
        num_envs: int = 1,
        scenario: Scenario | str | Path = DEFAULT_SCENARIO,
        *,
        render_mode: str | None = None,
        **options: Unpack[JointOptions],
    ) -> None:
        EzPickle.__init__(self, num_envs, scenario, render_mode=render_mode, **options)
        super().__init__(joint_setup(scenario, **options), num_envs, render_mode)
