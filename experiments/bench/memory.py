"""Memory per simulated request: ``python -m experiments.bench.memory``."""

from experiments.bench import run

NAMES = ("bytes_per_request",)

if __name__ == "__main__":
    run(NAMES)
