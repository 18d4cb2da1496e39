"""How fast the simulator is on this machine, with exact definitions of what is timed."""

from aladdin_env.bench.report import FIGURES, Figure, figure_names, run_bench

__all__ = ["FIGURES", "Figure", "figure_names", "run_bench"]
