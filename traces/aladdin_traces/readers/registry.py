"""The known formats, and how one is chosen: by the content of the file, unless the user names it.

A further format is one more `Reader` given to `register_reader`; nothing else changes.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aladdin_traces import checks
from aladdin_traces.errors import InputError, suggest
from aladdin_traces.source import Source, open_source
from aladdin_traces.trace import Trace


def tokens_by_characters(text: str) -> int:
    """Estimate the tokens of a text as a quarter of its characters, rounded up, the usual rule of thumb."""
    return -(-len(text) // 4)


@dataclass(frozen=True)
class ReadOptions:
    """What a user may decide about a reading. An option that a format does not know is refused, not passed over.

    Attributes:
        block_size: Tokens of a prefix block, >= 1, where the file does not say it; None: the format's own.
        jitter: Spread requests that were recorded in coarse ticks evenly over their tick.
        seed: Of that spreading, and of requests that are drawn, as ServeGen's are.
        sort: Sort rows that are out of order, and count them in the trace's notes, rather than refuse them.
        models: Keep only requests to these models; empty: all.
        log_types: Keep only rows of these log types; empty: all.
        output_tokens: Output length of requests that come as text without one, tokens, >= 1.
        tokenizer: Counts the tokens of a text; by default a quarter of its characters.
        vllm_filter: Of ShareGPT, keep only what vLLM's benchmark keeps: 4 <= prompt <= 1024 tokens, output >= 4,
            both together <= 2048.
        columns: Names of columns that are not the format's usual ones: ``{"timestamp": "time"}``.
    """

    block_size: int | None = None
    jitter: bool = True
    seed: int = 0
    sort: bool = False
    models: tuple[str, ...] = ()
    log_types: tuple[str, ...] = ()
    output_tokens: int = 256
    tokenizer: Callable[[str], int] = tokens_by_characters
    vllm_filter: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: One is out of its range.
        """
        if self.block_size is not None:
            checks.whole("block_size", self.block_size, low=1, high=checks.TOKENS_MAX)
        checks.whole("output_tokens", self.output_tokens, low=1, high=checks.TOKENS_MAX)
        checks.whole("seed", self.seed, low=0, high=2**63 - 1)

    def check_known(self, reader: "Reader") -> None:
        """Refuse the options that were given but mean nothing to ``reader``.

        Raises:
            InputError: Names the first of them.
        """
        for option in dataclasses.fields(self):
            given = getattr(self, option.name)
            if option.name in ("sort", "seed", *reader.options) or given == getattr(_DEFAULTS, option.name):
                continue
            if option.name == "jitter":
                continue  # there is nothing to switch off
            shown = ", ".join(map(str, given)) if isinstance(given, tuple) else given
            raise InputError(option.name, shown, f"leave it out: the format {reader.name} has no such thing")


_DEFAULTS = ReadOptions()


@dataclass(frozen=True)
class Reader:
    """One file format.

    Attributes:
        name: What the user writes as ``format``.
        looks_like: How such a file looks, for messages.
        refusal: Says why a file is not of this format, in a few words; None if it is. It may look at nothing but the
            head of the file.
        read: Turns the file into a trace, or raises `InputError`.
        options: Names of the `ReadOptions` that it follows, besides ``sort``.
    """

    name: str
    looks_like: str
    refusal: Callable[[Source], str | None]
    read: Callable[[Source, ReadOptions], Trace]
    options: tuple[str, ...] = ()


READERS: dict[str, Reader] = {}
"""All known formats by name, in the order in which they are tried."""


def register_reader(reader: Reader) -> None:
    """Add a format; it is tried after those registered before.

    Raises:
        InputError: The name is taken.
    """
    if reader.name in READERS:
        raise InputError("reader.name", reader.name, "another reader has this name; choose a new one")
    READERS[reader.name] = reader


def read_trace(path: str | os.PathLike[str], format: str | None = None, options: ReadOptions = _DEFAULTS) -> Trace:
    """Read a recorded trace, gzipped or not. Times become seconds from the first row.

    Args:
        path: The file.
        format: Name of a reader in `READERS`; by default the content decides.
        options: What else to decide; see `ReadOptions`.

    Returns:
        The trace; rows of requests that were not served (0 tokens) are left out and counted in ``dropped``.

    Raises:
        InputError: The file cannot be read as a trace; names file, line, column and value where they are known.
    """
    if format is not None and (not isinstance(format, str) or format not in READERS):
        raise InputError("format", format, suggest(str(format), READERS))
    source = open_source(path)
    reader = choose_reader(source) if format is None else READERS[format]
    options.check_known(reader)
    return reader.read(source, options)


def choose_reader(source: Source) -> Reader:
    """Return the first reader that does not refuse the file.

    Raises:
        InputError: All of them do; says why.
    """
    refusals = {}
    for reader in READERS.values():
        refusal = reader.refusal(source)
        if refusal is None:
            return reader
        refusals[reader.name] = refusal
    tried = "; ".join(f"{name} ({why})" for name, why in refusals.items())
    head = ", ".join(source.columns) if source.is_parquet else source.first_line
    raise InputError(
        f"{source.name} line 1", head, f"it is none of the known formats, which are, with why not: {tried}"
    )


def needs_column(*names: str) -> Callable[[Source], str | None]:
    """Refuse a file that has none of these columns.

    A file that has some of a format's columns is taken for it, so that the missing ones are named.
    """

    def refusal(source: Source) -> str | None:
        if not set(names).isdisjoint(source.columns):
            return None
        return "no table" if source.is_json else f"no column {' or '.join(names)}"

    return refusal


def needs_key(*names: str) -> Callable[[Source], str | None]:
    """Refuse what is not JSON whose first object has one of these keys."""

    def refusal(source: Source) -> str | None:
        if not source.is_json:
            return "no JSON"
        return None if not set(names).isdisjoint(source.first) else f"no key {' or '.join(names)}"

    return refusal
