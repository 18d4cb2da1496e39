"""Which parts of prompts are shared: the ids of their blocks, as prefix caches see them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from aladdin_traces import checks
from aladdin_traces.errors import InputError

_IdArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PrefixBlocks:
    """Ids of the blocks of each prompt, first block first: two prompts share a prefix as far as their ids agree.

    An id stands for its block and everything before it, as the chained hashes of a serving engine do. A last block that
    is only partly filled may be listed. A request may have no ids at all.

    Attributes:
        offsets: (requests + 1,) int64: request ``i`` has ``ids[offsets[i]:offsets[i + 1]]``.
        ids: All ids, int64, >= 0, as the source gives them or numbered by first appearance.
        block_size: Tokens of a block, >= 1.
    """

    offsets: _IdArray
    ids: _IdArray
    block_size: int

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        for name in ("offsets", "ids"):
            frozen = np.ascontiguousarray(getattr(self, name), dtype=np.int64).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]], block_size: int) -> "PrefixBlocks":
        """Check and join the ids of each request.

        Raises:
            InputError: An id is no whole number from 0 to 2**63 - 1, or ``block_size`` no whole number >= 1.
        """
        size = checks.whole("block_size", block_size, low=1, high=checks.TOKENS_MAX)
        offsets = np.concatenate(([0], np.cumsum([len(part) for part in lists], dtype=np.int64)))
        flat = [value for part in lists for value in part]
        try:
            ids = np.array(flat, dtype=np.int64) if flat else np.zeros(0, np.int64)
            exact = all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in flat)
        except (OverflowError, TypeError, ValueError):
            exact = False
        if not exact or (len(ids) and int(ids.min()) < 0):
            bad = next(
                v for v in flat if isinstance(v, bool) or not isinstance(v, int | np.integer) or not 0 <= v < 2**63
            )
            raise InputError("prefix_blocks", bad, "give block ids as whole numbers from 0 to 2**63 - 1")
        return cls(offsets, ids, size)

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.offsets) - 1

    def __getitem__(self, request: int) -> _IdArray:
        """Return the ids of one request."""
        return self.ids[self.offsets[request] : self.offsets[request + 1]]

    def __eq__(self, other: object) -> bool:
        """Compare block size and ids."""
        if not isinstance(other, PrefixBlocks):
            return NotImplemented
        same = self.block_size == other.block_size and np.array_equal(self.offsets, other.offsets)
        return bool(same and np.array_equal(self.ids, other.ids))

    def __hash__(self) -> int:
        """Hash in agreement with ``==``."""
        return hash((self.block_size, self.offsets.tobytes(), self.ids.tobytes()))

    @property
    def counts(self) -> _IdArray:
        """Blocks of each request, int64."""
        return np.diff(self.offsets)

    @cached_property
    def usable_counts(self) -> _IdArray:
        """Blocks of each request before the first id that it has had already, int64.

        Ids stand for whole prefixes, so that none can come twice; where a file says otherwise the rest is of no use.
        """
        owner = np.repeat(np.arange(len(self)), self.counts)
        order = np.lexsort((self.ids, owner))  # stable: of equal ids the first comes first
        again = np.zeros(len(order), np.bool_)
        again[1:] = (np.diff(owner[order]) == 0) & (np.diff(self.ids[order]) == 0)
        usable = self.counts.copy()
        late = order[again]
        np.minimum.at(usable, owner[late], late - self.offsets[owner[late]])
        return usable

    def take(self, requests: npt.NDArray[np.int64]) -> "PrefixBlocks":
        """Return the blocks of these requests (indices), in their order."""
        counts = self.counts[requests]
        offsets = np.concatenate(([0], np.cumsum(counts)))
        # position within the request + where the request begins
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        return dataclasses.replace(
            self, offsets=offsets, ids=self.ids[np.repeat(self.offsets[requests], counts) + within]
        )

    def numbered(self) -> tuple[npt.NDArray[np.int32], int]:
        """Return the ids replaced by 0, 1, ... in their order, int32, and how many different ones there are."""
        distinct, codes = np.unique(self.ids, return_inverse=True)
        return codes.astype(np.int32), len(distinct)
