"""The laws of time and memory of one worker, and the profile that carries them.

A :class:`LatencyProfile` says how long one worker (a model on some GPUs under some engine) takes for a step of
continuous batching and how much KV memory it has. Paper: Nie, Fonseca, Liu, arXiv 2405.06856. Its laws are linear:
prefill ``t = k1 * tokens + c1``, decode ``t = k2 * context + c2 * batch + c3``, KV memory ``kv = h * tokens + j``.
The knots, the floor, the attention term, the tables over batch size and the mixed step are our generalisation;
:meth:`PrefillLaw.linear` and :meth:`DecodeLaw.linear` give the paper's laws exactly.

All times are seconds, all lengths tokens, all memory bytes. Times are evaluated by the compiled functions of
:mod:`aladdin_env.simulator.laws` and nowhere else; :meth:`LatencyProfile.row` lays a profile out for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aladdin_env.simulator import laws
from aladdin_traces import checks
from aladdin_traces.errors import InputError, suggest
from aladdin_traces.files import whole_file

FORMAT = 1
LIMITS = ("max_num_seqs", "max_num_batched_tokens", "block_size")
_SHIPPED = Path(__file__).parent / "profiles"
_SPAN_TOKENS, _SPAN_BATCH = 10000.0, 1000  # second point of a linear law: any point does, a far one rounds least
_ROUNDING = 1e-12  # a fall that only rounding makes is none
_EVALUATED_BATCH = 1024  # table length behind prefill_s, decode_s and mixed_s, longer where a batch asks for it


def _amount(name: str, value: object) -> float:
    """``value`` as a finite float that is not negative, or an InputError that names the field."""
    return checks.number(name, value, low=0.0)


def _whole(name: str, value: object, least: int) -> int:
    return checks.whole(name, value, low=least, high=checks.TOKENS_MAX)


def _rising(name: str, values: Sequence[float], strictly: bool = False) -> None:
    for i, (before, after) in enumerate(pairwise(values), start=1):
        if after < before * (1 - _ROUNDING) or (strictly and after <= before):
            rule = f"more than {before}" if strictly else f"at least {before}, for time must not decrease"
            raise InputError(f"{name}[{i}]", after, f"give {rule}")


@dataclass(frozen=True)
class PrefillLaw:
    """Seconds of a prefill step: piecewise linear in its prompt tokens, plus an attention term.

    Attributes:
        knots_tokens: prompt tokens computed in the step, ascending. Below the first knot the time is constant (the
            floor that short prompts meet), beyond the last knot the last slope goes on.
        knots_s: seconds at the knots, not decreasing.
        attention_s_per_token2: seconds per token^2, multiplies the sum over the step's chunks of ``n (2 past + n)``
            (n tokens computed now, ``past`` computed before); 0 in the paper's law.
        floor_tokens: one of the knots but the last: up to there the engine's launches take longer than the GPU's work,
            so that decodes of the same step hide in them (our reconstruction); 0: nowhere.
    """

    knots_tokens: tuple[float, ...]
    knots_s: tuple[float, ...]
    attention_s_per_token2: float = 0.0
    floor_tokens: float = 0.0

    def __post_init__(self) -> None:
        """Check every number."""
        tokens = checks.numbers("prefill.knots_tokens", self.knots_tokens, low=0.0)
        seconds = checks.numbers("prefill.knots_s", self.knots_s, low=0.0)
        attention = checks.number("prefill.attention_s_per_token2", self.attention_s_per_token2, low=0.0)
        if len(tokens) > laws.MAX_KNOTS:
            raise InputError("prefill.knots_tokens", len(tokens), f"give at most {laws.MAX_KNOTS} knots")
        checks.same_length("prefill.knots_s", seconds, "prefill.knots_tokens", tokens)
        _rising("prefill.knots_tokens", tokens, strictly=True)
        _rising("prefill.knots_s", seconds)
        if seconds[-1] + attention == 0.0:
            raise InputError("prefill.knots_s", list(seconds), "give a time above 0 at the last knot")
        for name, value in (("knots_tokens", tokens), ("knots_s", seconds), ("attention_s_per_token2", attention)):
            object.__setattr__(self, name, value)
        floor = checks.number("prefill.floor_tokens", self.floor_tokens, low=0.0)
        if floor and floor not in self.floor_ends:
            mend = "give 0, or a knot but the last from which the next stretch goes down to 0 tokens below the law"
            raise InputError("prefill.floor_tokens", floor, f"{mend}: {list(self.floor_ends) or 'here there is none'}")
        object.__setattr__(self, "floor_tokens", floor)

    @classmethod
    def linear(cls, k1: float, c1: float, floor_s: float = 0.0) -> PrefillLaw:
        """The paper's law with the floor of short prompts: ``max(floor_s, k1 * tokens + c1)``.

        ``k1`` seconds per token, ``c1`` seconds (may be negative under a floor), ``floor_s`` seconds.
        """
        floor = checks.number("floor_s", floor_s, low=0.0)
        constant = checks.number("c1", c1, low=-math.inf if floor else 0.0)
        if checks.number("k1", k1, low=0.0) == 0.0:
            return cls((0.0,), (max(floor, constant),))
        start = max(0.0, (floor - constant) / k1)
        end = start + _SPAN_TOKENS
        return cls((start, end), (max(floor, constant), k1 * end + constant))

    @cached_property
    def floor_ends(self) -> tuple[float, ...]:
        """The knots that ``floor_tokens`` may be."""
        knots = range(len(self.knots_tokens) - 1)
        return tuple(self.knots_tokens[i] for i in knots if self.knots_tokens[i] > 0.0 and self._is_below(i))

    def _is_below(self, end: int) -> bool:
        """Whether the line of the work up to this knot is nowhere above the law."""
        start_s = self._work_start_s(end)
        share = np.divide(self.knots_tokens[:end], self.knots_tokens[end])
        line = start_s + (self.knots_s[end] - start_s) * share
        law = np.array([self.knots_s[0], *self.knots_s[:end]])
        return bool(np.all(np.array([start_s, *line]) <= law * (1.0 + _ROUNDING)))

    def _work_start_s(self, end: int) -> float:
        (x0, x1), (y0, y1) = self.knots_tokens[end : end + 2], self.knots_s[end : end + 2]
        return max(0.0, y0 - (y1 - y0) / (x1 - x0) * x0)

    @property
    def work_start_s(self) -> float:
        """Seconds at 0 tokens of the line that the work follows up to the floor's end; without a floor, the law's."""
        return self._work_start_s(self.knots_tokens.index(self.floor_tokens)) if self.floor_tokens else self.knots_s[0]

    @cached_property
    def work_knots(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Knots (tokens, seconds) of the law without the floor.

        Below the floor's end the stretch that follows goes on down to 0 tokens, if not below 0 s: what a prefill
        adds to a mixed step, one constant aside (our reconstruction).
        """
        tokens, seconds = np.array(self.knots_tokens), np.array(self.knots_s)
        if not self.floor_tokens:
            return tokens, seconds
        kept = tokens >= self.floor_tokens
        return np.concatenate([[0.0], tokens[kept]]), np.concatenate([[self.work_start_s], seconds[kept]])


