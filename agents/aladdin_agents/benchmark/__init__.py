"""The benchmark: named scenarios, results as rows that anyone can run again, tables (docs/benchmark.md)."""

from aladdin_agents.benchmark.scenarios import BENCHMARK, SPLITS, TARGET, TASKS, Case, case_of, cases
from aladdin_agents.benchmark.training import TrainingGroup, TrainingSampler, training_groups, training_sampler

__all__ = [
    "BENCHMARK",
    "SPLITS",
    "TARGET",
    "TASKS",
    "Case",
    "TrainingGroup",
    "TrainingSampler",
    "case_of",
    "cases",
    "training_groups",
    "training_sampler",
]
