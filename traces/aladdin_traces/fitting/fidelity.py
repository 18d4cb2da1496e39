"""How close a sample of a workload comes to a trace."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aladdin_traces import checks
from aladdin_traces.description import Description, describe
from aladdin_traces.errors import InputError
from aladdin_traces.stats import ks_distance
from aladdin_traces.trace import Trace
from aladdin_traces.workload import Workload

CACHE_BLOCKS = (10_000,)


@dataclass(frozen=True)
class Fidelity:
    """A trace, and a sample of a workload over the same time.

    Attributes:
        ks_prompt: Kolmogorov-Smirnov distance of the prompt lengths, 0 to 1.
        ks_output: The same of the output lengths.
        trace: Figures of the trace.
        sample: Figures of the sample.
    """

    ks_prompt: float
    ks_output: float
    trace: Description
    sample: Description

    def to_dict(self) -> dict[str, Any]:
        """Return a table of plain numbers, text and tables."""
        return asdict(self)


def compare(trace: Trace, workload: Workload, seed: int = 0) -> Fidelity:
    """Draw a sample as long as ``trace`` and compare the two.

    Args:
        trace: At least one request.
        workload: A generated one, usually.
        seed: Of the sample, a whole number from 0 to 2**32 - 1.

    Raises:
        InputError: The trace is empty or ends at time 0, or the sample is empty.
    """
    rng = np.random.default_rng(checks.whole("seed", seed, low=0, high=2**32 - 1))
    sample = workload.sample(rng, trace.duration_s)
    if len(sample) == 0:
        raise InputError("workload", workload, "no request was drawn; raise the rate")
    return Fidelity(
        ks_prompt=ks_distance(trace.prompt_tokens, sample.prompt_tokens),
        ks_output=ks_distance(trace.output_tokens, sample.output_tokens),
        trace=describe(trace, CACHE_BLOCKS),
        sample=describe(sample, CACHE_BLOCKS),
    )
