"""The laws of the named workloads: each has the statistics of a public trace and none of its requests.

Fitted to the first half (by time) of each trace; Azure's are CC-BY 4.0, Mooncake's Apache-2.0, RAGPulse's and the
ShareGPT lengths MIT. What each reproduces, and how well, is in the section "Generators" of ``docs/traces.md``.
"""

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.clients import Clients
from aladdin_traces.diurnal import Diurnal
from aladdin_traces.lengths import CopulaLengths, LengthLaw
from aladdin_traces.modulated import Mmpp, OnOff
from aladdin_traces.presets import LENGTHS, LEVELS, SHAREGPT_OUTPUT, SHAREGPT_PROMPT
from aladdin_traces.renewals import Poisson
from aladdin_traces.request_law import RequestLaw
from aladdin_traces.sessions import Sessions
from aladdin_traces.token_laws import EmpiricalQuantiles, Exponential, Histogram, LognormalMixture

# Two slow levels, and moments at ten times the rate: the index of dispersion at 0.2 to 60 s.
_AZURE_CONV = Mmpp(rates_rps=(4.47, 6.6, 56.8), means_s=(350.0, 350.0, 0.3))

_MOONCAKE_OUTPUT = EmpiricalQuantiles(
    LEVELS,
    (
        *(1, 3, 3, 9, 24, 44, 96, 149, 214, 260, 297, 328, 356, 380, 402, 427, 452, 477, 511, 553),
        *(609, 707, 897, 1104, 1489, 2000, 2000),
    ),
)
_MOONCAKE_FIRST = EmpiricalQuantiles(  # without the one block that all prompts share
    LEVELS,
    (
        *(379, 382, 383, 385, 394, 451, 644, 924, 1527, 2801, 3854, 4610, 5447, 6586, 7940, 9359, 11396, 13716, 16472),
        *(20186, 26818, 41097, 71725, 93013, 111540, 120122, 122377),
    ),
)
_MOONCAKE_NEW = EmpiricalQuantiles(
    LEVELS,
    (
        *(1, 1, 1, 1, 1, 6, 8, 10, 12, 16, 21, 28, 41, 69, 168, 392, 1107, 3398, 4741, 7471),
        *(10181, 15360, 24197, 29293, 34516, 66509, 94968),
    ),
)


def _mooncake_turns() -> Histogram:
    """Three sessions in ten go on after the first turn, 44 % of those after the second, 60 % after each later one."""
    goes_on = (0.3, 0.44, *(0.6,) * 25)
    shares, left = [], 1.0
    for share in goes_on:
        shares.append(left * (1.0 - share))
        left *= share
    return Histogram(tuple(range(1, len(goes_on) + 2)), (*shares, left))


_MOONCAKE = Sessions(
    starts=Mmpp(rates_rps=(0.84, 1.16), means_s=(200.0, 200.0)),
    turns=_mooncake_turns(),
    first=CopulaLengths(_MOONCAKE_FIRST, _MOONCAKE_OUTPUT, 0.1),
    later=CopulaLengths(_MOONCAKE_NEW, _MOONCAKE_OUTPUT, 0.0),
    think_mu=4.75,
    think_sigma=0.95,
    rewrites=0.15,
    system_tokens=512,
    block_size=512,
    max_prompt_tokens=127_000,
).with_rate(3.4)

# Prompts are retrieved passages behind a system prompt of about 1,000 tokens; the hours are those of its working week.
_RAG = CopulaLengths(
    EmpiricalQuantiles(
        LEVELS,
        (
            *(28, 28, 29, 31, 86, 290, 803, 1712, 1844, 1928, 1994, 2058, 2113, 2163, 2221, 2275, 2339, 2408, 2495),
            *(2642, 2876, 3300, 3807, 4212, 4533, 5407, 6688),
        ),
    ),
    EmpiricalQuantiles(
        LEVELS,
        (
            *(7, 36, 36, 65, 80, 91, 104, 121, 138, 159, 177, 198, 220, 242, 266, 299, 330, 368, 415, 475, 548, 659),
            *(787, 904, 1060, 1215, 2183),
        ),
    ),
    0.42,
)
_RAG_HOURS = (25, 32, 30, 30, 25, 24, 28, 31, 20, 22, 27, 17, 17, 6, 4, 1, 1, 1, 2, 4, 10, 16, 17, 19)
_RAGPULSE = Sessions(
    starts=Diurnal(1.0, tuple(map(float, _RAG_HOURS)), noise_sd=0.2),
    turns=Histogram(tuple(range(1, 12)), (1335, 550, 224, 87, 37, 15, 8, 8, 7, 6, 3)),
    first=_RAG,
    later=_RAG,
    think_mu=4.03,
    think_sigma=1.5,
    history=False,
    system_tokens=1024,
).with_rate(0.0118)

# ServeGen publishes its clients' shares, gaps and drifts; lengths here are of its kinds (a heavy-tailed mixture for
# prompts, exponential outputs; long, two-humped outputs where the model reasons), not of one of its files.
_SERVEGEN_LANGUAGE = Clients(
    rate_rps=20.0,
    lengths=CopulaLengths(
        LognormalMixture((0.85, 0.15), (6.3, 8.0), (1.0, 0.9), maximum=32_768), Exponential(300), 0.1
    ),
    count=1000,
    zipf=1.3,
    off_mean_s=1800.0,
    prompt_spread=0.6,
    output_spread=0.5,
    spread_correlation=0.3,
    population=6,
)
_SERVEGEN_REASONING = Clients(
    rate_rps=10.0,
    lengths=CopulaLengths(
        LognormalMixture((0.8, 0.2), (5.8, 7.6), (1.0, 0.9), maximum=32_768),
        LognormalMixture((0.55, 0.45), (6.4, 8.0), (0.7, 0.6), maximum=32_768),
        0.2,
    ),
    count=1000,
    zipf=1.2,
    cvs=(0.9, 1.0, 1.0, 2.0, 5.0),
    off_mean_s=1800.0,
    prompt_spread=0.4,
    output_spread=0.3,
    spread_correlation=0.3,
    population=6,
)

PRESET_LAWS: dict[str, tuple[ArrivalProcess, LengthLaw] | RequestLaw] = {
    "azure-conv": (_AZURE_CONV, LENGTHS["azure-conv"]),
    "azure-code": (OnOff(), LENGTHS["azure-code"]),
    "mooncake-conversation": _MOONCAKE,
    "sharegpt": (Poisson(1.0), CopulaLengths(SHAREGPT_PROMPT, SHAREGPT_OUTPUT, 0.14)),
    "ragpulse": _RAGPULSE,
    "servegen-language": _SERVEGEN_LANGUAGE,
    "servegen-reasoning": _SERVEGEN_REASONING,
}
"""Arrivals and lengths, or a law of whole requests, by the name of the workload."""
