"""The benchmark's tables for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from aladdin_agents.benchmark.scenarios import TARGET
from aladdin_agents.benchmark.table import ALL, Line
from aladdin_env.compare import Estimate


@dataclass(frozen=True)
class _Column:
    """A measure: heading with unit, factor from SI, decimals."""

    heading: str
    measure: str
    factor: float = 1.0
    decimals: int = 2

    def mean(self, line: Line) -> str:
        """Mean and half of its interval."""
        value = line.means.get(self.measure)
        if value is None or not math.isfinite(value.mean):
            return "-"
        half = value.half_width
        is_known = line.seeds > 1 and math.isfinite(half)  # one episode says nothing of the next
        return self._number(value.mean) + (f" ±{self._number(half)}" if is_known else "")

    def middle(self, line: Line, *, with_interval: bool) -> str:
        """Interquartile mean."""
        value: Estimate | None = line.middles.get(self.measure)
        if value is None or not math.isfinite(value.mean):
            return "-"
        text = self._number(value.mean)
        return f"{text} [{self._number(value.low)}, {self._number(value.high)}]" if with_interval else text

    def _number(self, value: float) -> str:
        return f"{self.factor * value:.{self.decimals}f}"


_SERVED = _Column("SLO met\n%", "slo_attainment", 100.0)
_COUNTED = {"cost": _Column("cost", "cost"), "goodput": _Column("goodput\nreq/s", "goodput_rps")}


def _ratios(measure: str) -> tuple[_Column, ...]:
    return (
        _Column("vs best\nheuristic", f"{measure}_vs_best_heuristic"),
        _Column("vs\nAladdin", f"{measure}_vs_aladdin"),
        _Column("vs\nbound", f"{measure}_vs_bound"),
    )


def tables(lines: Sequence[Line], notes: Sequence[str]) -> Iterator[RenderableType]:
    """For each split and task a table of the scenarios and one over all, and what to know about them."""
    for (split, task), mine in groupby(lines, key=lambda line: (line.split, line.task)):
        of_task = list(mine)
        per_scenario = [line for line in of_task if line.scenario != ALL]
        over_all = [line for line in of_task if line.scenario == ALL]
        measure = "goodput" if task == "placement" else "cost"
        if per_scenario:
            yield _of_scenarios(f"{split}, {task}", per_scenario, measure)
        if over_all:
            yield _over_all(f"{split}, {task}: all scenarios", over_all, measure)
    foot = (
        "± half of the 95 % interval over seeds (Student t); IQM: interquartile mean [95 % interval by bootstrap].",
        "Ratios are taken seed by seed. placement: the fleet is the same, what it serves within the SLO counts; nobody",
        f"serves more than the bound. scaling, joint: cost counts where the mean attainment is {TARGET:g} or more",
        "(dim: less); nobody who holds this costs less than the bound.",
    )
    yield Text("\n".join((*foot, *notes)), style="dim")


def _new_table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", collapse_padding=True, pad_edge=False)


def _of_scenarios(title: str, lines: Sequence[Line], measure: str) -> Table:
    table = _new_table(title)
    table.add_column("scenario", no_wrap=True)
    table.add_column("policy", overflow="fold", min_width=20)
    counted, ratios = _COUNTED[measure], _ratios(measure)
    for heading in (_SERVED.heading, "IQM", counted.heading, "IQM", *(column.heading for column in ratios)):
        table.add_column(heading, justify="right", no_wrap=True)
    for scenario, mine in groupby(lines, key=lambda line: line.scenario):
        name = scenario
        for line in mine:
            cells = [text for column in (_SERVED, counted) for text in _both(column, line)]
            cells += [column.mean(line) for column in ratios]
            counts = measure == "goodput" or line.held == line.scenarios
            table.add_row(name, line.policy, *cells, style="" if counts else "dim")
            name = ""
        table.add_section()
    return table


def _both(column: _Column, line: Line) -> tuple[str, str]:
    return column.mean(line), column.middle(line, with_interval=False)


def _over_all(title: str, lines: Sequence[Line], measure: str) -> Table:
    table = _new_table(title)
    table.add_column("policy", overflow="fold", min_width=20)
    table.add_column("held in", justify="right")
    table.add_column(_SERVED.heading, justify="right")
    columns = (_SERVED, *_ratios(measure))
    for heading in ("IQM", *(f"{column.heading}, IQM" for column in columns[1:])):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        cells = (column.middle(line, with_interval=True) for column in columns)
        table.add_row(line.policy, f"{line.held}/{line.scenarios}", _SERVED.mean(line), *cells)
    return table
