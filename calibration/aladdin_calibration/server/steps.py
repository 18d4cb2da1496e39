"""The steps observed so far, and whether a configuration needs more of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from aladdin_calibration.measurement import RAW_COLUMNS
from aladdin_calibration.server.plan import Plan

_CONFIDENCE = 0.95


class StepLog:
    """Rows of a measurement in the making.

    Args:
        plan: Says when a configuration has enough observations.
        kept: Rows of an earlier run to go on from.
    """

    def __init__(self, plan: Plan, kept: pd.DataFrame | None = None) -> None:
        self._plan = plan
        self._rows: list[tuple[object, ...]] = []
        self._seconds: dict[str, dict[int, float]] = {}
        self._at_s = 0.0
        if kept is not None:
            for row in kept.loc[:, list(RAW_COLUMNS)].itertuples(index=False, name=None):
                self._append(row)
            self._at_s = float(kept["at_s"].max())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def frame(self) -> pd.DataFrame:
        """All rows, in the columns of a measurement."""
        return pd.DataFrame(self._rows, columns=list(RAW_COLUMNS))

    def next_repeat(self, config: str) -> int:
        """The number of the next repeat of ``config``."""
        return max(self._seconds.get(config, {-1: 0.0})) + 1

    def add(
        self,
        kind: str,
        config: str,
        work: tuple[float, float, int, float],
        seconds: float,
        repeat: int,
        at_s: float,
    ) -> None:
        """Note a step.

        Args:
            kind: ``prefill``, ``decode`` or ``mixed``.
            config: Its configuration.
            work: Prompt tokens, sum of squares, batch and context tokens of the step.
            seconds: Its duration.
            repeat: Which repeat it belongs to; the chunks of one prompt share theirs.
            at_s: Seconds since this run began.
        """
        self._append((kind, config, *work, seconds, repeat, self._at_s + at_s))

    def drop_after(self, length: int) -> None:
        """Forget all rows beyond the first ``length``."""
        rows, self._rows, self._seconds = self._rows[:length], [], {}
        for row in rows:
            self._append(row)

    def enough(self, configs: Sequence[str], most: int) -> bool:
        """Whether each of ``configs`` has a tight mean or ``most`` repeats."""
        return all(self._enough(list(self._seconds.get(config, {}).values()), most) for config in configs)

    def _enough(self, seconds: list[float], most: int) -> bool:
        count = len(seconds)
        if count < self._plan.min_repeats or count >= most:
            return count >= most
        width = stats.t.ppf(0.5 + _CONFIDENCE / 2, count - 1) * np.std(seconds, ddof=1) / np.sqrt(count)
        return bool(width <= self._plan.precision * np.mean(seconds))

    def _append(self, row: tuple[object, ...]) -> None:
        values = dict(zip(RAW_COLUMNS, row, strict=True))
        of_config = self._seconds.setdefault(str(values["config"]), {})
        repeat = int(str(values["repeat"]))
        of_config[repeat] = of_config.get(repeat, 0.0) + float(str(values["seconds"]))
        self._rows.append(row)
