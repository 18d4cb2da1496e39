"""Workloads of LLM serving: recorded traces, arrival processes and length laws.

This package imports no other package of the project.
"""

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.arrivals import ARRIVALS
from aladdin_traces.diurnal import PROFILES, Diurnal
from aladdin_traces.errors import InputError, inside, suggest
from aladdin_traces.lengths import BucketedLengths, CopulaLengths, FixedLengths, IndependentLengths, LengthLaw
from aladdin_traces.modulated import Flood, Mmpp, OnOff
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.presets import LENGTHS
from aladdin_traces.readers import READERS, Reader, read_trace, register_reader, write_trace
from aladdin_traces.renewals import GammaRenewal, Poisson, WeibullRenewal
from aladdin_traces.source import Source
from aladdin_traces.stats import gap_cv, index_of_dispersion
from aladdin_traces.token_laws import EmpiricalQuantiles, Exponential, Histogram, LognormalMixture, TokenLaw
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
    "CopulaLengths",
    "Diurnal",
    "EmpiricalQuantiles",
    "Exponential",
    "FixedLengths",
    "Flood",
    "GammaRenewal",
    "Histogram",
    "IndependentLengths",
    "InputError",
    "LengthLaw",
    "LognormalMixture",
    "Mmpp",
    "OnOff",
    "Poisson",
    "PrefixBlocks",
    "Reader",
    "Source",
    "TokenLaw",
    "Trace",
    "WeibullRenewal",
    "Workload",
    "gap_cv",
    "index_of_dispersion",
    "inside",
    "read_trace",
    "register_reader",
    "suggest",
    "write_trace",
]
