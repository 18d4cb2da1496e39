"""How many tokens a prompt has: given as token ids it says so, a tokeniser counts it, else it is estimated."""

from __future__ import annotations

from aladdin_env.bridge.gateway.asked import Asked
from aladdin_env.bridge.gateway.tokenisers import Tokeniser

# Of a text that no tokeniser has seen; the estimate learns from what workers count.
_FIRST_BYTES_PER_TOKEN = 4.0
_LEARNING = 0.02


class PromptLengths:
    """Tokens of prompts. The estimate goes by the bytes of the text, and learns from the counts that workers send back.

    Args:
        tokeniser: Counts text; None: it is estimated.

    Attributes:
        bytes_per_token: Of the estimate now.
    """

    def __init__(self, tokeniser: Tokeniser | None = None, bytes_per_token: float = _FIRST_BYTES_PER_TOKEN) -> None:
        self.bytes_per_token = bytes_per_token
        self._tokeniser = tokeniser

    def needs_counting(self, asked: Asked) -> bool:
        """Whether :meth:`counted` would know better than :meth:`of`."""
        return self._tokeniser is not None and asked.text_bytes > 0

    def of(self, asked: Asked) -> int:
        """Prompt tokens, 1 or more; exact for token ids, else estimated."""
        return max(1, asked.tokens + round(asked.text_bytes / self.bytes_per_token))

    async def counted(self, path: str, asked: Asked) -> int:
        """Prompt tokens, 1 or more, by the tokeniser; as :meth:`of` where it does not say."""
        found = None if self._tokeniser is None else await self._tokeniser.count(path, asked)
        if found is None:
            return self.of(asked)
        self.learn(asked, found)
        return max(1, found)

    def learn(self, asked: Asked, prompt_tokens: int) -> None:
        """Somebody who knows has counted this prompt."""
        if asked.text_bytes > 0 and prompt_tokens > asked.tokens:
            seen = asked.text_bytes / (prompt_tokens - asked.tokens)
            self.bytes_per_token += _LEARNING * (seen - self.bytes_per_token)
