"""Prompts that no prefix cache has seen."""

from __future__ import annotations

import numpy as np

from aladdin_calibration.server.client import Client, Prompt

_FIRST_ID, _LAST_ID = 100, 1000  # below are special tokens, and hardly a vocabulary ends here
_WORDS = ("the", "of", "and", "to", "in", "is", "was", "for", "on", "that", "by", "with", "from", "at", "his", "it")


class Prompts:
    """Draws a new random prompt each time, as token ids or, where the server takes none, as words of one token each.

    Args:
        client: Its dialect decides.
        seed: Same seed, same prompts.
    """

    def __init__(self, client: Client, seed: int) -> None:
        self._client = client
        self._rng = np.random.default_rng(seed)

    def fresh(self, tokens: int) -> Prompt:
        """A prompt of ``tokens`` tokens (with words: about as many; the server's count is what holds)."""
        if self._client.dialect.token_prompts:
            drawn: list[int] = self._rng.integers(_FIRST_ID, _LAST_ID, tokens).tolist()
            return drawn
        return " ".join(np.asarray(_WORDS)[self._rng.integers(0, len(_WORDS), tokens)])
