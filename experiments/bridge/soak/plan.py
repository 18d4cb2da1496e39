"""What is asked and what is broken, drawn beforehand from one generator: the same seed gives the same plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STREAM, WHOLE, SLOW, MALFORMED = "stream", "whole", "slow reader", "malformed"
LEAVES_EARLY, LEAVES_LATE = "hang-up before the first byte", "hang-up in decode"
#: Share of each kind of request.
SHARES = {STREAM: 0.60, WHOLE: 0.12, SLOW: 0.06, LEAVES_EARLY: 0.08, LEAVES_LATE: 0.07, MALFORMED: 0.07}
MISTAKES = (
    "broken JSON", "no object", "wrong content type", "body cut short", "no HTTP", "long headers", "unknown path",
)  # fmt: skip
KILL, TERMINATE, STOP = "SIGKILL", "SIGTERM", "SIGSTOP"
FAULTS = (KILL, TERMINATE, STOP)

_PROMPT_TOKENS = (120.0, 0.8, 8, 1200)  # median, sigma of the logarithm, least, most
_OUTPUT_TOKENS = (36.0, 0.7, 4, 200)
_PATIENCE_S = 0.4
_FAULT_EVERY_S = 25.0
_QUIET_START, _QUIET_END = 0.05, 0.15  # share of the time without faults: the last restarts are seen, too
_LONGEST_STOP_S = 6.0


@dataclass(frozen=True)
class Planned:
    """A request.

    Attributes:
        number: Its place among all.
        at_s: When it is sent, from the beginning of the load.
        kind: Such as :data:`STREAM`.
        chat: Whether it is a chat.
        prompt_tokens: About so long is its prompt.
        tokens: Exactly so many tokens it asks for.
        wants_usage: Whether a stream is to count its tokens.
        patience_s: Who hangs up before the first byte waits for so long.
        leaves_after: Who hangs up in decode has read so many events.
        mistake: What is wrong with it; "": nothing.
    """

    number: int
    at_s: float
    kind: str
    chat: bool
    prompt_tokens: int
    tokens: int
    wants_usage: bool
    patience_s: float
    leaves_after: int
    mistake: str

    @property
    def work_tokens(self) -> float:
        """Tokens that a worker makes for it, by and large."""
        if self.kind in (MALFORMED, LEAVES_EARLY):
            return 0.0
        return float(self.leaves_after if self.kind == LEAVES_LATE else self.tokens)


@dataclass(frozen=True)
class PlannedFault:
    """Something that happens to a worker.

    Attributes:
        at_s: When, from the beginning of the load.
        kind: The signal.
        coin: Chooses the worker, 0 to 1.
        pause_s: How long it is stopped.
    """

    at_s: float
    kind: str
    coin: float
    pause_s: float


class Draws:
    """Draws requests one after the other, and faults."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._number = 0

    def request(self, at_s: float = 0.0, kind: str | None = None) -> Planned:
        """The next request; ``kind``: only of this one."""
        rng, self._number = self._rng, self._number + 1
        drawn = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        tokens = self._length(*_OUTPUT_TOKENS)
        mistake = str(rng.choice(MISTAKES))
        planned = Planned(
            number=self._number, at_s=at_s, kind=kind or drawn, chat=bool(rng.random() < 0.5),
            prompt_tokens=self._length(*_PROMPT_TOKENS), tokens=tokens, wants_usage=bool(rng.random() < 0.5),
            patience_s=float(rng.exponential(_PATIENCE_S)), leaves_after=int(rng.integers(1, tokens)),
            mistake=mistake if (kind or drawn) == MALFORMED else "",
        )  # fmt: skip
        return planned

    def requests(self, rate_rps: float, seconds: float) -> list[Planned]:
        """Poisson arrivals."""
        found: list[Planned] = []
        at_s = float(self._rng.exponential(1.0 / rate_rps))
        while at_s < seconds:
            found.append(self.request(at_s))
            at_s += float(self._rng.exponential(1.0 / rate_rps))
        return found

    def faults(self, seconds: float) -> list[PlannedFault]:
        """Each kind equally often, at random times, at least once."""
        rng = self._rng
        rounds = max(1, math.floor(seconds / _FAULT_EVERY_S / len(FAULTS)))
        kinds = [str(kind) for _ in range(rounds) for kind in rng.permutation(FAULTS)]
        times = np.sort(rng.uniform(_QUIET_START * seconds, (1.0 - _QUIET_END) * seconds, len(kinds)))
        longest_s = min(_LONGEST_STOP_S, 0.1 * seconds)
        return [
            PlannedFault(float(at_s), kind, float(rng.random()), float(rng.uniform(0.3, 1.0) * longest_s))
            for at_s, kind in zip(times, kinds, strict=True)
        ]

    def _length(self, median: float, sigma: float, least: int, most: int) -> int:
        return int(np.clip(round(float(self._rng.lognormal(math.log(median), sigma))), least, most))


def mean_work(requests: Sequence[Planned]) -> float:
    """Tokens per request, those included that ask for none."""
    return sum(planned.work_tokens for planned in requests) / len(requests)
