"""Prompts that come as text."""

from aladdin_traces import checks
from aladdin_traces.errors import InputError
from aladdin_traces.readers.registry import ReadOptions
from aladdin_traces.source import Source


def text_tokens(source: Source, place: str, text: object, options: ReadOptions) -> int:
    """Count the tokens of a text, or of a list of texts together.

    Raises:
        InputError: It is no text, or the user's tokeniser gave no count.
    """
    count = 0
    for part in text if isinstance(text, list) else [text]:
        if not isinstance(part, str):
            raise InputError(f"{source.name} {place}", text, "give the prompt as text")
        count += checks.whole("tokenizer", options.tokenizer(part), low=0, high=checks.TOKENS_MAX)
    return count
