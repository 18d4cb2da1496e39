"""A request trace: who arrives when, with how many prompt and output tokens."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from aladdin_traces import checks
from aladdin_traces.columns import (
    ClassArray,
    FloatArray,
    Labels,
    TokenArray,
    arrival_column,
    label_column,
    same_labels,
    whole_column,
)
from aladdin_traces.errors import InputError
from aladdin_traces.prefix import PrefixBlocks

SLO_CLASSES = 4
"""Number of SLO classes; class indices run from 0 to 3."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in the order of their arrival, as parallel read-only arrays of one length.

    Build one with `from_arrays`, which checks everything. The plain constructor trusts its caller; generators use it,
    and only there may a trace be empty. Two traces are equal when their requests are; ``dropped`` does not count.

    Attributes:
        arrival_s: Arrival times in seconds from the start of the trace, float64, ascending, >= 0.
        prompt_tokens: Prompt lengths in tokens, int32, >= 1.
        output_tokens: Output lengths in tokens, int32, >= 1.
        klass: Index of the SLO class, int8, 0 to 3.
        prefix_blocks: Which prompts share which prefix, where that is known.
        dropped: Rows that a reader left out, counted by reason.
        notes: What else a reader did to the rows, counted by kind: those it moved to sort them, for example.
        session: Conversation of each request under the name it has in the source, where that is known. Categories are
            text; a request of no session has the code -1.
        model: Model that was asked, likewise.
        request_id: The source's own id of the request, likewise.
    """

    arrival_s: FloatArray
    prompt_tokens: TokenArray
    output_tokens: TokenArray
    klass: ClassArray
    prefix_blocks: PrefixBlocks | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    session: pd.Categorical | None = None
    model: pd.Categorical | None = None
    request_id: pd.Categorical | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only: a trace is shared between many simulations."""
        for name, dtype in _DTYPES.items():
            frozen = np.ascontiguousarray(getattr(self, name), dtype=dtype).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)

    @classmethod
    def from_arrays(
        cls,
        arrival_s: npt.ArrayLike,
        prompt_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
        klass: npt.ArrayLike | None = None,
        *,
        prefix_blocks: PrefixBlocks | None = None,
        dropped: Mapping[str, int] | None = None,
        notes: Mapping[str, int] | None = None,
        session: Labels | None = None,
        model: Labels | None = None,
        request_id: Labels | None = None,
    ) -> "Trace":
        """Check and copy flat arrays or lists of one length n >= 1.

        Args:
            arrival_s: Seconds, finite, >= 0, ascending (equal times are allowed).
            prompt_tokens: Whole numbers from 1 to 2**31 - 1.
            output_tokens: The same.
            klass: Whole numbers from 0 to 3; all 0 when left out.
            prefix_blocks: Blocks of n requests.
            dropped: Rows left out by a reader, counted by reason.
            notes: Other things that a reader did, counted by kind.
            session: n names, text; None or an empty text where there is none.
            model: The same.
            request_id: The same.

        Raises:
            InputError: Names the array, the first element at fault and what it must be.
        """
        arrivals = arrival_column(arrival_s)
        prompts = whole_column("prompt_tokens", prompt_tokens, 1, checks.TOKENS_MAX)
        outputs = whole_column("output_tokens", output_tokens, 1, checks.TOKENS_MAX)
        classes = np.zeros(len(arrivals)) if klass is None else whole_column("klass", klass, 0, SLO_CLASSES - 1)
        for name, column in (("prompt_tokens", prompts), ("output_tokens", outputs), ("klass", classes)):
            if len(column) != len(arrivals):
                raise InputError(name, f"{len(column)} values", f"give as many as arrival_s has ({len(arrivals)})")
        if prefix_blocks is not None and len(prefix_blocks) != len(arrivals):
            mend = f"give as many as arrival_s has ({len(arrivals)})"
            raise InputError("prefix_blocks", f"{len(prefix_blocks)} requests", mend)
        given = {"session": session, "model": model, "request_id": request_id}
        labels = {name: None if v is None else label_column(name, v, len(arrivals)) for name, v in given.items()}
        tokens = (prompts.astype(np.int32), outputs.astype(np.int32))
        return cls(
            arrivals,
            *tokens,
            classes.astype(np.int8),
            prefix_blocks=prefix_blocks,
            dropped=dropped or {},
            notes=notes or {},
            session=labels["session"],
            model=labels["model"],
            request_id=labels["request_id"],
        )

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.arrival_s)

    def __eq__(self, other: object) -> bool:
        """Compare the requests, element by element."""
        if not isinstance(other, Trace):
            return NotImplemented
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _DTYPES)
        same = same and all(same_labels(getattr(self, name), getattr(other, name)) for name in LABELS)
        return same and self.prefix_blocks == other.prefix_blocks

    def __hash__(self) -> int:
        """Hash the requests, in agreement with ``==``."""
        # Adding 0.0 turns -0.0 into 0.0: the two are equal, so they must hash alike.
        return hash(((self.arrival_s + 0.0).tobytes(), self.prompt_tokens.tobytes(), self.output_tokens.tobytes()))

    def __repr__(self) -> str:
        """Say how much the trace holds, not every request."""
        return f"Trace({len(self)} requests in {self.duration_s:.6g} s)"

    @property
    def duration_s(self) -> float:
        """Seconds from the start of the trace (time 0) to the last arrival; 0 for an empty trace."""
        return float(self.arrival_s[-1]) if len(self) else 0.0

    @property
    def rate_rps(self) -> float:
        """Mean requests per second: requests over `duration_s`; 0 when empty, infinite when all arrive at time 0."""
        if len(self) == 0:
            return 0.0
        return len(self) / self.duration_s if self.duration_s > 0 else math.inf

    def window(self, start_s: float, end_s: float = math.inf) -> "Trace":
        """Cut out the requests with ``start_s <= arrival < end_s`` and let time 0 be ``start_s``.

        The result may be empty.

        Raises:
            InputError: ``start_s`` is negative or ``end_s`` is not after it.
        """
        start = checks.number("start_s", start_s, low=0.0)
        if end_s != math.inf:
            checks.number("end_s", end_s, above=start)
        first, last = np.searchsorted(self.arrival_s, [start, end_s], side="left")
        part = self.take(np.arange(first, last))
        return dataclasses.replace(part, arrival_s=part.arrival_s - start)

    def take(self, requests: npt.NDArray[np.int64]) -> "Trace":
        """Return these requests (indices, in the order of arrival), with their times as they are."""
        return dataclasses.replace(self, **{name: value.take(requests) for name, value in self.columns().items()})

    def columns(self) -> dict[str, Any]:
        """Return what the trace has of each request by name: arrays, labels and blocks, each with a ``take``."""
        names = (*_DTYPES, *LABELS, "prefix_blocks")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def with_arrivals(self, arrival_s: npt.ArrayLike) -> "Trace":
        """Return the requests at other times: lengths that came without times, for example, with an arrival law's.

        Args:
            arrival_s: Seconds, finite, >= 0, ascending, as many as there are requests; more are left unused.

        Raises:
            InputError: Times are not valid, or too few.
        """
        arrivals = arrival_column(arrival_s)
        if len(arrivals) < len(self):
            raise InputError("arrival_s", f"{len(arrivals)} values", f"give at least {len(self)}, one per request")
        return dataclasses.replace(self, arrival_s=arrivals[: len(self)])

    def scale_rate(self, factor: float) -> "Trace":
        """Return the trace with every arrival time divided by ``factor`` > 0: ``factor`` times the rate.

        Raises:
            InputError: ``factor`` is not a number > 0, or so small that times would overflow.
        """
        divisor = checks.number("factor", factor, above=0.0)
        with np.errstate(over="ignore"):
            arrivals = self.arrival_s / divisor
        if len(arrivals) and not math.isfinite(arrivals[-1]):
            raise InputError("factor", factor, "give a larger number; the arrival times overflow")
        return dataclasses.replace(self, arrival_s=arrivals)

    def clip(self, max_prompt_tokens: int = checks.TOKENS_MAX, max_output_tokens: int = checks.TOKENS_MAX) -> "Trace":
        """Return the trace with lengths cut down to the two maxima (tokens, >= 1).

        Raises:
            InputError: A maximum is not a whole number from 1 to 2**31 - 1.
        """
        prompt = checks.whole("max_prompt_tokens", max_prompt_tokens, low=1, high=checks.TOKENS_MAX)
        output = checks.whole("max_output_tokens", max_output_tokens, low=1, high=checks.TOKENS_MAX)
        return dataclasses.replace(
            self,
            prompt_tokens=np.minimum(self.prompt_tokens, np.int32(prompt)),
            output_tokens=np.minimum(self.output_tokens, np.int32(output)),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a copy as a table: ``arrival_s, prompt_tokens, output_tokens, klass`` and what else there is.

        Labels are categorical columns; ``prefix_blocks`` holds an int64 array for each request.
        """
        frame = pd.DataFrame({name: getattr(self, name).copy() for name in _DTYPES})
        for name in LABELS:
            if getattr(self, name) is not None:
                frame[name] = getattr(self, name)
        if self.prefix_blocks is not None:
            frame["prefix_blocks"] = pd.Series(np.split(self.prefix_blocks.ids, self.prefix_blocks.offsets[1:-1]))
        return frame


LABELS = ("session", "model", "request_id")
"""Names of the columns of original names."""

_DTYPES: dict[str, type[np.generic]] = {
    "arrival_s": np.float64,
    "prompt_tokens": np.int32,
    "output_tokens": np.int32,
    "klass": np.int8,
}
