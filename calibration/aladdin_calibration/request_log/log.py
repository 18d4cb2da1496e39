"""A served request log in memory, and the limits of the server that served it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from aladdin_env.latency import DecodeLaw, LatencyProfile, PrefillLaw, Provenance
from aladdin_env.scenario import WorkerType
from aladdin_traces import Trace, checks
from aladdin_traces.errors import InputError

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# A token never takes that long or short: outside of it the times are in another unit.
_SECONDS_PER_TOKEN = (1e-4, 1.0)
# A first token within so many times the log's time per token did not wait for others to end: these take hundreds.
_SOON_TOKENS = 50.0


@dataclass(frozen=True)
class EngineLimits:
    """What the server was started with.

    Attributes:
        max_num_seqs: most requests running at once, 1 to 2048.
        max_num_batched_tokens: token budget of a step, at least ``max_num_seqs``.
        block_size: tokens per KV block, 1 to 1024.
        kv_capacity_tokens: KV tokens of the worker if its start-up log says so; None lets the fit find it.
        scheduler: ``chunked`` (vLLM V1) or ``prefill_first`` (V0).

    Raises:
        InputError: a limit out of its range.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int = 16
    kv_capacity_tokens: int | None = None
    scheduler: str = "chunked"

    def __post_init__(self) -> None:
        """Let the simulator's own checks judge them."""
        if self.kv_capacity_tokens is not None:
            checks.whole("kv_capacity_tokens", self.kv_capacity_tokens, low=self.block_size, high=checks.TOKENS_MAX)
        self.worker()

    def worker(self) -> WorkerType:
        """The worker with these limits; its laws and its KV room are placeholders that every run replaces."""
        nothing = Provenance("", "", 1, "", "", "", "", "", {})
        laws = PrefillLaw.linear(0.0, 1.0), DecodeLaw.linear(0.0, 0.0, 1.0)
        profile = LatencyProfile("log", *laws, 0.0, 0.0, 1.0, 0.0, checks.TOKENS_MAX, 1, nothing)
        return WorkerType(
            "log",
            profile,
            initial=1,
            maximum=1,
            scheduler=self.scheduler,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            block_size=self.block_size,
        )


@dataclass(frozen=True, eq=False)
class RequestLog:
    """What became of each request of one run of one server, in the order of arrival. Build it with `from_arrays`.

    Attributes:
        trace: arrivals (seconds from the first one) and lengths, n requests.
        first_token_s: when the client had the first token, seconds on the same clock, shape (n,).
        last_token_s: when it had the last one, shape (n,).
        told: what else the log's file says of its run, as text, by the names of its columns.
    """

    trace: Trace
    first_token_s: Array
    last_token_s: Array
    told: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls,
        arrival_s: npt.ArrayLike,
        first_token_s: npt.ArrayLike,
        last_token_s: npt.ArrayLike,
        prompt_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
    ) -> RequestLog:
        """Check and sort flat arrays of one length; the clock may start anywhere.

        Raises:
            InputError: a first token before its arrival, a last one before the first, lengths below 1, or times that
                are no seconds.
        """
        arrival, first, last = (np.asarray(v, dtype=np.float64) for v in (arrival_s, first_token_s, last_token_s))
        for name, times in (("first_token_s", first), ("last_token_s", last)):
            checks.same_length(name, times.tolist(), "arrival_s", arrival.tolist())
            _refuse(name, times, ~np.isfinite(times), "give finite seconds; leave out requests that were not served")
        _refuse("first_token_s", first, first < arrival, "it is before the request's arrival; use one clock for all")
        _refuse("last_token_s", last, last < first, "it is before the request's first token; use one clock for all")
        order = np.argsort(arrival, kind="stable")
        start = arrival[order[0]] if len(order) else 0.0
        lengths = (np.asarray(v)[order] for v in (prompt_tokens, output_tokens))
        log = cls(Trace.from_arrays(arrival[order] - start, *lengths), first[order] - start, last[order] - start)
        log._check_unit()
        return log

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.trace)

    @property
    def ttft_s(self) -> Array:
        """Seconds from arrival to the first token, shape (n,)."""
        return self.first_token_s - self.trace.arrival_s

    @property
    def latency_s(self) -> Array:
        """Seconds from arrival to the last token, shape (n,)."""
        return self.last_token_s - self.trace.arrival_s

    @property
    def tpot_s(self) -> Array:
        """Seconds per token after the first, shape (n,); NaN for requests of one token."""
        return per_token(self.last_token_s - self.first_token_s, self.trace.output_tokens)

    @property
    def soon_s(self) -> float:
        """The longest wait for a first token of a request that was hardly queued, seconds."""
        return _SOON_TOKENS * float(np.nanmedian(self.tpot_s))

    @property
    def hardly_queued(self) -> Flags:
        """Whose first token came within `soon_s`, shape (n,)."""
        return np.asarray(self.ttft_s <= self.soon_s, dtype=np.bool_)

    @property
    def decoding_at_once(self) -> int:
        """Most requests that were between their first and their last token at once.

        Each counts half a time per token less at both ends, so that one whose slot another took at once is gone.
        """
        half_s = float(np.nanmedian(self.tpot_s)) / 2
        begin, end = np.sort(self.first_token_s + half_s), np.sort(self.last_token_s - half_s)
        ended = np.searchsorted(end, begin, side="right")
        return int((np.arange(1, len(begin) + 1) - ended).max())

    def _check_unit(self) -> None:
        paced = self.trace.output_tokens > 1
        if not paced.any():
            raise InputError("output_tokens", "1 in all rows", "give requests with more than one token")
        pace, (low, high) = float(np.median(self.tpot_s[paced])), _SECONDS_PER_TOKEN
        if not low <= pace <= high:
            hint = " (these look like milliseconds)" if pace > high else ""
            found = f"{pace:.3g} s per token in the median"
            raise InputError("last_token_s - first_token_s", found, f"give all times in seconds{hint}")


def per_token(seconds: Array, output_tokens: npt.NDArray[np.int32]) -> Array:
    """Seconds between tokens of requests whose tokens after the first took ``seconds``; NaN where there are none."""
    gaps = output_tokens.astype(np.float64) - 1.0
    paced = np.divide(seconds, gaps, out=np.full(len(gaps), np.nan), where=gaps > 0)
    return np.asarray(paced, dtype=np.float64)


def _refuse(name: str, values: Array, bad: npt.NDArray[np.bool_], mend: str) -> None:
    if bad.any():
        at = int(np.argmax(bad))
        raise InputError(f"{name}[{at}]", float(values[at]), mend)
