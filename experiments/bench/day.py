"""Seconds for a simulated day: ``python -m experiments.bench.day``."""

from experiments.bench import run

NAMES = ("day_s",)

if __name__ == "__main__":
    run(NAMES)
