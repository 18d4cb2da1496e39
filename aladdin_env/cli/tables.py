"""Tables for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aladdin_env.cli.listings import settings_text
from aladdin_env.compare import Comparison, Estimate, Row


@dataclass(frozen=True)
class Column:
    """A measure in the table: heading with unit, factor from SI, decimals."""

    heading: str
    measure: str
    factor: float = 1.0
    decimals: int = 2

    def cell(self, value: Estimate, with_interval: bool) -> Text:
        """The mean, and under it half the interval."""
        text = Text(self._number(value.mean))
        if with_interval and math.isfinite(value.half_width):
            text.append(f"\n±{self._number(value.half_width)}", style="dim")
        return text

    def _number(self, value: float) -> str:
        return f"{value * self.factor:.{self.decimals}f}" if math.isfinite(value) else "-"


COLUMNS = (
    Column("SLO met\n%", "slo_attainment", 100.0),
    Column("goodput\nreq/s", "goodput_rps"),
    Column("TTFT p50\nms", "ttft_p50_s", 1e3, 0),
    Column("p99\nms", "ttft_p99_s", 1e3, 0),
    Column("ATGT p50\nms", "atgt_p50_s", 1e3, 1),
    Column("p99\nms", "atgt_p99_s", 1e3, 1),
    Column("GPU-\nhours", "gpu_hours"),
    Column("cost", "cost"),
    Column("cost vs\nAladdin", "cost_vs_aladdin"),
    Column("vs\nbound", "cost_vs_bound"),
)


def comparison_table(found: Comparison) -> RenderableType:
    """The table of policies, and under it the settings and the notes."""
    is_search = any(row.is_search for row in found.rows)
    table = Table(box=box.SIMPLE_HEAD, title=title_of(found), title_justify="left", collapse_padding=True)
    table.add_column("policy", overflow="fold")
    if is_search:
        table.add_column("workers", justify="right")
        table.add_column("GPUs", justify="right")
    for column in COLUMNS:
        table.add_column(column.heading, justify="right", no_wrap=True)
    held = [row for row in found.rows if _holds(row, found.target)]
    for row in found.rows:
        style = "bold green" if row.is_reference else ("" if row in held else "dim")
        table.add_row(*_cells(row, is_search), style=style, end_section=bool(held) and row is held[-1])
    return Group(table, *_footnotes(found))


def _holds(row: Row, target: float) -> bool:
    return row["slo_attainment"].mean >= target


def _cells(row: Row, is_search: bool) -> list[RenderableType]:
    sizes = ["-" if n is None else str(n) for n in (row.workers, row.gpus)] if is_search else []
    return [row.policy, *sizes, *(column.cell(row[column.measure], row.seeds > 1) for column in COLUMNS)]


def title_of(found: Comparison) -> str:
    """What was simulated, in a line."""
    scenario, slo = found.scenario, found.scenario.slo
    if slo.classes:
        aims = "; ".join(f"{c.name}: TTFT {c.ttft_s:g} s, ATGT {c.atgt_s * 1e3:g} ms" for c in slo.classes)
    else:
        aims = f"TTFT {slo.ttft_s:g} s, ATGT {slo.atgt_s * 1e3:g} ms"
    count = len(found.seeds)
    seeds = f"seed {found.seeds[0]}" if count == 1 else f"{count} seeds from {found.seeds[0]}, mean ± 95 %"
    return f"{scenario.name}: {found.rate_rps:.3g} requests/s, {aims}, {seeds}"


def _footnotes(found: Comparison) -> list[Text]:
    share = f"{found.target * 100:g} %"
    lines = [
        f"Sorted: those that meet the SLO for {share} of the requests by cost, then the rest. Green: Aladdin.",
        f"vs bound: over a cost below which no policy meets it for {share}; policies that miss it may be below.",
    ]
    told: dict[str, dict[str, Any]] = {}
    for row in found.rows:
        told |= row.settings
    lines += [f"{name}: {settings_text(settings)}" for name, settings in sorted(told.items())]
    return [Text(line, style="dim") for line in lines + found.notes]


def pairs_table(title: str, values: Mapping[str, tuple[str, str]]) -> Table:
    """Names with a value and a remark each."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for name, (value, remark) in values.items():
        table.add_row(name, value, Text(remark, style="dim"))
    return table
