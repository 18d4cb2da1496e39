"""Conversations: requests that come in sessions, each with the history of its session in front."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from aladdin_traces import checks
from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.arrivals import ARRIVALS
from aladdin_traces.checks import TOKENS_MAX
from aladdin_traces.columns import FloatArray, TokenArray
from aladdin_traces.errors import InputError
from aladdin_traces.lengths import LENGTH_LAWS, LengthLaw, check_token_law
from aladdin_traces.point_processes import check_size
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.request_law import RequestLaw
from aladdin_traces.token_laws import TokenLaw
from aladdin_traces.trace import Trace

_IdArray = npt.NDArray[np.int64]
_IndexArray = npt.NDArray[np.signedinteger[Any]]  # int32 where it holds the numbers
_BoolArray = npt.NDArray[np.bool_]
_PIECE = 2**18  # turns handled at a time
_MEAN_LEVELS = (np.arange(20_000) + 0.5) / 20_000


@dataclass(frozen=True)
class Sessions(RequestLaw):
    """Sessions of several turns: think time between them, prompts that grow by what was said, shared system prompts.

    The prompt of a turn is the kept part of the context so far (prompt and output of the turn before), then new text.
    A turn keeps the whole context, or, with probability ``rewrites``, only a uniformly drawn first part of it: clients
    cut, edit and regenerate. The time from turn to turn is lognormal, arrival to arrival.

    A sample is in equilibrium: turns after the horizon are moved to its start, as the late turns of sessions that began
    before it, whose blocks nobody has seen yet. The trace says which requests belong together, and its prefix blocks
    say what they share; the last, partly filled block of a prompt is its own.

    Attributes:
        starts: Law of the first turns' arrivals.
        turns: Law of the number of turns of a session, >= 1.
        first: Law of the first prompt, without the system prompt, and its output.
        later: Law of the new text of a later turn, and its output.
        think_mu: Mean of the logarithm of the seconds from a turn to the next, -20 to 20.
        think_sigma: Standard deviation of that logarithm, 0 to 5.
        rewrites: Probability that a turn keeps only a part of the context, 0 to 1.
        history: Whether prompts hold the context at all; without it a turn is new text behind the system prompt,
            as where retrieved passages go first.
        system_tokens: Length of the system prompt in front of every prompt, tokens, >= 0.
        system_prompts: Number of different system prompts, >= 1; the k-th has a share proportional to 1/k.
        block_size: Tokens of a prefix block, >= 1.
        max_prompt_tokens: Prompts are cut to so many tokens, >= 1.
    """

    starts: ArrivalProcess
    turns: TokenLaw
    first: LengthLaw
    later: LengthLaw
    think_mu: float = 4.03
    think_sigma: float = 1.53
    rewrites: float = 0.0
    history: bool = True
    system_tokens: int = 0
    system_prompts: int = 1
    block_size: int = 16
    max_prompt_tokens: int = TOKENS_MAX
    kind: ClassVar[str] = "sessions"

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not isinstance(self.starts, ArrivalProcess):
            raise InputError("starts", self.starts, f"give an arrival law ({', '.join(ARRIVALS)})")
        check_token_law("turns", self.turns)
        for name in ("first", "later"):
            if not isinstance(getattr(self, name), LengthLaw):
                raise InputError(name, getattr(self, name), f"give a length law ({', '.join(LENGTH_LAWS)})")
        for name, low, high in (("think_mu", -20.0, 20.0), ("think_sigma", 0.0, 5.0), ("rewrites", 0.0, 1.0)):
            object.__setattr__(self, name, checks.number(name, getattr(self, name), low=low, high=high))
        if not isinstance(self.history, bool):
            raise InputError("history", self.history, "give true or false")
        for name, least in (("system_tokens", 0), ("system_prompts", 1), ("block_size", 1), ("max_prompt_tokens", 1)):
            object.__setattr__(self, name, checks.whole(name, getattr(self, name), low=least, high=TOKENS_MAX))

    @cached_property
    def mean_turns(self) -> float:
        """Mean number of turns of a session."""
        return float(self.turns.quantiles(_MEAN_LEVELS).mean())

    @property
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""
        return self.starts.mean_rate_rps * self.mean_turns

    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the sessions."""
        return dataclasses.replace(self, starts=self.starts.scaled(factor))

    def _requests(self, rng: np.random.Generator, horizon_s: float) -> Trace:
        starts = self.starts.sample(rng, horizon_s)
        turns = self.turns.sample(rng, len(starts))
        check_size(float(turns.sum(dtype=np.int64)), horizon_s)
        talk = self._talk(rng, starts, turns)
        rounds = talk.at / horizon_s
        np.floor(rounds, out=rounds)
        opens, session = talk.opened_by(rounds)
        at = talk.at
        rounds *= horizon_s
        at -= rounds
        del rounds  # memory is what a draw of millions costs: most of its time goes to the kernel that hands it out
        np.clip(at, 0.0, np.nextafter(horizon_s, 0.0), out=at)  # rounding may bring a time to the horizon
        order = np.argsort(at).astype(np.int32)
        blocks = self._blocks(rng, talk, opens, order, horizon_s)
        talk.prompt[:] += np.int32(self.system_tokens)
        return Trace(
            at[order],
            talk.prompt[order],
            talk.output[order],
            np.zeros(len(at), np.int8),
            blocks,
            session=_labels(session[order]),
        )

    def _talk(self, rng: np.random.Generator, starts: FloatArray, turns: TokenArray) -> "_Talk":
        """Draw the first turn of all sessions, then the second of those that have one, and so on."""
        by_turns = _by_falling(turns)
        alive = len(turns) - np.cumsum(np.bincount(turns, minlength=2))[:-1]  # sessions with more than 0, 1, ... turns
        offsets = np.concatenate(([0], np.cumsum(alive)))
        n = int(offsets[-1])
        talk = _Talk(offsets, np.empty(n), *(np.zeros(n, np.int32) for _ in range(3)))
        most = max(1, self.max_prompt_tokens - self.system_tokens)
        for here, before, of_sessions in talk.turns():
            count = here.stop - here.start
            if before is None:
                new, talk.output[here] = self.first.sample(rng, count)
                talk.at[here] = starts[by_turns[of_sessions]]
                talk.prompt[here] = np.minimum(new, most)
                continue
            new, talk.output[here] = self.later.sample(rng, count)
            kept = self._kept(rng, np.add(talk.prompt[before], talk.output[before], dtype=np.int64))
            talk.at[here] = talk.at[before] + rng.lognormal(self.think_mu, self.think_sigma, count)
            talk.prompt[here] = np.minimum(kept + new, most)
            talk.kept[here] = np.minimum(kept, most)
        return talk

    def _kept(self, rng: np.random.Generator, context: _IdArray) -> _IdArray:
        if not self.history:
            return np.zeros_like(context)
        if self.rewrites == 0.0:
            return context
        is_rewritten = rng.random(len(context)) < self.rewrites
        return np.where(is_rewritten, (context * rng.random(len(context))).astype(np.int64), context)

    def _blocks(
        self, rng: np.random.Generator, talk: "_Talk", opens: _BoolArray, order: TokenArray, horizon_s: float
    ) -> PrefixBlocks:
        """Number the blocks of all prompts, those of the system prompts first, and list them by arrival."""
        counts = talk.prompt + np.int32(self.system_tokens - 1)
        counts //= np.int32(self.block_size)
        counts += np.int32(1)
        check_size(float(counts.sum(dtype=np.float64)), horizon_s)
        of_system = self.system_tokens // self.block_size
        shared = np.full(len(counts), of_system, np.int32)
        for here, before, _ in talk.turns():
            if before is not None:
                known = np.minimum(talk.kept[here], talk.prompt[before])
                known += np.int32(self.system_tokens)
                known //= np.int32(self.block_size)
                shared[here] = np.where(opens[here], of_system, known)
        offsets = np.zeros(len(order) + 1, np.int64)
        np.cumsum(counts[order], out=offsets[1:])
        numbered = of_system * self.system_prompts
        narrow = np.dtype(np.int32 if offsets[-1] + numbered < 2**31 else np.int64)
        # Block j of a request that shares the first s is number (fresh blocks before the request) + j - s.
        shift: _IndexArray = np.cumsum(counts - shared, dtype=narrow)
        shift -= counts
        shift += numbered
        ids = np.empty(int(offsets[-1]), np.int64)
        begins: _IndexArray = np.empty(len(order), narrow)
        for start in range(0, len(order), _PIECE):
            here, piece = slice(start, start + _PIECE), order[start : start + _PIECE]
            begins[piece] = offsets[:-1][here]
            _ranges(shift[piece], counts[piece], out=ids[offsets[start] : offsets[start + len(piece)]])
        del shift, counts
        self._number_system(rng, ids, begins, talk, opens)
        for here, before, _ in talk.turns():
            if before is not None:
                copied = np.where(opens[here], np.int32(0), shared[here])
                ids[_ranges(begins[here], copied)] = ids[_ranges(begins[before], copied)]
        return PrefixBlocks(offsets, ids, self.block_size)

    def _number_system(
        self, rng: np.random.Generator, ids: _IdArray, begins: _IndexArray, talk: "_Talk", opens: _BoolArray
    ) -> None:
        """Write the blocks of the system prompt of every request that opens a session."""
        of_system = self.system_tokens // self.block_size
        if of_system == 0:
            return
        shares = 1.0 / np.arange(1, self.system_prompts + 1)
        prompt = rng.choice(self.system_prompts, size=int(talk.offsets[1]), p=shares / shares.sum())
        of_request = np.concatenate([prompt[of_sessions] for _, _, of_sessions in talk.turns()])[opens]
        ids[begins[opens][:, None] + np.arange(of_system)] = of_request[:, None] * of_system + np.arange(of_system)


