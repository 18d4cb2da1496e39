"""What a sweep is made of: a TOML file, and the trials drawn from it; docs/scale-out.md lists its fields."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aladdin_agents.learned.train.config import Config, config_from, flat, read_config
from aladdin_agents.scale_out.halving import Stopping
from aladdin_env.errors import InputError, suggest
from aladdin_traces import checks

_FIELDS = ("config", "seeds", "samples", "draw_seed", "parameters", "stopping")
_RANGE = ("low", "high", "log")
_MOST_TRIALS = 10_000
_DIGITS = 4  # of a drawn number: more would say nothing


@dataclass(frozen=True)
class Range:
    """Numbers to draw from.

    Attributes:
        low: The least.
        high: The largest.
        log: Whether each factor is as likely as another, rather than each difference.
        whole: Whether only whole numbers are meant.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def draw(self, rng: np.random.Generator) -> float:
        """One of them."""
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        elif self.whole:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        else:
            value = rng.uniform(self.low, self.high)
        if self.whole:
            return min(max(round(value), int(self.low)), int(self.high))
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


Values = tuple[Any, ...] | Range
"""What a parameter may be."""


@dataclass(frozen=True)
class Trial:
    """One training run of a sweep; it travels between processes.

    Attributes:
        name: Also that of its folder.
        seed: Of the run.
        changes: What it changes in the configuration, by the fields' paths.
        config: The whole run.
    """

    name: str
    seed: int
    changes: dict[str, Any]
    config: Config


@dataclass(frozen=True)
class Sweep:
    """A sweep.

    Attributes:
        parameters: What is varied, by the paths of the fields.
        trials: The runs: each combination of the parameters under each seed. The same file gives the same trials.
        stopping: Which trials end early; None: none.
    """

    parameters: dict[str, Values]
    trials: tuple[Trial, ...]
    stopping: Stopping | None


