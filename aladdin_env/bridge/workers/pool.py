"""What the control loop and the front know of a pool of workers, whatever it consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.errors import InputError
from aladdin_traces import checks

MOST_WORKERS = 8192  # as many slots as a scenario may have


@dataclass(frozen=True)
class Limits:
    """Fewest and most workers that a pool may be asked for."""

    minimum: int
    maximum: int

    def __post_init__(self) -> None:
        checks.whole("max", self.maximum, low=1, high=MOST_WORKERS)
        checks.whole("min", self.minimum, low=0, high=self.maximum)

    def clip(self, wanted: Sequence[int]) -> int:
        """The one number of ``wanted``, brought within the limits: a pool has workers of one type.

        Raises:
            InputError: There are several.
        """
        if len(wanted) != 1:
            raise InputError("wanted", list(wanted), "give one number: this pool has workers of one type")
        return min(max(int(wanted[0]), self.minimum), self.maximum)


class WorkerPool(Protocol):
    """Workers that come and go. Their slots are there from the beginning and stay; who is in them changes.

    ``start`` first, once; then ``scale_to`` at any time; ``stop`` last, in any state. All on one event loop.
    """

    @property
    def workers(self) -> Sequence[LiveWorker]:
        """All slots, by number: as many as there may be workers at most."""
        ...

    @property
    def can_scale(self) -> bool:
        """Whether ``scale_to`` changes anything; otherwise it only notes what is wanted."""
        ...

    @property
    def limits(self) -> Limits:
        """Fewest and most workers."""
        ...

    @property
    def wanted(self) -> tuple[int, ...]:
        """How many workers of each type should run, as ``scale_to`` was last told; at first as many as do run."""
        ...

    @property
    def cold_start_s(self) -> float | None:
        """Mean time from the wish for a worker until it is READY, seconds: measured, or the prior; None: unknown."""
        ...

    async def start(self) -> None:
        """Begin; workers may still be STARTING, or FAILED, when this returns.

        Raises:
            InputError: Something given cannot be right: an address, a command, a model, a missing permission.
            OutsideFault: Something that the pool cannot do without does not answer.
        """
        ...

    async def scale_to(self, wanted: Sequence[int]) -> None:
        """Have ``wanted`` workers of each type, soon: this returns when it is under way, not when it is done.

        Raises:
            OutsideFault: It cannot be done now; the same call may succeed later.
        """
        ...

    async def stop(self, drain_s: float) -> None:
        """Give no worker new requests, wait up to ``drain_s`` seconds for those in flight, then let go of all."""
        ...
