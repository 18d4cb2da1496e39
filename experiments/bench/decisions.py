"""Time of one placement decision: ``python -m experiments.bench.decisions``."""

from experiments.bench import run

NAMES = ("aladdin_decision_us_16", "aladdin_decision_us_256")

if __name__ == "__main__":
    run(NAMES)
