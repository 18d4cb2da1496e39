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
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aladdin_env.simulator import laws
from aladdin_env.step_laws import DecodeLaw, PrefillLaw, law_row
from aladdin_traces import checks
from aladdin_traces.errors import InputError, suggest
from aladdin_traces.files import whole_file

__all__ = [
    "LIMITS",
    "DecodeLaw",
    "LatencyProfile",
    "PrefillLaw",
    "Provenance",
    "law_row",
    "load_profile",
    "profile_names",
]

FORMAT = 1
LIMITS = ("max_num_seqs", "max_num_batched_tokens", "block_size")
_SHIPPED = Path(__file__).parent / "profiles"
_EVALUATED_BATCH = 1024  # table length behind prefill_s, decode_s and mixed_s, longer where a batch asks for it


def _amount(name: str, value: object) -> float:
    """``value`` as a finite float that is not negative, or an InputError that names the field."""
    return checks.number(name, value, low=0.0)


def _whole(name: str, value: object, least: int) -> int:
    return checks.whole(name, value, low=least, high=checks.TOKENS_MAX)


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
