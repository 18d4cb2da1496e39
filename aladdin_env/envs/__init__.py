"""The cluster as Gymnasium environments: single, vectorised, and (:mod:`aladdin_env.envs.sb3`) for learners of SB3."""

from typing import TYPE_CHECKING, Any

from aladdin_env.envs.registration import register_envs

if TYPE_CHECKING:
    from aladdin_env.envs.joint import JointEnv, JointVectorEnv
    from aladdin_env.envs.placement import PlacementEnv, PlacementVectorEnv
    from aladdin_env.envs.scaling import ScalingEnv, ScalingVectorEnv

__all__ = [
    "JointEnv",
    "JointVectorEnv",
    "PlacementEnv",
    "PlacementVectorEnv",
    "ScalingEnv",
    "ScalingVectorEnv",
    "register_envs",
]

_MODULES = {"Joint": "joint", "Placement": "placement", "Scaling": "scaling"}


def __getattr__(name: str) -> Any:
    """The environment classes, imported when asked for: they bring the compiled simulator with them."""
    if name in __all__:
        from importlib import import_module

        module = _MODULES[name.removesuffix("VectorEnv").removesuffix("Env")]
        return getattr(import_module(f"aladdin_env.envs.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
