"""Named workloads beside the traces that they stand for: ``python -m experiments.traces.fidelity [FOLDER]``.

A workload's parameters come from the first half of its trace; here it is compared with the third quarter and, in the
last table, with the last quarter, which nothing was tuned on. FOLDER holds the traces; without it a sample of each
workload is compared with the published figures alone.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from aladdin_traces import (
    WORKLOADS,
    Trace,
    Workload,
    index_of_dispersion,
    ks_distance,
    read_trace,
    spearman,
    token_hit_ratio,
)

FILES = {
    "azure-conv": "azure2023_conv.csv.gz",
    "azure-code": "azure2023_code.csv.gz",
    "mooncake-conversation": "mooncake_conversation_trace.jsonl.gz",
    "ragpulse": "ragpulse_week.jsonl.gz",
    "sharegpt": "sharegpt_10k_lengths.csv.gz",
}


@dataclass(frozen=True)
class Figures:
    """What is compared of a workload and its trace.

    Attributes:
        rate_rps: Mean requests per second; None without times.
        dispersion: Index of dispersion at `WINDOWS_S`; None where it is not known.
        prompt: Prompt lengths at `LEVELS`, tokens.
        output: Output lengths likewise.
        spearman: Rank correlation of the two.
        hit_ratios: Token hit ratios of an endless cache and of one of 10,000 blocks, where there are prefixes.
    """

    rate_rps: float | None
    dispersion: tuple[float | None, ...]
    prompt: tuple[float, ...]
    output: tuple[float, ...]
    spearman: float
    hit_ratios: tuple[float, ...] = ()


WINDOWS_S = (1.0, 10.0, 60.0)
LEVELS = (50, 95, 99)
_UNTIMED = (None, None, None)
PUBLISHED = {
    "azure-conv": Figures(5.5, (1.4, 3.9, 16), (1020, 4083, 4142), (129, 451, 601), 0.07),
    "azure-code": Figures(2.6, (13, 72, 167), (1469, 7303, 7436), (13, 90, 251), -0.02),
    "mooncake-conversation": Figures(
        3.4, (None, 2.1, 2.9), (6909, 39_600, 85_000), (350, 698, 1119), 0.07, (0.37, 0.22)
    ),
    "ragpulse": Figures(0.012, (1.0, 1.1, 1.7), (3140, 4425, 5438), (234, 670, 891), 0.42),
    "sharegpt": Figures(None, _UNTIMED, (35, 1423, 2862), (286, 839, 1000), 0.14),
}
"""Those of the whole traces."""

HORIZON_S = {"ragpulse": 604_800.0, "sharegpt": 10_000.0}
_QUARTERS = {"third quarter": (0.5, 0.75), "last quarter": (0.75, 1.0)}
_CACHE = 10_000
_SEEDS = 5


def recorded(folder: Path, name: str) -> Trace:
    """The whole trace that a workload stands for; lengths without times get one second each."""
    if name != "sharegpt":
        return read_trace(folder / FILES[name])
    lengths = pd.read_csv(folder / FILES[name])
    return Trace.from_arrays(np.arange(len(lengths)), lengths["prompt_tokens"], lengths["output_tokens"])


def quarter(trace: Trace, begin: float, end: float) -> Trace:
    """The requests between two shares of the duration."""
    return trace.window(begin * trace.duration_s, end * trace.duration_s + (1.0 if end == 1.0 else 0.0))


def sampled(name: str, seed: int = 0) -> Trace:
    """A sample as long as the recording: an hour, unless it is another one."""
    return WORKLOADS[name].sample(np.random.default_rng(seed), HORIZON_S.get(name, 3600.0))


def summary_table() -> Table:
    """Published figures over those of samples (mean of five seeds)."""
    table = Table(
        "workload", "", "rps", "IDC 1/10/60 s", "prompt p50/95/99", "output p50/95/99", "Spearman", "hit ratio"
    )
    for name, figures in PUBLISHED.items():
        table.add_row(name, "published", *_cells(figures))
        samples = [_figures(sampled(name, seed), HORIZON_S.get(name, 3600.0)) for seed in range(_SEEDS)]
        table.add_row("", "generated", *_cells(_mean(samples)), end_section=True)
    return table


def quarter_table(folder: Path, name_of_quarter: str) -> Table:
    """KS distances of the lengths: generated against recorded, and first half against the same, as a yardstick."""
    begin, end = _QUARTERS[name_of_quarter]
    columns = ("KS prompt", "of first half", "KS output", "of first half", "IDC 1/10/60 s", "recorded")
    table = Table("workload", *columns, title=f"against the {name_of_quarter}")
    for name in FILES:
        whole = recorded(folder, name)
        part, half, own = quarter(whole, begin, end), quarter(whole, 0.0, 0.5), sampled(name)
        cells = []
        for column in ("prompt_tokens", "output_tokens"):
            seen = getattr(part, column)
            cells += [f"{ks_distance(getattr(trace, column), seen):.3f}" for trace in (own, half)]
        has_times = name != "sharegpt"
        dispersions = [_dispersions(WORKLOADS[name], part.duration_s), _dispersions(part, part.duration_s)]
        table.add_row(name, *cells, *(text if has_times else "-" for text in dispersions))
    return table


def _dispersions(source: Trace | Workload, horizon_s: float) -> str:
    if isinstance(source, Workload):
        samples = [source.sample(np.random.default_rng(seed), horizon_s) for seed in range(4 * _SEEDS)]
    else:
        samples = [source]
    means = [np.mean([index_of_dispersion(s.arrival_s, w, horizon_s) for s in samples]) for w in WINDOWS_S]
    return "/".join(f"{mean:.3g}" for mean in means)


def _figures(trace: Trace, horizon_s: float) -> Figures:
    return Figures(
        len(trace) / horizon_s,
        tuple(index_of_dispersion(trace.arrival_s, window, horizon_s) for window in WINDOWS_S),
        tuple(np.percentile(trace.prompt_tokens, LEVELS).tolist()),
        tuple(np.percentile(trace.output_tokens, LEVELS).tolist()),
        spearman(trace.prompt_tokens, trace.output_tokens),
        () if trace.prefix_blocks is None else (token_hit_ratio(trace), token_hit_ratio(trace, _CACHE)),
    )


def _mean(samples: list[Figures]) -> Figures:
    names = [field.name for field in dataclasses.fields(Figures)]
    return Figures(**{name: np.mean([getattr(one, name) for one in samples], axis=0).tolist() for name in names})


def _cells(figures: Figures) -> list[str]:
    return [
        _joined([figures.rate_rps], ".3g"),
        _joined(figures.dispersion, ".3g"),
        _joined(figures.prompt, ".0f"),
        _joined(figures.output, ".0f"),
        _joined([figures.spearman], ".2f"),
        _joined(figures.hit_ratios, ".2f"),
    ]


def _joined(values: Sequence[float | None], form: str) -> str:
    if all(value is None for value in values):
        return "-"
    return "/".join("-" if value is None else format(value, form) for value in values)


def main() -> None:
    """Print all tables."""
    console = Console(width=140)
    console.print(summary_table())
    if len(sys.argv) > 1:
        for name in _QUARTERS:
            console.print(quarter_table(Path(sys.argv[1]), name))


if __name__ == "__main__":
    main()