@dataclass(frozen=True)
class DecodeLaw:
    """Seconds of a decode step: ``alpha[batch] + beta[batch] * context tokens``, tables over the batch size.

    Between listed batch sizes alpha and batch x beta (seconds per token of *mean* context) are interpolated linearly,
    beyond the last their slope goes on, below the first alpha and beta are constant; a table of one size holds for all.
    Neither alpha nor batch x beta may decrease: one more request with as much context as the others have on average
    never makes a step faster. (beta alone may fall: on some GPUs a small batch of long contexts is slower than a
    larger one of the same total.)

    Attributes:
        batch: batch sizes of the tables (requests in the step), ascending.
        alpha_s: seconds at these sizes without any context; the paper's ``c2 * batch + c3``.
        beta_s_per_token: seconds per context token of the whole batch; the paper's ``k2``.
    """

    batch: tuple[int, ...]
    alpha_s: tuple[float, ...]
    beta_s_per_token: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check every number."""
        batch = checks.wholes("decode.batch", self.batch, low=0, high=checks.TOKENS_MAX)
        _rising("decode.batch", batch, strictly=True)
        object.__setattr__(self, "batch", batch)
        for name in ("alpha_s", "beta_s_per_token"):
            values = checks.numbers(f"decode.{name}", getattr(self, name), low=0.0)
            checks.same_length(f"decode.{name}", values, "decode.batch", batch)
            object.__setattr__(self, name, values)
        _rising("decode.alpha_s", self.alpha_s)
        _rising("decode.batch * beta_s_per_token", [n * b for n, b in zip(batch, self.beta_s_per_token, strict=True)])
        alpha, beta = self.tables(1)
        if alpha[1] + beta[1] == 0.0:
            raise InputError("decode.alpha_s", list(self.alpha_s), "give a time above 0 for a batch of one")

    @classmethod
    def linear(cls, k2: float, c2: float, c3: float) -> DecodeLaw:
        """The paper's law ``k2 * context + c2 * batch + c3``: seconds per token, per request, and seconds."""
        return cls((0, _SPAN_BATCH), (c3, c3 + c2 * _SPAN_BATCH), (k2, k2))

    def tables(self, largest_batch: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Alpha (seconds) and beta (seconds per context token) of every batch size 0 to ``largest_batch``."""
        sizes = np.arange(largest_batch + 1, dtype=np.float64)
        beta = np.full(len(sizes), self.beta_s_per_token[0])
        if len(self.batch) > 1:
            per_mean_token = self._extended(np.multiply(self.batch, self.beta_s_per_token), sizes)
            np.divide(per_mean_token, sizes, out=beta, where=sizes > self.batch[0])
        return self._extended(np.array(self.alpha_s), sizes), beta

    def _extended(self, values: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        table = np.asarray(np.interp(sizes, self.batch, values), dtype=np.float64)
        if len(values) > 1:
            slope = (values[-1] - values[-2]) / (self.batch[-1] - self.batch[-2])
            table += slope * np.maximum(sizes - self.batch[-1], 0.0)
        return table


def law_row(
    prefill: PrefillLaw, decode: DecodeLaw, mixed_overlap_s: float, largest_batch: int, length: int | None = None
) -> NDArray[np.float64]:
    """The laws of time as one row in the layout of :mod:`aladdin_env.simulator.laws`.

    The decode tables reach from batch 0 to ``largest_batch``. Zeros fill the row up to ``length`` (rows of several
    worker types must be equally long); by default it is ``row_length(largest_batch)``, the least.
    """
    largest = _whole("largest_batch", largest_batch, 1)
    needed = laws.row_length(largest)
    row = np.zeros(needed if length is None else _whole("length", length, needed), dtype=np.float64)
    knots = len(prefill.knots_tokens)
    row[laws.ATTENTION] = prefill.attention_s_per_token2
    row[laws.MIXED_OVERLAP] = mixed_overlap_s
    row[laws.FLOOR_TOKENS] = prefill.floor_tokens
    row[laws.FLOOR_START] = prefill.work_start_s
    row[laws.KNOTS] = knots
    row[laws.LARGEST_BATCH] = largest
    row[laws.KNOT_TOKENS : laws.KNOT_TOKENS + knots] = prefill.knots_tokens
    row[laws.KNOT_SECONDS : laws.KNOT_SECONDS + knots] = prefill.knots_s
    row[laws.DECODE_TABLES : needed] = np.concatenate(decode.tables(largest))
    return row


@dataclass(frozen=True)
class Provenance:
    """Where a profile comes from and how far it may be trusted.

    Attributes:
        model: model name, as its maker writes it.
        gpu: device name.
        tensor_parallel: GPUs that the model is split over.
        engine: serving engine.
        engine_version: its version.
        date: when the measurements were made or published (ISO).
        method: how the numbers were measured and fitted.
        source: where the measurements are from, with licence.
        errors: relative errors out of sample, e.g. ``prefill_median``, ``decode_p95`` (0.05 is 5 %).
        limits: what the measured engine was started with, as far as known: any of :data:`LIMITS`.
    """

    model: str
    gpu: str
    tensor_parallel: int
    engine: str
    engine_version: str
    date: str
    method: str
    source: str
    errors: dict[str, float] = field(hash=False)
    limits: dict[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the types of the texts and the error figures."""
        for name in ("model", "gpu", "engine", "engine_version", "date", "method", "source"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"provenance.{name}", getattr(self, name), "give a text")
        object.__setattr__(self, "tensor_parallel", _whole("provenance.tensor_parallel", self.tensor_parallel, 1))
        if not isinstance(self.errors, Mapping):
            raise InputError("provenance.errors", self.errors, "give an object of names and relative errors")
        errors = {str(k): _amount(f"provenance.errors.{k}", v) for k, v in self.errors.items()}
        object.__setattr__(self, "errors", errors)
        if not isinstance(self.limits, Mapping):
            raise InputError("provenance.limits", self.limits, "give an object of names and whole numbers")
        for name in self.limits:
            if name not in LIMITS:
                raise InputError("provenance.limits", name, suggest(str(name), LIMITS))
        limits = {name: _whole(f"provenance.limits.{name}", value, 1) for name, value in self.limits.items()}
        object.__setattr__(self, "limits", limits)


_PARTS = (("prefill", PrefillLaw), ("decode", DecodeLaw), ("provenance", Provenance))


@dataclass(frozen=True)
class LatencyProfile:
    """How long one worker takes, how much KV memory it has, and where these numbers are from.

    Two profiles are equal when their contents are. Hashable, picklable, lossless to JSON and back.

    Attributes:
        name: short name, e.g. ``llama-3.1-8b-h100-tp1``.
        prefill: time of a prefill step.
        decode: time of a decode step.
        mixed_overlap_s: seconds saved when a step does prefill and decode together (our reconstruction), beside what
            hides in the prefill's floor.
        overhead_s: seconds that the front end adds to a token's way to the client (not part of a step).
        kv_bytes_per_token: KV memory per token (paper: ``h``).
        kv_bytes_per_request: KV memory of a request beside its tokens (paper: ``j``).
        kv_capacity_tokens: tokens of KV that the whole worker holds (paper: ``M / h``).
        gpus: GPUs of one worker, the unit of cost; a CPU worker counts as one.
        provenance: source and error figures.
    """

    name: str
    prefill: PrefillLaw
    decode: DecodeLaw
    mixed_overlap_s: float
    overhead_s: float
    kv_bytes_per_token: float
    kv_bytes_per_request: float
    kv_capacity_tokens: int
    gpus: int
    provenance: Provenance

    def __post_init__(self) -> None:
        """Check every number."""
        if not isinstance(self.name, str) or not self.name:
            raise InputError("name", self.name, "give the profile a name")
        for part, kind in _PARTS:
            if not isinstance(getattr(self, part), kind):
                raise InputError(part, getattr(self, part), f"give a {kind.__name__}")
        for name in ("mixed_overlap_s", "overhead_s", "kv_bytes_per_request"):
            object.__setattr__(self, name, _amount(name, getattr(self, name)))
        per_token = checks.number("kv_bytes_per_token", self.kv_bytes_per_token, above=0.0)
        object.__setattr__(self, "kv_bytes_per_token", per_token)
        for name in ("kv_capacity_tokens", "gpus"):
            object.__setattr__(self, name, _whole(name, getattr(self, name), 1))

    def row(self, largest_batch: int, length: int | None = None) -> NDArray[np.float64]:
        """The profile as one row in the layout of :mod:`aladdin_env.simulator.laws`; arguments as :func:`law_row`."""
        row = law_row(self.prefill, self.decode, self.mixed_overlap_s, largest_batch, length)
        row[laws.OVERHEAD] = self.overhead_s
        row[laws.KV_OVERHEAD] = self.kv_overhead_tokens
        return row

    @property
    def kv_overhead_tokens(self) -> int:
        """A request's own KV overhead in tokens: j / h of the paper's KV law, rounded up."""
        return math.ceil(self.kv_bytes_per_request / self.kv_bytes_per_token)

    @cached_property
    def _laws(self) -> NDArray[np.float64]:
        return self.row(_EVALUATED_BATCH).reshape(1, -1)

    def _laws_for(self, batch: int) -> NDArray[np.float64]:
        return self._laws if _whole("batch", batch, 0) <= _EVALUATED_BATCH else self.row(batch).reshape(1, -1)

    def prefill_s(self, tokens: float, sum_squares: float | None = None) -> float:
        """Seconds of a prefill step of ``tokens`` prompt tokens.

        ``sum_squares``: sum over its chunks of ``n (2 past + n)``, token^2; by default that of one fresh prompt.
        """
        return float(laws.prefill_time(self._laws, 0, *_work(tokens, sum_squares)))

    def decode_s(self, batch: int, context_tokens: float) -> float:
        """Seconds of a decode step of ``batch`` requests with ``context_tokens`` tokens of context together."""
        return float(laws.decode_time(self._laws_for(batch), 0, batch, _amount("context_tokens", context_tokens)))

    def mixed_s(self, tokens: float, batch: int, context_tokens: float, sum_squares: float | None = None) -> float:
        """Seconds of a step that prefills ``tokens`` and decodes ``batch`` requests (arguments as above)."""
        context = _amount("context_tokens", context_tokens)
        return float(laws.mixed_time(self._laws_for(batch), 0, *_work(tokens, sum_squares), batch, context))

    def saved_s(self, tokens: float) -> float:
        """Seconds that a mixed step with ``tokens`` prompt tokens saves against a prefill and a decode step."""
        return float(laws.saved_time(self._laws, 0, _work(tokens, None)[0]))

    def to_dict(self) -> dict[str, Any]:
        """The profile as plain numbers, texts, lists and dictionaries."""
        return dict(json.loads(json.dumps({"format": FORMAT, **asdict(self)}, allow_nan=False)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LatencyProfile:
        """The profile that :meth:`to_dict` wrote; InputError names the first field that cannot be."""
        plain = {k: v for k, v in data.items() if k != "format"} if isinstance(data, Mapping) else data
        values = _checked_fields(cls, "", plain)
        if data.get("format", FORMAT) != FORMAT:
            raise InputError("format", data["format"], f"give a profile of format {FORMAT}")
        return cls(**values | {part: kind(**_checked_fields(kind, part, values[part])) for part, kind in _PARTS})

    def to_json(self, path: str | Path) -> None:
        """Write the profile to ``path``, every number exactly."""
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | Path) -> LatencyProfile:
        """Read a profile that :meth:`to_json` wrote."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError("path", str(path), f"give a readable JSON file ({error})") from error
        return cls.from_dict(data)


def _work(tokens: float, sum_squares: float | None) -> tuple[float, float]:
    """Tokens and sum of squares of a prefill; without the latter, of one fresh prompt."""
    checked = _amount("tokens", tokens)
    return checked, checked * checked if sum_squares is None else _amount("sum_squares", sum_squares)


def _checked_fields(kind: type, where: str, given: object) -> dict[str, Any]:
    """``given`` as arguments of the dataclass ``kind``: InputError where a field is missing or unknown."""
    if not isinstance(given, Mapping):
        raise InputError(where or "profile", given, "give an object of names and values")
    prefix = f"{where}." if where else ""
    known = [f.name for f in fields(kind)]
    for key in given:
        if key not in known:
            raise InputError(f"{prefix}{key}", given[key], f"no such field; {suggest(str(key), known)}")
    for f in fields(kind):
        if f.name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(f"{prefix}{f.name}", None, "add this field: it is missing")
    return dict(given)


def profile_names() -> list[str]:
    """Names of the shipped profiles, sorted."""
    return sorted(path.stem for path in _SHIPPED.glob("*.json"))


def load_profile(name_or_path: str | Path) -> LatencyProfile:
    """A shipped profile by its name (see :func:`profile_names`), or one from a JSON file."""
    if str(name_or_path) in profile_names():
        return LatencyProfile.from_json(_SHIPPED / f"{name_or_path}.json")
    if isinstance(name_or_path, Path) or name_or_path.endswith(".json"):
        return LatencyProfile.from_json(name_or_path)
    raise InputError("profile", name_or_path, suggest(name_or_path, profile_names()))
