"""``aladdin/Placement-v0``: choose a worker for each request."""

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


class PlacementOptions(TypedDict, total=False):
    """Keyword arguments of :class:`PlacementEnv`."""

    allow_hold: bool
    allow_reject: bool
    scaler: str | object | None
    drain: bool
    scenario_sampler: ScenarioSampler | None
    profile_sampler: ProfileSampler | None


def placement_setup(
    scenario: Scenario | str | Path,
    *,
    allow_hold: bool = False,
    allow_reject: bool = False,
    scaler: str | object | None = None,
    drain: bool = True,
    scenario_sampler: ScenarioSampler | None = None,
    profile_sampler: ProfileSampler | None = None,
) -> Setup:
    """The agent places; the fleet is fixed or scaled by a policy."""
    return Setup(
        scenario,
        Task(places=True, scales=False, holds=allow_hold, rejects=allow_reject),
        scaler=scaler,
        drain=drain,
        scenario_sampler=scenario_sampler,
        profile_sampler=profile_sampler,
    )


class PlacementEnv(ClusterEnv):
    """Choose a worker for each request of an LLM-serving cluster.

    ## Description
    Requests arrive at a router in front of workers that do continuous batching. Each is to be put on one of them, at
    once and for good, so that its first token (TTFT) and its pace (ATGT) are within the objectives of its class. A
    worker that is filled too far is late for all its requests.

    ## Action space
    ``Discrete(slots)``: the worker slot. With ``allow_hold`` it is ``Discrete(slots + 1)``, and the last action leaves
    the request in the router's queue: it is offered again when a request has left a worker, a worker has become
    ready, or a heartbeat has passed, and rejected after the scenario's ``max_hold_s``. With ``allow_reject`` there is
    one more action, behind these: the request is turned away at once, which counts as unserved. Under a split fleet a
    request is placed twice, on a prefill and then on a decode worker. A request that no worker may take is held without
    a step.

    Only what ``mask`` allows may be chosen; anything else raises an ``InputError`` and changes nothing.
    ``action_space.sample()`` draws among the allowed actions.

    ## Observation space
    ``Dict`` of float32 arrays in [-10, 10] and the mask. Every feature, its meaning and its scale: docs/environments.md
    and ``aladdin_env.features``.

    | key | shape | content |
    |---|---|---|
    | ``workers`` | (slots x 24,) | the table of worker features for the request at hand, row after row |
    | ``request`` | (10,) | the request at hand |
    | ``cluster`` | (24 + 5 x types,) | rates, attainment, time, workers by status and by type |
    | ``mask`` | (actions,) int8 | 1: allowed now. Also ``info["action_mask"]`` and ``action_masks()`` |

    ## Reward
    Minus the cost of GPU time, minus weighted SLO misses, from one decision to the next; weights in the scenario's
    ``reward``. The rewards of an episode sum to the summary's totals (see ``aladdin_env.reward``).

    ## Starting state
    The first decision of an episode drawn from the scenario: ``initial`` workers of each type are READY and idle.

    ## Episode end
    ``terminated`` when every request has ended, those in flight at the horizon included: nothing that the agent has
    decided is left without its reward, and the observation says how near the horizon is. With ``drain=False`` the
    episode is ``truncated`` at the scenario's horizon instead. The last ``info`` has the ``summary``.

    ## Arguments
    ```python
    gymnasium.make("aladdin/Placement-v0", scenario="sharegpt-poisson", allow_hold=False, scaler=None)
    ```
    - ``scenario``: a preset's name, the path of a TOML file, or a ``Scenario``.
    - ``allow_hold``: whether HOLD is an action.
    - ``allow_reject``: whether REJECT is an action.
    - ``scaler``: the policy that scales the fleet, by name or as an object with ``scale(view)``; None: a fixed fleet.
    - ``drain``: run to the end of the last request (see Episode end).
    - ``scenario_sampler``: ``f(rng) -> Scenario``, drawn anew for each episode (same worker types and maxima).
    - ``profile_sampler``: ``f(rng, worker_type) -> LatencyProfile``, drawn anew for each type and episode.
    - ``render_mode``: "ansi", "rgb_array" or "human".

    ## Version history
    - v0: first release, ``OBSERVATION_VERSION`` 1.
    """

    def __init__(
        self,
        scenario: Scenario | str | Path = DEFAULT_SCENARIO,
        *,
        render_mode: str | None = None,
        **options: Unpack[PlacementOptions],
    ) -> None:
        EzPickle.__init__(self, scenario, render_mode=render_mode, **options)
        super().__init__(placement_setup(scenario, **options), render_mode)


class PlacementVectorEnv(ClusterVectorEnv):
    """Many :class:`PlacementEnv` in one compiled call; ``gymnasium.make_vec("aladdin/Placement-v0", ...)``."""

    def __init__(
        self,
        num_envs: int = 1,
        scenario: Scenario | str | Path = DEFAULT_SCENARIO,
        *,
        render_mode: str | None = None,
        **options: Unpack[PlacementOptions],
    ) -> None:
        EzPickle.__init__(self, num_envs, scenario, render_mode=render_mode, **options)
        super().__init__(placement_setup(scenario, **options), num_envs, render_mode)
