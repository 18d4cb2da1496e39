"""The common form of observed steps: one row per step of continuous batching.

==================  ====================================================================================
``kind``            ``prefill``, ``decode`` or ``mixed``
``config``          the experiment that the step belongs to; held out as a whole, never split
``prefill_tokens``  prompt tokens computed in the step
``sum_squares``     sum over its chunks of ``n (2 past + n)``, token^2
``batch``           requests that decode in the step
``context_tokens``  tokens of context of these requests together
``seconds``         duration of the step
==================  ====================================================================================

Two more columns, where they are known, tell a slow machine from a slow configuration: ``repeat`` (which repetition of
its configuration, from 0) and ``at_s`` (seconds since the run began).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from aladdin_traces.errors import InputError

COLUMNS = ("kind", "config", "prefill_tokens", "sum_squares", "batch", "context_tokens", "seconds")
TRAFFIC = "traffic"  # how the names of configurations begin in which requests come and go as in service
KINDS = ("prefill", "decode", "mixed")
SHORTEST_S = 5e-5  # no engine makes a step in less; a time below it is in another unit
LONGEST_S = {"prefill": 600.0, "decode": 30.0, "mixed": 600.0}
# The median decode step of an engine that anybody serves with; per step the limits above are wider, for stragglers.
TYPICAL_DECODE_S = (2e-4, 3.0)
_FALL, _RANK = 0.8, -0.5  # times that fall below this share, in this order, are no noise
_ENOUGH = 4  # configurations of a kind
_ALIKE = 1e-3  # steps of different sizes that differ by less in their times were not timed

Array = NDArray[np.float64]


def column(steps: pd.DataFrame, name: str) -> Array:
    """One column as float64."""
    return steps[name].to_numpy(dtype=np.float64)


def of_kind(steps: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The steps of one kind."""
    return steps[steps["kind"] == kind]


def check_durations(steps: pd.DataFrame, field: str = "steps.seconds", per_second: float = 1.0) -> None:
    """InputError where a step lasts longer or shorter than any can: most likely its unit is another one.

    Args:
        steps: Columns ``kind`` and ``seconds``.
        field: What to call the column of times.
        per_second: How many of the column's units are a second, to show the value as it was given.
    """
    seconds = column(steps, "seconds")
    unit = {1.0: "seconds", 1e3: "milliseconds"}[per_second]
    longest = steps["kind"].map(LONGEST_S).to_numpy(dtype=np.float64)
    odd = np.flatnonzero(~((seconds >= SHORTEST_S) & (seconds <= longest)))
    if len(odd):
        row = int(odd[0])
        low, high = SHORTEST_S * per_second, longest[row] * per_second
        mend = f"give {unit}: a {steps['kind'].iloc[row]} step takes {low:g} to {high:g} {unit}"
        raise InputError(f"{field}[{steps.index[row]}]", seconds[row] * per_second, mend)
    decode = seconds[(steps["kind"] == "decode").to_numpy()]
    if len(decode) and not TYPICAL_DECODE_S[0] <= float(np.median(decode)) <= TYPICAL_DECODE_S[1]:
        low, high = (limit * per_second for limit in TYPICAL_DECODE_S)
        mend = f"give {unit}: the median decode step of an engine takes {low:g} to {high:g} {unit}"
        raise InputError(field, float(np.median(decode)) * per_second, mend)


def check_enough(steps: pd.DataFrame) -> None:
    """InputError unless there are steps enough to fit the laws of prefill and decode, in a range of sizes."""
    needs = {
        "prefill": {"prompt tokens in the step": ("prefill_tokens", "64 to 2048")},
        "decode": {"requests in the step": ("batch", "1 to 64"), "context tokens": ("context_tokens", "128 to 32768")},
    }
    counts = {kind: of_kind(steps, kind)["config"].nunique() for kind in needs}
    lacks = {kind: f"{count} configurations of {kind} steps" for kind, count in counts.items() if count < _ENOUGH}
    if lacks:
        mend = f"measure {' and '.join(lacks)} steps of {_ENOUGH} or more{' each' if len(lacks) > 1 else ''}"
        raise InputError("steps", ", ".join(lacks.values()), mend)
    for kind, sizes in needs.items():
        rows = of_kind(steps, kind)
        for what, (name, span) in sizes.items():
            known = sorted(set(rows[name]))
            if len(known) < 2:
                raise InputError(
                    f"steps.{name}", known[0], f"measure {kind} steps of more sizes: {what} from, say, {span}"
                )


def check_timed(steps: pd.DataFrame) -> None:
    """InputError where steps of different sizes all take the same time: whatever was timed, it was not these steps."""
    for kind in KINDS:
        rows = of_kind(steps, kind)
        sizes = len(rows[["prefill_tokens", "batch", "context_tokens"]].drop_duplicates())
        typical = rows.groupby("config")["seconds"].median()
        alike = len(typical) >= _ENOUGH and typical.max() <= (1.0 + _ALIKE) * typical.min()
        if alike and sizes >= _ENOUGH:
            shown = f"{typical.median():.4g} s in all {len(typical)} configurations of {kind} steps"
            raise InputError(
                "steps.seconds", shown, "check the clock: steps of different sizes do not take equally long"
            )


def check_rising(steps: pd.DataFrame) -> None:
    """InputError where steps get faster as they get larger: a law of such times would decrease, and none may."""
    for kind, name in (("prefill", "prefill_tokens"), ("decode", "batch"), ("decode", "context_tokens")):
        typical = of_kind(steps, kind).groupby(name)["seconds"].median()
        first, last = float(typical.iloc[0]), float(typical.iloc[-1])
        if len(typical) > 2 and last < _FALL * first and spearmanr(typical.index, typical).statistic < _RANK:
            shown = f"{first:.4g} s at {typical.index[0]:g}, {last:.4g} s at {typical.index[-1]:g}"
            mend = f"check the columns {name} and seconds: a law of {kind} time that decreases in {name} is refused"
            raise InputError(f"steps.{name}", shown, mend)
