"""A tokenizer that needs no vocabulary, and answers that follow from their prompts.

A token is four bytes of UTF-8, so about four characters of English: a token's number is those bytes as a big-endian
integer. Text -> tokens -> text is lossless, but for NUL characters.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

TOKEN_BYTES = 4
LARGEST_TOKEN = 2 ** (8 * TOKEN_BYTES) - 1
_WORDS = (
    " ace act add age aid aim air all and any arm art ask bay bed big box boy but can car cat cup cut day dog dry ear"
    " eat egg end eye far few fit fly for fox fun get got had hat her him his hot how its job joy key law let lie low"
    " map may men mix net new nor now"
)
WORDS = tuple(_WORDS[i : i + TOKEN_BYTES] for i in range(0, len(_WORDS), TOKEN_BYTES))
_LARGEST_BLOCK = 2**31 - 1


@dataclass(frozen=True)
class Tokens:
    """A sequence of tokens; ``packed`` holds the four bytes of each."""

    packed: bytes

    @classmethod
    def of_text(cls, text: str) -> Tokens:
        """The tokens of ``text``."""
        data = text.encode("utf-8", "replace")
        whole = len(data) - len(data) % TOKEN_BYTES
        return cls(data[:whole] + data[whole:].rjust(TOKEN_BYTES, b"\0") if data[whole:] else data)

    @classmethod
    def of_ids(cls, ids: Sequence[int]) -> Tokens:
        """The tokens with these numbers, 0 to ``LARGEST_TOKEN``.

        Raises:
            struct.error: other numbers, or none.
        """
        return cls(struct.pack(f">{len(ids)}I", *ids))

    def __len__(self) -> int:
        return len(self.packed) // TOKEN_BYTES

    @property
    def ids(self) -> list[int]:
        """Their numbers."""
        return list(struct.unpack(f">{len(self)}I", self.packed))

    @property
    def text(self) -> str:
        """What they say."""
        return self.packed.replace(b"\0", b"").decode("utf-8", "replace")

    def blocks(self, size: int) -> list[int]:
        """One number (int32) for each whole block of ``size`` tokens and all before it."""
        found, checksum = [], 0
        step = size * TOKEN_BYTES
        for end in range(step, len(self.packed) + 1, step):
            checksum = zlib.crc32(self.packed[end - step : end], checksum)
            found.append(checksum & _LARGEST_BLOCK)
        return found


class Continuation:
    """What the model says after ``prompt``, and how long it goes on: the same on every worker of one ``seed``."""

    def __init__(self, prompt: Tokens, seed: int = 0) -> None:
        self._key = blake2b(prompt.packed, digest_size=32, salt=seed.to_bytes(8, "little")).digest()
        self._chapter, self._choices = -1, b""  # the last 64 choices made, one a byte

    def natural_length(self, mean: float) -> int:
        """Tokens until it would end by itself: a geometric law of this mean, 1 or more."""
        if mean <= 1.0:
            return 1
        uniform = (int.from_bytes(self._key[:8], "little") + 0.5) * 2.0**-64
        return 1 + math.floor(math.log(uniform) / math.log1p(-1.0 / mean))

    def words(self, start: int, stop: int) -> list[str]:
        """Tokens ``start`` to ``stop`` - 1, counted from 0, as text."""
        return [WORDS[self._choice(position)] for position in range(start, stop)]

    def _choice(self, position: int) -> int:
        chapter, place = divmod(position, len(WORDS))
        if chapter != self._chapter:
            digest = blake2b(chapter.to_bytes(8, "little"), digest_size=len(WORDS), key=self._key).digest()
            self._chapter, self._choices = chapter, digest
        return self._choices[place] % len(WORDS)
