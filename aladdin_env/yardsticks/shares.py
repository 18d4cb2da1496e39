"""What a request costs a worker at least, whoever it shares its steps with: the terms of the clairvoyant bound.

The proof stands in docs/yardsticks.md; the names here are its symbols. Seconds, tokens, currency per second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from aladdin_env.scenario import WorkerType

Array = NDArray[np.float64]
Knots = tuple[Array, Array]  # prompt tokens and seconds of a piecewise linear law
_GRID = 1500  # contexts at which a token's cost is computed; in between its chord is a bound, as it is concave


@dataclass(frozen=True)
class Prices:
    """Multipliers of the relaxed constraints; any values >= 0 give a valid bound.

    Attributes:
        pace: Currency per second that a request spends between its first and its last token.
        memory: Currency per step and token of KV capacity.
        prefill: Currency per prompt token of a worker that prefills in chunks; at most its cheapest exclusive prefill.
    """

    pace: float
    memory: float
    prefill: float


@dataclass(frozen=True)
class WorkerShares:
    """One worker type.

    Attributes:
        kind: The worker type.
        price: Currency per second of one worker.
        longest_prompt: Of the trace, tokens: a prompt beyond the token budget may be prefilled alone.
        longest_context: Prompt and output together, tokens: so much may be recomputed alone after a preemption.
        shares_kv: Whether prompts may share KV blocks, so that contexts together may exceed the memory.
    """

    kind: WorkerType
    price: float
    longest_prompt: int
    longest_context: int
    shares_kv: bool

    @cached_property
    def batches(self) -> Array:
        """1 .. max_num_seqs."""
        return np.arange(1, self.kind.max_num_seqs + 1, dtype=np.float64)

    @cached_property
    def _tables(self) -> tuple[Array, Array]:
        """Alpha and beta of every batch size; beta the least of that batch and any larger one.

        With it, taking requests out of a batch never makes a step longer, so that those that miss their SLO can be left
        out of the account.
        """
        alpha, beta = self.kind.latency.decode.tables(self.kind.max_num_seqs)
        return alpha[1:], np.minimum.accumulate(beta[:0:-1])[::-1]

    @cached_property
    def exclusive_prefill(self) -> float:
        """Currency per prompt token of a step that only prefills, at its best size."""
        return self._cheapest_token(self.longest_prompt)

    @cached_property
    def exclusive_recomputation(self) -> float:
        """The same for what is recomputed after a preemption, which may be longer; infinite where there is none."""
        return np.inf if self.kind.max_num_seqs == 1 else self._cheapest_token(self.longest_context)

    def _cheapest_token(self, longest: int) -> float:
        law = self.kind.latency.prefill
        knots = np.array(law.knots_tokens), np.array(law.knots_s)
        most = float(self.kind.max_num_batched_tokens)
        if self.kind.scheduler != "chunked":
            most = max(most, float(longest))
        sizes = _sizes(knots, most)
        return self.price * float((_seconds(knots, sizes) / sizes).min())

    def prefill(self, prompt_tokens: Array, prices: Prices) -> Array:
        """Currency of each prompt's prefill at least."""
        if self.kind.scheduler == "chunked":
            return prices.prefill * prompt_tokens
        attention = self.price * self.kind.latency.prefill.attention_s_per_token2
        return self.exclusive_prefill * prompt_tokens + attention * prompt_tokens**2

    def token_costs(self, longest_context: int, prices: Prices) -> Array:
        """phi: currency of a decoded token at each context 0 .. ``longest_context`` at least, multipliers included.

        ``phi(l) = min_b (price alpha_b - omega_b) / b + price beta_b l + pace (alpha_b + beta_b b l)
        + memory (l - M / b)``.
        """
        alpha, beta = self._tables
        b, memory = self.batches, 0.0 if self.shares_kv else prices.memory
        room = self.kind.kv_blocks * self.kind.block_size
        constant = (self.price * alpha - self._ridden_along(prices)) / b + prices.pace * alpha - memory * room / b
        slope = self.price * beta + prices.pace * beta * b + memory
        contexts = np.unique(np.geomspace(1, longest_context + 1, _GRID).round()) - 1
        at_grid = _lowest(constant, slope, contexts)
        return np.interp(np.arange(longest_context + 1, dtype=np.float64), contexts, at_grid)

    def _ridden_along(self, prices: Prices) -> Array:
        """omega: most that the prompt tokens of a mixed step are worth beyond what they add to it, per batch."""
        if self.kind.scheduler != "chunked":
            return np.zeros_like(self.batches)
        knots, overlap_s = self.kind.latency.prefill.work_knots, self.kind.latency.mixed_overlap_s
        sizes = _sizes(knots, float(self.kind.max_num_batched_tokens), overlap_s)
        added_s = np.maximum(0.0, _seconds(knots, sizes) - overlap_s)
        per_second = self.price + prices.pace * self.batches
        worth: Array = (prices.prefill * sizes - per_second[:, None] * added_s).max(axis=1)
        return np.maximum(0.0, worth)


def _lowest(constant: Array, slope: Array, contexts: Array) -> Array:
    """The lower envelope of the lines at ``contexts``; lines that are nowhere lowest are dropped first."""
    order = np.lexsort((constant, slope))
    kept = order[constant[order] <= np.minimum.accumulate(constant[order])]
    values: Array = (constant[kept] + slope[kept] * contexts[:, None]).min(axis=1)
    return values


def _seconds(knots: Knots, sizes: Array) -> Array:
    """Seconds of a prefill of these sizes without the attention term."""
    tokens, seconds = knots
    found = np.interp(sizes, tokens, seconds)
    if len(tokens) > 1:
        slope = (seconds[-1] - seconds[-2]) / (tokens[-1] - tokens[-2])
        found += slope * np.maximum(0.0, sizes - tokens[-1])
    return np.asarray(found, dtype=np.float64)


def _sizes(knots: Knots, most: float, level_s: float | None = None) -> Array:
    """Prefill sizes in tokens, 1 to ``most``, among which are the optima of all that is linear between the knots."""
    sizes = [1.0, most, *(float(knot) for knot in knots[0] if 1.0 < knot < most)]
    if level_s is not None:  # where the law crosses this many seconds
        ends = np.array(sorted(sizes))
        seconds = _seconds(knots, ends)
        if seconds[0] <= level_s <= seconds[-1]:
            last = int(np.flatnonzero(seconds <= level_s)[-1])
            sizes.append(float(np.interp(level_s, seconds[last : last + 2], ends[last : last + 2])))
    return np.array(sorted(sizes))
