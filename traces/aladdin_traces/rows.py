"""From the columns of a file to a trace: order, rows without tokens, and the clock."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.tables import BoolArray, Table
from aladdin_traces.trace import Trace

MOVED = "rows moved to sort by arrival"
"""Note of a trace whose rows did not stand in the order of their arrival."""

_UNSORTED = "it is before the row above it; sort the rows by arrival, or read them with the option sort"


@dataclass(frozen=True)
class Rows:
    """The requests of a file, as they stand in it; all columns have one length.

    Attributes:
        table: Where they come from, for messages.
        prompt_tokens: Prompt lengths; a row with one of the two lengths <= 0 is dropped (a failed request).
        output_tokens: Output lengths.
        arrival_s: Seconds from any origin; None where the file has no times: all requests arrive at 0.
        arrival: Name of the column of times, for messages.
        klass: SLO classes, 0 to 3.
        session: Names of conversations.
        model: Names of models.
        request_id: Ids of requests.
        prefix_blocks: Blocks of the prompts.
    """

    table: Table
    prompt_tokens: FloatArray
    output_tokens: FloatArray
    arrival_s: FloatArray | None = None
    arrival: str = "arrival"
    klass: FloatArray | None = None
    session: pd.Categorical | None = None
    model: pd.Categorical | None = None
    request_id: pd.Categorical | None = None
    prefix_blocks: PrefixBlocks | None = None

    def trace(
        self,
        sort: bool = False,
        wanted: dict[str, BoolArray] | None = None,
        notes: dict[str, int] | None = None,
        origin_s: float | None = None,
    ) -> Trace:
        """Check the order of the rows, drop those without tokens and count them, start the clock at the first row.

        Args:
            sort: Sort rows that are out of order and count them, rather than refuse them.
            wanted: Further rows to drop: masks of those to keep, by the reason for which the others are dropped.
            notes: What the reader has done to the rows.
            origin_s: Where the clock starts; by default at the first row.

        Raises:
            InputError: A time goes back, or no row is left.
        """
        count = len(self.prompt_tokens)
        arrivals = np.zeros(count) if self.arrival_s is None else self.arrival_s
        goes_back = np.concatenate(([False], arrivals[1:] < arrivals[:-1]))
        if not sort:
            self.table.refuse(self.arrival, goes_back, _UNSORTED)
        dropped, keep = self._kept(wanted or {})
        kept = np.flatnonzero(keep)
        if goes_back.any():
            kept = kept[np.argsort(arrivals[kept], kind="stable")]
        return Trace.from_arrays(
            arrivals[kept] - (arrivals.min() if origin_s is None else origin_s),
            self.prompt_tokens[kept],
            self.output_tokens[kept],
            None if self.klass is None else self.klass[kept],
            dropped=dropped,
            notes={**(notes or {}), **({MOVED: int(goes_back.sum())} if goes_back.any() else {})},
            prefix_blocks=None if self.prefix_blocks is None else self.prefix_blocks.take(kept),
            session=None if self.session is None else self.session.take(kept),
            model=None if self.model is None else self.model.take(kept),
            request_id=None if self.request_id is None else self.request_id.take(kept),
        )

    def _kept(self, wanted: dict[str, BoolArray]) -> tuple[dict[str, int], BoolArray]:
        reasons = {
            **wanted,
            "prompt_tokens <= 0": self.prompt_tokens > 0,
            "output_tokens <= 0": self.output_tokens > 0,
        }
        keep = np.ones(len(self.prompt_tokens), dtype=bool)
        dropped: dict[str, int] = {}
        for reason, mask in reasons.items():
            lost = int((keep & ~mask).sum())
            keep &= mask
            if lost:
                dropped[reason] = lost
        if not keep.any():
            why = "every row has 0 tokens; give requests that were served"
            if any(reason in wanted for reason in dropped):
                why = f"no row is left ({', '.join(f'{n} with {reason}' for reason, n in dropped.items())})"
            raise InputError(self.table.name, f"{len(keep)} rows", why)
        return dropped, keep
