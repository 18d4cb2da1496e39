"""Workloads of LLM serving: recorded traces, arrival processes and length laws.

This package imports no other package of the project.
"""

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.arrivals import ARRIVALS
from aladdin_traces.clients import Clients
from aladdin_traces.description import Description, describe
from aladdin_traces.diurnal import PROFILES, Diurnal
from aladdin_traces.errors import InputError, inside, suggest
from aladdin_traces.fetch import SOURCES, FetchedTrace, TraceSource, fetch_trace, own_source
from aladdin_traces.fitting import Fidelity, Fit, compare, fit_workload
from aladdin_traces.law_tables import REQUEST_LAWS
from aladdin_traces.lengths import BucketedLengths, CopulaLengths, FixedLengths, IndependentLengths, LengthLaw
from aladdin_traces.modulated import Flood, Mmpp, OnOff
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.presets import LENGTHS
from aladdin_traces.readers import READERS, Reader, ReadOptions, read_trace, register_reader
from aladdin_traces.renewals import GammaRenewal, Poisson, WeibullRenewal
from aladdin_traces.request_law import RequestLaw
from aladdin_traces.reuse import hit_blocks, token_hit_ratio
from aladdin_traces.sessions import Sessions
from aladdin_traces.source import Source
from aladdin_traces.stats import gap_cv, index_of_dispersion, ks_distance, spearman
from aladdin_traces.token_laws import EmpiricalQuantiles, Exponential, Histogram, LognormalMixture, TokenLaw
from aladdin_traces.trace import SLO_CLASSES, Trace
from aladdin_traces.transforms import SPLITS, jitter, merge, repeat, split, thin
from aladdin_traces.workload import WORKLOADS, Workload
from aladdin_traces.writers import WRITERS, Writer, write_trace

__all__ = [
    "ARRIVALS",
    "LENGTHS",
    "PROFILES",
    "READERS",
    "REQUEST_LAWS",
    "SLO_CLASSES",
    "SOURCES",
    "SPLITS",
    "WORKLOADS",
    "WRITERS",
    "ArrivalProcess",
    "BucketedLengths",
    "Clients",
    "CopulaLengths",
    "Description",
    "Diurnal",
    "EmpiricalQuantiles",
    "Exponential",
    "FetchedTrace",
    "Fidelity",
    "Fit",
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
    "ReadOptions",
    "Reader",
    "RequestLaw",
    "Sessions",
    "Source",
    "TokenLaw",
    "Trace",
    "TraceSource",
    "WeibullRenewal",
    "Workload",
    "Writer",
    "compare",
    "describe",
    "fetch_trace",
    "fit_workload",
    "gap_cv",
    "hit_blocks",
    "index_of_dispersion",
    "inside",
    "jitter",
    "ks_distance",
    "merge",
    "own_source",
    "read_trace",
    "register_reader",
    "repeat",
    "spearman",
    "split",
    "suggest",
    "thin",
    "token_hit_ratio",
    "write_trace",
]
