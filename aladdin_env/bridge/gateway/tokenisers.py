"""Who counts the tokens of a text: a worker that is asked, or a tokeniser file of our own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import orjson

from aladdin_env.bridge.gateway.asked import CHAT, COMPLETIONS, Asked, prompt_of
from aladdin_env.bridge.gateway.upstream import Unanswered, Upstream
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.errors import InputError

#: Who counts, beside a file.
ESTIMATE, WORKER = "estimate", "worker"
_log = logging.getLogger(__name__)
_WITHIN_S = 1.0
_FAILURES, _LEFT_ALONE_S = 3, 30.0
_AT_ONCE_BYTES = 8 << 10  # some milliseconds of work; the text of a longer prompt is cut up in a thread
_JSON = (("Content-Type", "application/json"),)
_ASKED_ALONG = ("model", "messages", "tools", "chat_template", "chat_template_kwargs", "add_generation_prompt")


class Tokeniser(Protocol):
    """Counts tokens."""

    async def count(self, path: str, asked: Asked) -> int | None:
        """Prompt tokens of a request, its token ids included; None: it cannot say."""
        ...


def tokeniser(spec: str, workers: Sequence[LiveWorker], upstream: Upstream) -> Tokeniser | None:
    """That of a name or file; None: nobody counts, the length of text is estimated.

    Raises:
        InputError: there is no such file, or none that can be read.
    """
    if spec == ESTIMATE:
        return None
    return WorkerTokeniser(workers, upstream) if spec == WORKER else FileTokeniser(Path(spec))


class WorkerTokeniser:
    """Asks the READY worker with the fewest requests by ``/tokenize``, as vLLM has it: exact, chat template included.

    It costs a round trip before every placement. Where workers do not answer it is left alone for a while.

    Args:
        workers: All slots.
        upstream: Reaches them.
    """

    def __init__(self, workers: Sequence[LiveWorker], upstream: Upstream) -> None:
        self._workers = workers
        self._upstream = upstream
        self._failures = 0
        self._alone_until_s = 0.0

    async def count(self, path: str, asked: Asked) -> int | None:
        """Prompt tokens; None for what vLLM's ``/tokenize`` does not take, or where no worker answers."""
        question = _question(path, asked)
        ready = [worker for worker in self._workers if worker.takes_new]
        if question is None or not ready or time.monotonic() < self._alone_until_s:
            return None
        worker = min(ready, key=lambda one: one.in_flight)
        try:
            async with asyncio.timeout(_WITHIN_S):
                with await self._upstream.send("POST", worker.url, "/tokenize", _JSON, question) as answer:
                    found = orjson.loads(await answer.read())
                    count = found["count"] if answer.status == 200 else None
        except (Unanswered, TimeoutError, orjson.JSONDecodeError, KeyError, TypeError):
            count = None
        if not isinstance(count, int):
            self._failed(worker)
            return None
        self._failures = 0
        return count

    def _failed(self, worker: LiveWorker) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            self._failures = 0
            self._alone_until_s = time.monotonic() + _LEFT_ALONE_S
            _log.warning("worker %d counts no tokens: prompts are estimated for %g s", worker.slot, _LEFT_ALONE_S)


def _question(path: str, asked: Asked) -> bytes | None:
    data = orjson.loads(asked.body)
    if path == COMPLETIONS and isinstance(data.get("prompt"), str):
        return orjson.dumps({"model": asked.model, "prompt": data["prompt"]})
    if path == CHAT and isinstance(data.get("messages"), list):
        return orjson.dumps({name: data[name] for name in _ASKED_ALONG if name in data})
    return None


class FileTokeniser:
    """Counts by a tokeniser file (Hugging Face's ``tokenizer.json``).

    A chat's template is not in that file: each message counts as 4 tokens more than its text.

    Args:
        path: The file.

    Raises:
        InputError: there is none, it is no such file, or the library that reads it is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            mend = "reading a tokeniser file takes more: pip install 'aladdin-env[tokenizer]'"
            raise InputError("tokenizer", str(path), mend) from None
        if not path.is_file():
            raise InputError("tokenizer", str(path), "give a tokenizer.json that exists, or: worker, estimate")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more precise
            why = " ".join(str(error).split())
            raise InputError("tokenizer", str(path), f"give a tokenizer.json of Hugging Face ({why})") from None

    async def count(self, path: str, asked: Asked) -> int | None:
        """Prompt tokens."""
        known, texts = prompt_of(path, orjson.loads(asked.body))
        if asked.text_bytes <= _AT_ONCE_BYTES:
            return known + self._count(path, texts)
        return known + await asyncio.to_thread(self._count, path, texts)

    def _count(self, path: str, texts: Sequence[str]) -> int:
        cut = self._tokenizer.encode_batch(list(texts), add_special_tokens=path == COMPLETIONS)
        return sum(len(each.ids) for each in cut)
