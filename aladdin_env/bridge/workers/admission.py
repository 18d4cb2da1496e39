"""What is asked of a server before it gets requests: is it well, who is it, does it serve what the others do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aladdin_env.bridge.workers.client import Unreachable, WorkerClient
from aladdin_env.bridge.workers.scrape import METRICS_PATH, parse
from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.bridge.workers.worker import Identity, LiveWorker
from aladdin_env.errors import InputError
from aladdin_env.simulator.state import DRAINING, READY

_NO_SERVER = "give the address of an OpenAI-compatible server such as 'vllm serve'"


class Admission:
    """Admits workers to a fleet; all of them serve one model.

    Args:
        client: Asks them.
        workers: The fleet, to compare with.
        settings: How long to wait for answers.
        model: The model that they must serve; None: whichever the others serve.
    """

    def __init__(
        self, client: WorkerClient, workers: Sequence[LiveWorker], settings: WatchSettings, model: str | None = None
    ) -> None:
        self._client = client
        self._workers = workers
        self._settings = settings
        self._model = model

    async def check(self, url: str) -> None:
        """Return if the server is well.

        Raises:
            Unreachable: It does not answer, or not with 2xx.
        """
        status, _ = await self._client.get(f"{url}/health", self._settings.health_timeout_s)
        if not 200 <= status < 300:
            raise Unreachable(f"{url}/health answers {status}")

    async def ask(self, url: str) -> Identity:
        """Who the server is.

        Raises:
            Unreachable: It is not well, or not ready.
            InputError: It is no OpenAI-compatible server, wants another key, or lacks the model.
        """
        await self.check(url)
        status, text = await self._client.get(f"{url}/v1/models", self._settings.health_timeout_s)
        if status in (401, 403):
            mend = f"name the environment variable with the right key: {url} answers {status}"
            raise InputError("api_key_env", self._client.api_key_env, mend)
        if status >= 500 or status == 429:
            raise Unreachable(f"{url}/v1/models answers {status}")
        try:
            identity = _identity(json.loads(text)["data"], self._model)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise InputError("worker", url, f"{_NO_SERVER} (its /v1/models answers {status})") from None
        if identity is None:
            raise Unreachable(f"{url} serves no model yet")
        if self._model is not None and self._model not in identity.models:
            raise InputError("model", self._model, f"{url} serves {', '.join(identity.models)}")
        return identity

    async def admit(self, worker: LiveWorker) -> None:
        """Ask the server of ``worker`` who it is, look at its metrics, and let it serve.

        Raises:
            Unreachable: It is not well, or not ready.
            InputError: It is no OpenAI-compatible server, wants another key, or serves another model than the others.
        """
        identity = await self.ask(worker.url)
        await self.look(worker)
        self.compare(worker, identity)  # no await from here on: another one may be admitted meanwhile
        worker.admit(identity)

    def compare(self, worker: LiveWorker, identity: Identity) -> None:
        """Return if ``identity`` serves what the others do that serve now; InputError naming both if it does not."""
        for other in self._workers:
            serves = other is not worker and other.status in (READY, DRAINING)
            if serves and other.model is not None and other.model != identity.model:
                mend = (
                    f"it serves {identity.model!r} and {other.url} serves {other.model!r}: "
                    "give workers that serve one model under one name"
                )
                raise InputError("worker", worker.url, mend)

    async def look(self, worker: LiveWorker) -> bool:
        """Read the metrics of ``worker``; whether that succeeded. If not, the last ones stay, and grow older."""
        try:
            status, page = await self._client.get(f"{worker.url}{METRICS_PATH}", self._settings.scrape_timeout_s)
        except Unreachable:
            return False
        scrape = parse(page) if status == 200 else None
        if scrape is not None:
            worker.look(scrape)
        return scrape is not None


def _identity(entries: list[dict[str, Any]], wanted: str | None) -> Identity | None:
    """The wanted model of a list of models, else the first that is no adapter of another; None of an empty list."""
    own = [entry for entry in entries if not entry.get("parent")] or entries
    if not own:
        return None
    chosen = next((entry for entry in own if entry["id"] == wanted), own[0])
    longest = chosen.get("max_model_len")
    names = tuple(str(entry["id"]) for entry in entries)
    return Identity(str(chosen["id"]), names, longest if isinstance(longest, int) and longest > 0 else None)
