"""Fitting a generated workload to a trace: its shape can then be shared without its data."""

from aladdin_traces.fitting.fidelity import Fidelity, compare
from aladdin_traces.fitting.fit import Fit, fit_workload

__all__ = ["Fidelity", "Fit", "compare", "fit_workload"]
