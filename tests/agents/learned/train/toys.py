"""Small scenarios of which the best policy is known, and runs that are over in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aladdin_agents.learned.train.config import Config, config_from
from aladdin_env.scenario import SLO, ColdStart, Fleet, Scenario, WorkerType
from aladdin_env.scenario_file import write_scenario
from aladdin_traces import FixedLengths, Poisson, Workload

FAST, USELESS = "llama-3.1-8b-h100-tp1", "llama-2-13b-a100-tp1"  # decode steps of 6 and of 22 ms
COLD = ColdStart(2.0, 0.3, "uniform")


def load(rate: float = 10.0, lengths: FixedLengths = FixedLengths(200, 20)) -> Workload:  # noqa: B008, it is frozen
    return Workload.generated(Poisson(rate), lengths)


def one_useless() -> Scenario:
    """Two workers, of which the first misses the pace of every request: the best is never to choose it."""
    kinds = tuple(
        WorkerType(name, profile, initial=1, minimum=1, maximum=1, cold_start=COLD)
        for name, profile in (("useless", USELESS), ("fast", FAST))
    )
    return Scenario("one-useless", load(), Fleet(kinds), SLO(1.0, 0.015), horizon_s=20.0, heartbeat_s=5.0)


def too_many() -> Scenario:
    """Four workers where one would do: the best is to let go of three at once."""
    kind = WorkerType("fast", FAST, initial=4, minimum=1, maximum=4, cold_start=COLD)
    return Scenario("too-many", load(4.0), Fleet((kind,)), SLO(1.0, 0.03), horizon_s=60.0, heartbeat_s=2.0)


def elastic(**changes: object) -> Scenario:
    """Two types, some failures of prediction, a little of everything."""
    kinds = (
        WorkerType("a", FAST, initial=2, minimum=1, maximum=3, cold_start=COLD),
        WorkerType("b", USELESS, initial=1, minimum=0, maximum=2, cold_start=COLD, price_per_gpu_hour=1.0),
    )
    whole = Scenario("elastic", load(12.0), Fleet(kinds), SLO(1.0, 0.03), horizon_s=20.0, heartbeat_s=2.0)
    return replace(whole, **changes)  # type: ignore[arg-type]


def written(scenario: Scenario, folder: Path) -> str:
    """The scenario's file."""
    path = folder / f"{scenario.name}.toml"
    write_scenario(scenario, path)
    return str(path)


def events(folder: Path) -> EventAccumulator:
    """The event files of a run, read."""
    found = EventAccumulator(str(folder / "tb"), size_guidance={"images": 0, "histograms": 0, "scalars": 0})
    found.Reload()
    return found


def small(task: str, scenario: str, **tables: object) -> Config:
    """A run of a few updates; ``tables`` are laid over it."""
    whole: dict[str, object] = {
        "task": task,
        "scenarios": [scenario],
        "steps": 1024,
        "checkpoint_every": 512,
        "network": {"hidden": 8},
        "environment": {"envs": 8, "horizon_s": 0.0, "randomise": 0.0},
        "learner": {"n_steps": 32, "batch_size": 128, "epochs": 2, "target_kl": 0.0},
        "imitation": {"steps": 0},
        "curriculum": {"low": 1.0, "start": 1.0, "full": 1.0},
        "validation": {"every": 512, "seeds": 1, "pictures": 0},
    }
    for name, table in tables.items():
        before = whole.get(name)
        whole[name] = {**before, **table} if isinstance(before, dict) and isinstance(table, dict) else table
    return config_from(whole)
