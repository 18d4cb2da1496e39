"""Loads that several scripts share, beside the paper's."""

from __future__ import annotations

from aladdin_traces import IndependentLengths, LognormalMixture, Poisson, Workload
from aladdin_traces.presets import SHAREGPT_OUTPUT, SHAREGPT_PROMPT

LONG_SHARE = 0.1
LONG_PROMPTS = LognormalMixture((1.0,), (8.84,), (1.06,), minimum=4, maximum=32_000)
"""Median and 95th percentile of Mooncake's conversations, 6,900 and 39,600 tokens; cut at 32,000."""


def mixed_load() -> Workload:
    """ShareGPT's lengths, but every tenth prompt is one of Mooncake's; Poisson arrivals."""
    weights = [(1.0 - LONG_SHARE) * weight for weight in SHAREGPT_PROMPT.weights]
    prompts = LognormalMixture(
        (*weights, LONG_SHARE),
        (*SHAREGPT_PROMPT.mus, *LONG_PROMPTS.mus),
        (*SHAREGPT_PROMPT.sigmas, *LONG_PROMPTS.sigmas),
        minimum=LONG_PROMPTS.minimum,
        maximum=LONG_PROMPTS.maximum,
    )
    return Workload.generated(Poisson(1.0), IndependentLengths(prompts, SHAREGPT_OUTPUT))