@dataclass(frozen=True)
class _Talk:
    """All first turns, then all second ones, and so on; sessions stand in the order of their number of turns.

    Attributes:
        offsets: The turns number k (from 0) are ``offsets[k]:offsets[k + 1]``.
        at: Arrival in seconds from the sample's start, beyond its end too.
        prompt: Prompt tokens without the system prompt.
        output: Output tokens.
        kept: How many of the prompt's first tokens the turn before had in its context.
    """

    offsets: _IdArray
    at: FloatArray
    prompt: TokenArray
    output: TokenArray
    kept: TokenArray

    def turns(self) -> Iterator[tuple[slice, slice | None, slice]]:
        """Yield, in pieces: where turns of one number are, where those before them (None for first ones), whose.

        In pieces because what is computed of small ones stays in memory that the process already has.
        """
        for k, (begin, end) in enumerate(pairwise(self.offsets.tolist())):
            for start in range(begin, max(end, begin + 1), _PIECE):
                here = slice(start, min(end, start + _PIECE))
                first, last = here.start - begin, here.stop - begin
                earlier = int(self.offsets[k - 1])
                yield here, slice(earlier + first, earlier + last) if k else None, slice(first, last)

    def opened_by(self, rounds: FloatArray) -> tuple[_BoolArray, npt.NDArray[np.int32]]:
        """Return which turns open a session, and the session of each; one moved back by a horizon opens its own."""
        opens = np.ones(len(rounds), bool)
        for here, before, _ in self.turns():
            if before is not None:
                opens[here] = rounds[here] != rounds[before]
        session = np.cumsum(opens, dtype=np.int32)
        session -= 1
        for here, before, _ in self.turns():
            if before is not None:
                session[here] = np.where(opens[here], session[here], session[before])
        return opens, session


def _by_falling(turns: TokenArray) -> _IdArray:
    """Return the order of sessions by falling number of turns, those of equal numbers as they stand."""
    most = int(turns.max(initial=0))
    # NumPy sorts 16 bits by radix, several times as fast.
    return np.argsort((most - turns).astype(np.uint16) if most < 2**16 else most - turns, kind="stable")


def _ranges(starts: _IndexArray, counts: TokenArray, out: _IdArray | None = None) -> _IdArray:
    """Return ``starts[i], starts[i] + 1, ...``, so many as ``counts[i]`` says, for every i; write to ``out``."""
    ends = np.cumsum(counts, dtype=np.int64)
    positions = np.arange(int(ends[-1]) if len(ends) else 0)
    return np.add(positions, np.repeat(starts - ends + counts, counts), out=positions if out is None else out)


def _labels(codes: npt.NDArray[np.int32]) -> "pd.Categorical[Any]":
    # Numbers, not text: text would take longer than all the rest.
    return pd.Categorical.from_codes(codes, categories=pd.RangeIndex(int(codes.max(initial=-1)) + 1))
