"""How the requests of a trace hang together: turns, think times, growing prompts, shared system prompts."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.columns import FloatArray
from aladdin_traces.diurnal import Diurnal
from aladdin_traces.fitting.arrivals import arrival_candidates
from aladdin_traces.fitting.candidates import best
from aladdin_traces.fitting.lengths import fit_lengths
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.sessions import Sessions
from aladdin_traces.token_laws import Histogram
from aladdin_traces.trace import Trace

_IdArray = npt.NDArray[np.int64]
_FIRST_MIN = 20
_LATER_MIN, _LATER_SHARE = 50, 0.03
_TURNS_MAX = 200
_BLOCK_WITHOUT = 16
_COMMON, _GROWN = 0.5, 0.6


@dataclass(frozen=True)
class _Turns:
    """Which request goes on from which.

    Attributes:
        parent: (requests,) the turn before, -1 for a first turn.
        kept: (requests,) tokens of its prompt that the turn before had; 0 for a first turn.
        system_tokens: Tokens that most prompts begin with.
        history: Whether a prompt holds what was said before.
        block_size: Tokens of a block.
    """

    parent: _IdArray
    kept: _IdArray
    system_tokens: int
    history: bool
    block_size: int


def fit_sessions(trace: Trace) -> Sessions | None:
    """Fit a law of sessions; None where too few requests go on from another, or too few sessions begin.

    Sessions are those that the source names, else those that the prefix blocks betray: a prompt goes on from the
    latest one that had its longest known prefix.
    """
    turns = _turns(trace)
    if turns is None:
        return None
    later = np.flatnonzero(turns.parent >= 0)
    first = np.flatnonzero(turns.parent < 0)
    if len(later) < max(_LATER_MIN, _LATER_SHARE * len(trace)) or len(first) < _FIRST_MIN:
        return None
    parent = turns.parent[later]
    prompt = np.maximum(trace.prompt_tokens.astype(np.int64) - turns.system_tokens, 1)
    context = prompt[parent] + trace.output_tokens[parent]
    kept = np.maximum(turns.kept[later] - turns.system_tokens, 0)
    # Kept up to the last whole block means kept.
    is_cut = turns.history & (kept < np.minimum(prompt[parent], prompt[later]) - 2 * turns.block_size)
    new = np.maximum(prompt[later] - np.where(is_cut, kept, context if turns.history else 0), 1)
    think = np.log(np.maximum(trace.arrival_s[later] - trace.arrival_s[parent], 1e-3))
    return Sessions(
        starts=_starts(trace.arrival_s, trace.arrival_s[first]),
        turns=_turn_counts(turns.parent),
        first=best(fit_lengths(prompt[first].astype(np.int32), trace.output_tokens[first])).law,
        later=best(fit_lengths(new.astype(np.int32), trace.output_tokens[later])).law,
        think_mu=float(think.mean()),
        think_sigma=float(min(think.std(), 5.0)),
        rewrites=float(is_cut.mean()),
        history=turns.history,
        system_tokens=turns.system_tokens,
        block_size=turns.block_size,
        max_prompt_tokens=int(trace.prompt_tokens.max()),
    ).with_rate(trace.rate_rps)


def _starts(arrival_s: FloatArray, first_s: FloatArray) -> ArrivalProcess:
    """Fit the first turns; where they are even but all turns are not, they take the curve of all turns.

    At the start of a trace, later turns of sessions begun before it pass for first ones and hide a rising rate.
    """
    law = best(arrival_candidates(first_s)).law
    if isinstance(law, Diurnal):
        return law
    of_all = best(arrival_candidates(arrival_s)).law
    return dataclasses.replace(of_all, cv=1.0) if isinstance(of_all, Diurnal) else law


def _turns(trace: Trace) -> _Turns | None:
    blocks = trace.prefix_blocks if trace.prefix_blocks is not None and len(trace.prefix_blocks.ids) else None
    if blocks is None and trace.session is None:
        return None
    system = 0 if blocks is None else _common_blocks(blocks) * blocks.block_size
    size = _BLOCK_WITHOUT if blocks is None else blocks.block_size
    if trace.session is not None:
        parent = _parents_by_session(trace.session.codes.astype(np.int64))
        kept = _kept_by_length(trace, parent) if blocks is None else _kept_by_blocks(blocks, parent)
    else:
        assert blocks is not None
        parent, kept = _parents_by_blocks(blocks, system // size)
    later = parent >= 0
    grown = kept[later] > 0.5 * trace.prompt_tokens[parent[later]]
    return _Turns(parent, kept, system, bool(len(grown) and grown.mean() > _GROWN), size)


def _common_blocks(blocks: PrefixBlocks) -> int:
    """Count the leading blocks that most requests have in common."""
    common = 0
    while True:
        here = blocks.ids[blocks.offsets[:-1][blocks.counts > common] + common]
        if len(here) < _COMMON * len(blocks) or np.unique(here, return_counts=True)[1].max() < _COMMON * len(blocks):
            return common
        common += 1


def _parents_by_session(codes: _IdArray) -> _IdArray:
    order = np.argsort(codes, kind="stable")
    goes_on = (codes[order][1:] == codes[order][:-1]) & (codes[order][1:] >= 0)
    parent = np.full(len(codes), -1)
    parent[order[1:][goes_on]] = order[:-1][goes_on]
    return parent


def _parents_by_blocks(blocks: PrefixBlocks, system: int) -> tuple[_IdArray, _IdArray]:
    """Return parents and kept tokens; a shared system prompt makes no session."""
    last_seen: dict[int, int] = {}
    parent, kept = np.full(len(blocks), -1), np.zeros(len(blocks), np.int64)
    for i in range(len(blocks)):
        own = blocks[i].tolist()
        known = 0
        while known < len(own) and own[known] in last_seen:
            known += 1
        if known > system:
            parent[i], kept[i] = last_seen[own[known - 1]], known * blocks.block_size
        last_seen.update(dict.fromkeys(own, i))
    return parent, kept


def _kept_by_blocks(blocks: PrefixBlocks, parent: _IdArray) -> _IdArray:
    kept = np.zeros(len(blocks), np.int64)
    for i in np.flatnonzero(parent >= 0).tolist():
        own, before = blocks[i], blocks[int(parent[i])]
        n = min(len(own), len(before))
        differs = np.flatnonzero(own[:n] != before[:n])
        kept[i] = (int(differs[0]) if len(differs) else n) * blocks.block_size
    return kept


def _kept_by_length(trace: Trace, parent: _IdArray) -> _IdArray:
    """Without blocks, a prompt no shorter than all that was said before holds it."""
    later = np.flatnonzero(parent >= 0)
    context = trace.prompt_tokens.astype(np.int64)[parent[later]] + trace.output_tokens[parent[later]]
    kept = np.zeros(len(trace), np.int64)
    kept[later] = np.where(trace.prompt_tokens[later] >= context, context, 0)
    return kept


def _turn_counts(parent: _IdArray) -> Histogram:
    """Take the share that goes on after each turn, as it is seen.

    A session that began before the trace is seen to begin later than it did, and one that outlasts it to end sooner;
    a sample of `Sessions` has both effects too.
    """
    number = np.ones(len(parent), np.int64)
    for i in np.flatnonzero(parent >= 0).tolist():
        number[i] = number[parent[i]] + 1
    goes_on = np.zeros(len(parent), bool)
    goes_on[parent[parent >= 0]] = True
    counts, left = [], 1.0
    for turn in range(1, min(int(number.max()), _TURNS_MAX) + 1):
        share = float(goes_on[number == turn].mean())
        counts.append(round(left * (1.0 - share), 9))
        left *= share
    counts[-1] = round(counts[-1] + left, 9)
    return Histogram(tuple(range(1, len(counts) + 1)), tuple(counts))
