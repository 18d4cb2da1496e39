"""Steps per second of the environments: ``python -m experiments.bench.environments``."""

from experiments.bench import run

NAMES = ("vec_env_steps_per_s", "env_steps_per_s")

if __name__ == "__main__":
    run(NAMES)
