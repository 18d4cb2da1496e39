"""Output lengths by prompt bucket (the paper's Figure 2): ``python -m experiments.paper.length_cdf [--trace FILE]``.

From the workload ``sharegpt``, which has the statistics of ShareGPT and none of its data, or from a recorded trace. The
prompt says little about the output: the predictor's bucket means are all it has to go by.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aladdin_traces import Trace, Workload, read_trace
from experiments.paper.pictures import SERIES, legend, name_axes, new_figure
from experiments.paper.shared import Asked, Finding, script

NAME = Path(__file__).stem
EDGES = (128, 256, 512, 1024, 2048, 4096)
"""Upper ends of the prompt buckets, tokens."""
QUANTILES = tuple(np.linspace(0.0, 1.0, 101).round(2).tolist())
_LEAST = 30
"""A bucket of fewer requests has no curve."""


def find(asked: Asked) -> Finding:
    """A curve per bucket of the prompt's length."""
    trace = read_trace(asked.trace) if asked.trace else _generated(2_000 if asked.quick else 100_000)
    source = asked.trace.name if asked.trace else "the workload sharegpt"
    outputs = by_bucket(trace)
    table = pd.DataFrame(
        {"prompt_bucket": name, "requests": len(tokens), "quantile": q, "output_tokens": np.quantile(tokens, q)}
        for name, tokens in outputs.items()
        for q in QUANTILES
    )
    figure = new_figure(f"Output length by prompt length: {source}, {len(trace):,} requests", width=7.0)
    (axes,) = figure.axes
    for (name, tokens), colour in zip(outputs.items(), SERIES * 2, strict=False):
        ordered = np.sort(tokens)
        label = f"{name} (median {np.median(tokens):.0f}, {len(tokens):,} requests)"
        axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", color=colour, label=label)
    axes.set_xlim(0, float(table.loc[table["quantile"] == 0.99, "output_tokens"].max()))
    name_axes(axes, "", "output (tokens)", "share of requests with at most so many")
    legend(axes, title="prompt (tokens)", loc="lower right")
    medians = table.loc[table["quantile"] == 0.5, "output_tokens"]
    paper = "the prompt says little about the output: ShareGPT's median output is 215 to 341 tokens in every bucket"
    return Finding(table, {"": figure}, paper, f"median output {medians.min():.0f} to {medians.max():.0f} ({source})")


def by_bucket(trace: Trace) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int32]]]:
    """Output lengths by the bucket of the prompt, those of at least a few requests."""
    bucket = np.searchsorted(EDGES, trace.prompt_tokens)
    bounds = [0, *EDGES]
    names = [f"{low + 1:,} to {high:,}" for low, high in zip(bounds, EDGES, strict=False)] + [f"over {EDGES[-1]:,}"]
    groups = {name: trace.output_tokens[bucket == i] for i, name in enumerate(names)}
    return {name: tokens for name, tokens in groups.items() if len(tokens) >= _LEAST}


def _generated(requests: int) -> Trace:
    return Workload.preset("sharegpt").sample(np.random.default_rng(0), float(requests))


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given, takes_trace=True)


if __name__ == "__main__":
    main()
