"""Named workloads beside the traces that they stand for: ``python -m experiments.traces.fidelity [FOLDER]``.

A workload's parameters come from the first half of its trace; here it is compared with the third quarter and, in the
last table, with the last quarter, which nothing was tuned on. FOLDER holds the traces; without it a sample of each
workload is compared with the published figures alone.
"""

import sys
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
PUBLISHED = {
    "azure-conv": ("5.5", "1.4/3.9/16", "1020/4083/4142", "129/451/601", "0.07", "-"),
    "azure-code": ("2.6", "13/72/167", "1469/7303/7436", "13/90/251", "-0.02", "-"),
    "mooncake-conversation": ("3.4", "-/2.1/2.9", "6909/39.6k/85k", "350/698/1119", "0.07", "0.37 0.22"),
    "ragpulse": ("0.012", "1.0/1.1/1.7", "3140/4425/5438", "234/670/891", "0.42", "-"),
    "sharegpt": ("-", "-", "35/1423/2862", "286/839/1000", "0.14", "-"),
}
"""Rate, index of dispersion at 1/10/60 s, prompt and output p50/p95/p99, Spearman, token hit ratio (ideal, LRU 10k)."""

HORIZON_S = {"ragpulse": 604_800.0, "sharegpt": 10_000.0}
_QUARTERS = {"third quarter": (0.5, 0.75), "last quarter": (0.75, 1.0)}
_WINDOWS_S = (1.0, 10.0, 60.0)
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
        table.add_row(name, "published", *figures)
        rows = [_figures(sampled(name, seed), HORIZON_S.get(name, 3600.0)) for seed in range(_SEEDS)]
        mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        table.add_row("", "generated", *_cells(mean), end_section=True)
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
    means = [np.mean([index_of_dispersion(s.arrival_s, w, horizon_s) for s in samples]) for w in _WINDOWS_S]
    return "/".join(f"{mean:.3g}" for mean in means)


def _figures(trace: Trace, horizon_s: float) -> dict[str, float]:
    found = {"rps": len(trace) / horizon_s, "spearman": spearman(trace.prompt_tokens, trace.output_tokens)}
    for window in _WINDOWS_S:
        found[f"idc {window:g}"] = index_of_dispersion(trace.arrival_s, window, horizon_s)
    for column in ("prompt", "output"):
        for level in (50, 95, 99):
            found[f"{column} {level}"] = float(np.percentile(getattr(trace, f"{column}_tokens"), level))
    if trace.prefix_blocks is not None:
        found |= {"ideal": token_hit_ratio(trace), "lru": token_hit_ratio(trace, _CACHE)}
    return found


def _cells(mean: dict[str, float]) -> list[str]:
    lengths = [
        "/".join(f"{mean[f'{column} {level}']:.0f}" for level in (50, 95, 99)) for column in ("prompt", "output")
    ]
    dispersions = "/".join(f"{mean[f'idc {window:g}']:.3g}" for window in _WINDOWS_S)
    hits = f"{mean['ideal']:.2f} {mean['lru']:.2f}" if "ideal" in mean else "-"
    return [f"{mean['rps']:.3g}", dispersions, *lengths, f"{mean['spearman']:.2f}", hits]


def main() -> None:
    """Print all tables."""
    console = Console(width=140)
    console.print(summary_table())
    if len(sys.argv) > 1:
        for name in _QUARTERS:
            console.print(quarter_table(Path(sys.argv[1]), name))


if __name__ == "__main__":
    main()
