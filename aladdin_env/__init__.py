"""aladdin-env: a calibrated LLM-serving cluster as a Gymnasium environment."""

from aladdin_env.envs.registration import register_envs
from aladdin_env.errors import InputError
from aladdin_env.latency import LatencyProfile, load_profile, profile_names
from aladdin_env.scenario import SLO, Fleet, Scenario, WorkerType
from aladdin_traces import Trace, Workload

__all__ = [
    "SLO",
    "Fleet",
    "InputError",
    "LatencyProfile",
    "Scenario",
    "Trace",
    "WorkerType",
    "Workload",
    "load_profile",
    "profile_names",
]

register_envs()