def read_sweep(path: Path) -> Sweep:
    """Read a sweep from a TOML file; files that it names are found from its own folder.

    Raises:
        InputError: no such file, no TOML, an unknown field, a value that cannot be used, in itself or in a training
            run.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("sweep", str(path), f"give a readable TOML file ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError("sweep", str(path), f"mend its TOML: {error}") from None
    for name, value in table.items():
        if name not in _FIELDS:
            raise InputError(name, value, f"there is no such field here; {suggest(name, _FIELDS)}")
    config = table.get("config")
    if not isinstance(config, str):
        raise InputError("config", config, "give the TOML file of a training run (docs/training.md)")
    base = read_config(path.parent / config)
    parameters = _parameters(table.get("parameters", {}), base, path.parent)
    seeds = checks.wholes("seeds", table.get("seeds", [base.seed]), low=0, high=2**31 - 1)
    if len(set(seeds)) < len(seeds):
        raise InputError("seeds", list(seeds), "give each seed once")
    combinations = _combinations(parameters, table)
    if len(combinations) * len(seeds) > _MOST_TRIALS:
        raise InputError("samples", len(combinations), f"that gives more than {_MOST_TRIALS:,} trials: give fewer")
    trials = tuple(_trials(base, combinations, seeds))
    return Sweep(parameters, trials, _stopping(table.get("stopping")))


# --- parameters -----------------------------------------------------------------------------------------------------


def _parameters(table: object, base: Config, folder: Path) -> dict[str, Values]:
    known = flat(base)
    found: dict[str, Values] = {}
    for name, given in _leaves(table, "parameters"):
        if name in ("seed", "task"):
            mend = "give seeds = [...] beside config" if name == "seed" else "make a sweep of its own for each task"
            raise InputError(f"parameters.{name}", given, mend)
        if name not in known:
            mend = f"a training run has no such field; {suggest(name, known)}"
            raise InputError(f"parameters.{name}", given, mend)
        found[name] = _values(f"parameters.{name}", given, known[name], folder)
    return found


def _leaves(table: object, where: str) -> Iterator[tuple[str, object]]:
    """The fields by their paths, however the tables are nested: ``"learner.clip" = ...`` or ``learner.clip = ...``."""
    if not isinstance(table, Mapping):
        raise InputError(where, table, "give a table")
    for name, given in table.items():
        if isinstance(given, Mapping) and not set(given) & set(_RANGE):
            yield from ((f"{name}.{rest}", value) for rest, value in _leaves(given, f"{where}.{name}"))
        else:
            yield name, given


def _values(where: str, given: object, present: object, folder: Path) -> Values:
    """What a field may be whose value is now ``present``."""
    if isinstance(given, Mapping):
        return _range(where, given, present)
    if not isinstance(given, list) or not given:
        raise InputError(
            where, given, "give a list of values, or a range such as {low = 1e-5, high = 1e-3, log = true}"
        )
    return tuple(_anchored(value, folder) for value in given)


def _range(where: str, given: Mapping[str, object], present: object) -> Range:
    for name in given:
        if name not in _RANGE:
            raise InputError(f"{where}.{name}", given[name], suggest(name, _RANGE))
    if isinstance(present, bool) or not isinstance(present, int | float):
        raise InputError(where, dict(given), "this field is no number: give a list of values")
    low, high = (checks.number(f"{where}.{name}", given.get(name)) for name in ("low", "high"))
    log, whole = given.get("log", False), isinstance(present, int)
    if not isinstance(log, bool):
        raise InputError(f"{where}.log", log, "give true or false")
    if low >= high or (log and low <= 0):
        raise InputError(f"{where}.low", low, f"give a number {'above 0 and ' if log else ''}below high ({high:g})")
    if whole and not (low.is_integer() and high.is_integer()):
        raise InputError(where, dict(given), "this field takes whole numbers: give whole ones for low and high")
    return Range(low, high, log, whole)


def _anchored(value: Any, folder: Path) -> Any:
    """A file that a value names, as an absolute path."""
    if isinstance(value, list):
        return [_anchored(one, folder) for one in value]
    is_file = isinstance(value, str) and value.endswith((".toml", ".npz"))
    return (folder.absolute() / value).as_posix() if is_file else value


# --- trials ---------------------------------------------------------------------------------------------------------


def _combinations(parameters: Mapping[str, Values], table: Mapping[str, object]) -> list[dict[str, Any]]:
    """Combinations of the parameters: all of them, or so many drawn."""
    samples = table.get("samples")
    count = None if samples is None else checks.whole("samples", samples, low=1, high=_MOST_TRIALS)
    rng = np.random.default_rng(checks.whole("draw_seed", table.get("draw_seed", 0), low=0, high=2**63 - 1))
    lists = {name: values for name, values in parameters.items() if not isinstance(values, Range)}
    if len(lists) < len(parameters):
        if count is None:
            raise InputError(
                "samples", None, "say how many combinations to draw: there are ranges among the parameters"
            )
        return [{name: _drawn(values, rng) for name, values in parameters.items()} for _ in range(count)]
    whole = math.prod(len(values) for values in lists.values())
    if whole > _MOST_TRIALS and count is None:
        raise InputError("samples", None, f"say how many combinations to draw: the lists make {whole:,}")
    if count is None or count >= whole:
        return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    chosen = rng.choice(whole, count, replace=False)
    sizes = [len(values) for values in lists.values()]
    places = np.stack(np.unravel_index(chosen, sizes), axis=1).tolist()
    return [{name: lists[name][i] for name, i in zip(lists, place, strict=True)} for place in places]


def _drawn(values: Values, rng: np.random.Generator) -> Any:
    return values.draw(rng) if isinstance(values, Range) else values[int(rng.integers(len(values)))]


def _trials(base: Config, combinations: list[dict[str, Any]], seeds: tuple[int, ...]) -> Iterator[Trial]:
    width = len(str(len(combinations) - 1))
    for number, changes in enumerate(combinations):
        for seed in seeds:
            yield Trial(f"{number:0{width}}-seed{seed}", seed, changes, _changed(base, changes).with_seed(seed))


def _changed(base: Config, changes: Mapping[str, Any]) -> Config:
    """The training run with these values.

    Raises:
        InputError: they cannot be used, or not together.
    """
    table = asdict(base)
    for path, value in changes.items():
        *tables, name = path.split(".")
        inner = table
        for one in tables:
            inner = inner[one]
        inner[name] = value
    try:
        return config_from(table)
    except InputError as error:
        together = ", ".join(f"{name} = {value}" for name, value in changes.items())
        raise InputError(f"parameters.{error.field}", error.value, f"{error.mend} (with {together})") from None


def _stopping(table: object) -> Stopping | None:
    if table is None:
        return None
    if not isinstance(table, Mapping):
        raise InputError("stopping", table, "give a table, such as [stopping] and below it grace = 200_000")
    known = ("grace", "reduction")
    for name in table:
        if name not in known:
            raise InputError(f"stopping.{name}", table[name], suggest(name, known))
    grace = checks.whole("stopping.grace", table.get("grace"), low=1, high=10**12)
    return Stopping(grace, checks.whole("stopping.reduction", table.get("reduction", 3), low=2, high=100))
