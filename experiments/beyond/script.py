"""A script of this folder: setting by setting, each written when it is done; Markdown of the whole at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from aladdin_env.errors import InputError
from experiments.beyond.settings import Setting
from experiments.given import input_folder
from experiments.paper.shared import Asked, command_line, progress_bar, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Script:
    """What a script is made of.

    Attributes:
        name: Of the module and its files.
        settings: All settings by name, those of recorded traces where a folder is given.
        quick: Names of the settings of the quick version.
        measure: The rows of a setting.
        figures: Pictures of the whole table, by what follows the script's name; titles of settings by name.
        told: The whole table as Markdown, for the documentation.
    """

    name: str
    settings: Callable[[Path | None], dict[str, Setting]]
    quick: tuple[str, ...]
    measure: Callable[[Setting, Asked], pd.DataFrame]
    figures: Callable[[pd.DataFrame, Mapping[str, str]], Mapping[str, Figure]]
    told: Callable[[pd.DataFrame], str]

    def main(self, given: Sequence[str] | None = None) -> None:
        """The command line."""
        parser = command_line(self.name, "experiments.beyond", RESULTS)
        parser.add_argument(
            "names", nargs="*", metavar="SETTING", help="only these, beside what the table has of others"
        )
        parser.add_argument(
            "--traces", type=input_folder, help="folder of recorded traces, which are then settings too"
        )
        parser.add_argument("--resume", action="store_true", help="leave out settings that are in the table")
        options = parser.parse_args(given)
        try:
            known = self.settings(options.traces)
        except InputError as error:
            parser.error(str(error))
        names = options.names or (self.quick if options.quick else list(known))
        for name in names:
            if name not in known:
                parser.error(f"no setting {name!r}: {', '.join(known)}")
        chosen = {name: known[name].quick() if options.quick else known[name] for name in names}
        table = _there(options.out / f"{self.name}.csv") if options.resume or options.names else pd.DataFrame()
        if options.resume and len(table):
            chosen = {name: one for name, one in chosen.items() if name not in set(table["setting"])}
        try:
            table = self._measured(table, chosen, Asked(options.quick, options.jobs), options.out, list(known))
        except KeyboardInterrupt:
            print("Interrupted: go on with --resume.", file=sys.stderr)
            sys.exit(130)
        titles = {name: known[name].title if name in known else name for name in table["setting"].unique()}
        write(self.name, table, self.figures(table, titles), options.out)
        print(self.told(table))

    def _measured(
        self, table: pd.DataFrame, chosen: Mapping[str, Setting], asked: Asked, folder: Path, order: list[str]
    ) -> pd.DataFrame:
        """The table with the rows of these settings, in the order of all; written after each."""
        with progress_bar() as bar:
            for name, setting in chosen.items():
                task = bar.add_task(name, total=1.0)
                tell = lambda done, task=task: bar.update(task, completed=done)  # noqa: E731
                rows = self.measure(setting, replace(asked, tell=tell)).assign(setting=name)
                table = _with(table, rows, order)
                write(self.name, table, {}, folder)
                bar.update(task, completed=1.0)
        return table


def _there(path: Path) -> pd.DataFrame:
    """The table that an earlier run left; a fleet is written "13" or "4+4+2"."""
    return pd.read_csv(path, dtype={"fleet": str}) if path.exists() else pd.DataFrame()


def _with(table: pd.DataFrame, rows: pd.DataFrame, order: list[str]) -> pd.DataFrame:
    """The table with the rows of a setting new or replaced; settings that are not known come last."""
    (name,) = rows["setting"].unique()
    if len(table):
        rows = pd.concat([table[table["setting"] != name], rows], ignore_index=True)
    place = rows["setting"].map(lambda one: order.index(one) if one in order else len(order))
    rows = rows.iloc[place.argsort(kind="stable")].reset_index(drop=True)
    return rows[["setting", *(column for column in rows.columns if column != "setting")]]
