"""Ratios of the laws' coefficients over models and GPUs: ``python -m experiments.calibration.law_ratios``.

`aladdin_calibration.request_log.parameters` expects a server's laws to have about these. They come from the shipped
profiles of GPUs, which are fits to NVIDIA's kernel timings: the paper's line and the attention term through each
profile's own times, by relative least squares.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.optimize import nnls

from aladdin_env.latency import LatencyProfile, load_profile, profile_names

PROMPTS = (64, 128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (128, 512, 2048)

Array = npt.NDArray[np.float64]


def _line(rows: Sequence[tuple[float, ...]], seconds: list[float]) -> Array:
    design = np.array(rows) / np.array(seconds)[:, None]
    size = design.max(axis=0)
    return np.asarray(nnls(design / size, np.ones(len(rows)))[0] / size, dtype=np.float64)


def ratios(profile: LatencyProfile) -> dict[str, float]:
    """The ratios of one profile."""
    prompts = [(1.0, float(n), float(n) * n) for n in PROMPTS]
    c1, k1, attention = _line(prompts, [profile.prefill_s(n) for n in PROMPTS])
    decodes = [(1.0, float(b), float(b) * c) for b in BATCHES for c in CONTEXTS]
    c3, c2, k2 = _line(decodes, [profile.decode_s(b, b * c) for b in BATCHES for c in CONTEXTS])
    return {
        "c1 / c3": c1 / c3,
        "k1 / c3": k1 / c3,
        "attention / k1": attention / k1,
        "c2 / c3": c2 / c3,
        "k2 / c3": k2 / c3,
        "overlap / (c1 + c3)": profile.mixed_overlap_s / (c1 + c3),
    }


def main() -> None:
    """Print the median of each ratio over the profiles, and the spread of its logarithm."""
    found = [ratios(load_profile(name)) for name in profile_names() if "-tp" in name]  # not those that were measured
    table = Table("ratio", "median", "spread of the logarithm", title=f"{len(found)} profiles")
    for name in found[0]:
        values = np.array([row[name] for row in found])
        logs = np.log(values[values > 0])
        table.add_row(name, f"{np.median(values):.3g}", f"{logs.std(ddof=1):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
