"""``aladdin/Scaling-v0``: start and stop workers at each heartbeat."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, Unpack

from gymnasium.utils import EzPickle

from aladdin_env.envs.base import ClusterEnv
from aladdin_env.envs.engine import ProfileSampler, ScenarioSampler, Setup
from aladdin_env.envs.spaces import Task
from aladdin_env.envs.vector import ClusterVectorEnv
from aladdin_env.scenario import Scenario

DEFAULT_SCENARIO = "short-day"


class ScalingOptions(TypedDict, total=False):
    """Keyword arguments of :class:`ScalingEnv`."""

    policy: str | object
    max_change: int
    drain: bool
    scenario_sampler: ScenarioSampler | None
    profile_sampler: ProfileSampler | None


def scaling_setup(
    scenario: Scenario | str | Path,
    *,
    policy: str | object = "aladdin",
    max_change: int = 2,
    drain: bool = True,
    scenario_sampler: ScenarioSampler | None = None,
    profile_sampler: ProfileSampler | None = None,
) -> Setup:
    """The agent scales; a policy places."""
    return Setup(
        scenario,
        Task(places=False, scales=True, max_change=max_change),
        placement=policy,
        drain=drain,
        scenario_sampler=scenario_sampler,
        profile_sampler=profile_sampler,
    )


class ScalingEnv(ClusterEnv):
    """Start and stop workers of an LLM-serving cluster, at each heartbeat.

    ## Description
    Demand changes; a worker takes a cold start to become ready and costs money from the moment it is started. A policy
    inside places the requests. The agent decides how many workers of each type run: too few and SLOs are missed minutes
    later, too many and GPUs idle.

    ## Action space
    ``Discrete(1 + types x 2 x max_change)``. 0: no change. Then for each worker type, in the fleet's order, the changes
    -max_change .. -1, +1 .. +max_change of the workers that are READY, STARTING or FAILED. Workers to be stopped drain
    first. Allowed is what the type's minimum and maximum and the fleet's ``max_gpus`` permit in full; 0 always.

    Only what ``mask`` allows may be chosen; anything else raises an ``InputError`` and changes nothing.
    ``action_space.sample()`` draws among the allowed actions.

    ## Observation space
    As in ``aladdin/Placement-v0``, with no request at hand: ``request`` is 0, and the worker features that concern it
    leave it out.

    ## Reward
    Minus the cost of GPU time, minus weighted SLO misses, from one heartbeat to the next; the first reward counts from
    time 0. Weights in the scenario's ``reward``; the rewards of an episode sum to the summary's totals.

    ## Starting state
    The first heartbeat of an episode drawn from the scenario.

    ## Episode end
    As in ``aladdin/Placement-v0``; heartbeats go on until the last request has ended.

    ## Arguments
    ```python
    gymnasium.make("aladdin/Scaling-v0", scenario="short-day", policy="aladdin", max_change=2)
    ```
    - ``scenario``: a preset's name, the path of a TOML file, or a ``Scenario``.
    - ``policy``: places the requests: a registered name, a compiled ``Kernel`` (fast), or an object with ``place``.
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
        **options: Unpack[ScalingOptions],
    ) -> None:
        EzPickle.__init__(self, scenario, render_mode=render_mode, **options)
        super().__init__(scaling_setup(scenario, **options), render_mode)


class ScalingVectorEnv(ClusterVectorEnv):
    """Many :class:`ScalingEnv` in one compiled call; ``gymnasium.make_vec("aladdin/Scaling-v0", ...)``."""

    def __init__(
        self,
        num_envs: int = 1,
        scenario: Scenario | str | Path = DEFAULT_SCENARIO,
        *,
        render_mode: str | None = None,
        **options: Unpack[ScalingOptions],
    ) -> None:
        EzPickle.__init__(self, num_envs, scenario, render_mode=render_mode, **options)
        super().__init__(scaling_setup(scenario, **options), num_envs, render_mode)
