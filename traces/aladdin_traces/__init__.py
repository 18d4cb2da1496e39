"""Workloads of LLM serving: recorded traces, arrival processes and length laws.

This package imports no other package of the project.
"""

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.arrivals import ARRIVALS, Flood, GammaRenewal, OnOff, Poisson
from aladdin_traces.diurnal import PROFILES, Diurnal
from aladdin_traces.errors import InputError, inside, suggest
from aladdin_traces.lengths import (
    BucketedLengths,
    EmpiricalQuantiles,
    FixedLengths,
    IndependentLengths,
    LengthLaw,
    LognormalMixture,
    TokenLaw,
)
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.presets import LENGTHS
from aladdin_traces.readers import READERS, Reader, read_trace, register_reader, write_trace
from aladdin_traces.source import Source
from aladdin_traces.stats import gap_cv, index_of_dispersion
from aladdin_traces.trace import SLO_CLASSES, Trace
from aladdin_traces.workload import Workload

__all__ = [
    "ARRIVALS",
    "LENGTHS",
    "PROFILES",
    "READERS",
    "SLO_CLASSES",
    "ArrivalProcess",
    "BucketedLengths",
    "Diurnal",
    "EmpiricalQuantiles",
    "FixedLengths",
    "Flood",
    "GammaRenewal",
    "IndependentLengths",
    "InputError",
    "LengthLaw",
    "LognormalMixture",
    "OnOff",
    "Poisson",
    "PrefixBlocks",
    "Reader",
    "Source",
    "TokenLaw",
    "Trace",
    "Workload",
    "gap_cv",
    "index_of_dispersion",
    "inside",
    "read_trace",
    "register_reader",
    "suggest",
    "write_trace",
]
