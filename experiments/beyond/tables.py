"""The tables as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from aladdin_env.compare import TARGET

Row = Mapping[str, Any]


def grid(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *rows))


def by_policy(title: str, table: pd.DataFrame, cell: Callable[[Row], str]) -> str:
    """A row per policy, a column per setting; a dash where there is nothing."""
    settings = list(dict.fromkeys(table["setting"]))
    cells = {(row["setting"], row["policy"]): cell(row) for row in rows_of(table)}
    policies = dict.fromkeys(table["policy"])
    return grid(
        [title, *settings], ([f"`{one}`", *(cells.get((name, one), "-") for name in settings)] for one in policies)
    )


def rows_of(table: pd.DataFrame) -> list[Row]:
    """The rows by the names of their columns."""
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def by_setting(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The settings in their order, each with its rows."""
    for name in dict.fromkeys(table["setting"]):
        yield name, table[table["setting"] == name]


def share(row: Row, name: str) -> str:
    """A share in per cent with half its interval: ``41 ± 3``."""
    return with_half(row, name, 100.0, 0)


def with_half(row: Row, name: str, scale: float = 1.0, digits: int = 2) -> str:
    """A mean with half its interval; a dash where there is none."""
    mean = scale * float(row[name])
    if math.isnan(mean):
        return "-"
    half = scale * (float(row[f"{name}_high"]) - float(row[f"{name}_low"])) / 2
    return f"{round(mean, digits) + 0.0:.{digits}f} ± {half:.{digits}f}"  # no minus before a zero


def marked(row: Row, text: str) -> str:
    """In italics where the mean attainment misses the target."""
    return text if float(row["attainment"]) >= TARGET else f"*{text}*"


def holding(row: Row, text: str) -> str:
    """``none`` where no fleet holds the target; how many episodes have one where not all do."""
    if row["held"] == 0:
        return "none"
    return text if row["held"] == row["seeds"] else f"{text} ({row['held']:.0f} of {row['seeds']:.0f})"


def best(rows: pd.DataFrame, column: str) -> Row | None:
    """The row with the least mean; None where there is no row."""
    return None if rows.empty else rows_of(rows.sort_values(column, kind="stable"))[0]
