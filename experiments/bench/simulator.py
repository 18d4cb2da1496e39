"""Simulated requests per second: ``python -m experiments.bench.simulator``."""

from experiments.bench import run

NAMES = ("sim_rps_16", "sim_rps_256", "sim_chunked_rps_16", "aladdin_sim_rps_16", "result_rps_16")

if __name__ == "__main__":
    run(NAMES)
