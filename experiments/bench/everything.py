"""All benchmarks, one after the other: ``python -m experiments.bench.everything``."""

from aladdin_env.bench import figure_names
from experiments.bench import run

if __name__ == "__main__":  # one benchmark starts processes that import this module
    run(figure_names())
