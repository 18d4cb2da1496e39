"""Length laws fitted to public traces, by name.

The Azure figures are quantiles of the first half (by time) of the Azure LLM inference trace 2023 (CC-BY 4.0); the
second half is left for validation and test. Interpolating between so few points moves the mean by up to 3 %.
"""

from aladdin_traces.lengths import BucketedLengths, IndependentLengths, LengthLaw
from aladdin_traces.token_laws import EmpiricalQuantiles, LognormalMixture

LEVELS = (
    *(0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85),
    *(0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0),
)
"""Probabilities at which the presets give the quantiles of a length."""
_BUCKET_LEVELS = (
    *(0.0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0),
)

# Fitted to the lengths of 10,000 ShareGPT conversations, in Llama-2 tokens.
SHAREGPT_PROMPT = LognormalMixture((0.750, 0.250), (3.186, 6.288), (0.977, 1.036), minimum=4, maximum=4000)
SHAREGPT_OUTPUT = LognormalMixture((0.283, 0.717), (4.166, 5.872), (1.088, 0.545), minimum=4, maximum=1735)
_SHAREGPT = IndependentLengths(prompt=SHAREGPT_PROMPT, output=SHAREGPT_OUTPUT)

_AZURE_CODE = IndependentLengths(
    prompt=EmpiricalQuantiles(
        LEVELS,
        (
            *(3, 18, 40, 76, 149, 238, 388, 578, 768, 924, 1067, 1227, 1465, 1690, 1884, 2147, 2410, 2707, 3156, 3894),
            *(4995, 7068, 7436, 7436, 7436, 7437, 7437),
        ),
    ),
    output=EmpiricalQuantiles(
        LEVELS,
        (
            *(6, 6, 6, 6, 7, 7, 8, 9, 9, 10, 11, 12, 13, 14, 15, 17, 19, 23, 28, 37),
            *(54, 86, 164, 247, 325, 846, 1899),
        ),
    ),
)

# The outputs differ from bucket to bucket: several applications share the service.
_CONV_OUTPUTS = (
    (11, 12, 12, 12, 16, 16, 16, 24, 130, 141, 159, 169, 180, 202, 205, 230, 236, 243, 265),
    (14, 14, 14, 96, 115, 133, 152, 161, 162, 173, 183, 194, 217, 217, 217, 251, 289, 339, 1000),
    (7, 18, 48, 58, 64, 70, 75, 80, 86, 91, 95, 100, 107, 125, 141, 156, 173, 191, 739),
    (10, 33, 54, 86, 104, 151, 375, 385, 394, 397, 404, 414, 427, 452, 524, 575, 608, 627, 677),
    (24, 44, 65, 90, 142, 197, 373, 381, 394, 398, 407, 415, 429, 467, 546, 622, 663, 908, 1000),
    (15, 26, 29, 34, 37, 40, 43, 46, 51, 58, 69, 82, 98, 132, 160, 200, 299, 385, 757),
    (25, 26, 36, 38, 41, 43, 46, 48, 52, 57, 63, 70, 78, 116, 147, 179, 228, 239, 755),
)

_AZURE_CONV = BucketedLengths(
    prompt=EmpiricalQuantiles(
        LEVELS,
        (
            *(2, 40, 120, 181, 298, 379, 390, 398, 407, 431, 968, 1011, 1035, 1056, 1081, 1105, 1140, 1200, 1317, 2177),
            *(4075, 4086, 4098, 4122, 4145, 5280, 14050),
        ),
    ),
    edges=(128, 256, 512, 1024, 2048, 4096),
    outputs=tuple(EmpiricalQuantiles(_BUCKET_LEVELS, tokens) for tokens in _CONV_OUTPUTS),
)

LENGTHS: dict[str, LengthLaw] = {"sharegpt": _SHAREGPT, "azure-conv": _AZURE_CONV, "azure-code": _AZURE_CODE}
"""Named length laws."""
