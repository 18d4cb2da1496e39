"""A workload for a trace."""

from dataclasses import dataclass

import numpy as np

from aladdin_traces.errors import InputError
from aladdin_traces.fitting.arrivals import arrival_candidates
from aladdin_traces.fitting.candidates import best
from aladdin_traces.fitting.lengths import fit_lengths
from aladdin_traces.fitting.sessions import fit_sessions
from aladdin_traces.trace import Trace
from aladdin_traces.workload import Workload

_REQUESTS_MIN = 100


@dataclass(frozen=True)
class Fit:
    """A workload fitted to a trace.

    Attributes:
        workload: The generated workload.
        chosen: In words, the laws that won.
        arrivals_bic: BIC of every law of the arrivals that was tried, the smallest first.
        lengths_bic: The same of the lengths.
    """

    workload: Workload
    chosen: str
    arrivals_bic: dict[str, float]
    lengths_bic: dict[str, float]


def fit_workload(trace: Trace) -> Fit:
    """Fit arrivals, lengths, their tie and, where the trace tells of sessions, their turns and prefixes.

    Everything is chosen by the Bayesian information criterion. The shares of the SLO classes are kept.

    Args:
        trace: At least 100 requests, at different times.

    Raises:
        InputError: Too few requests, or all of them at a few times.
    """
    if len(trace) < _REQUESTS_MIN:
        raise InputError("trace", f"{len(trace)} requests", f"give at least {_REQUESTS_MIN} to fit a workload to")
    if len(np.unique(trace.arrival_s)) < 3:
        raise InputError("trace", trace, "its requests arrive at one or two times; give one whose arrivals are known")
    arrivals = sorted(arrival_candidates(trace.arrival_s), key=lambda candidate: candidate.bic)
    lengths = sorted(fit_lengths(trace.prompt_tokens, trace.output_tokens), key=lambda candidate: candidate.bic)
    shares = np.bincount(trace.klass) / len(trace)
    class_shares = tuple(shares.tolist()) if len(shares) > 1 else ()
    sessions = fit_sessions(trace)
    if sessions is not None:
        workload = Workload.from_law(sessions, class_shares)
        chosen = f"sessions of {sessions.mean_turns:.2f} turns, first turns by {sessions.starts.kind}"
    else:
        workload = Workload.generated(best(arrivals).law, best(lengths).law, class_shares).with_rate(trace.rate_rps)
        chosen = f"{best(arrivals).name} arrivals, {best(lengths).name} lengths"
    return Fit(
        workload=workload,
        chosen=chosen,
        arrivals_bic={candidate.name: candidate.bic for candidate in arrivals},
        lengths_bic={candidate.name: candidate.bic for candidate in lengths},
    )
