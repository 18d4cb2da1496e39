"""What a client is told when something goes wrong: OpenAI's error objects, with a reason that machines can read."""

from __future__ import annotations

import json
from collections.abc import Iterable

from aiohttp import web

from aladdin_env.bridge.gateway.headers import returned


class Problem(Exception):
    """An answer that is an error.

    Attributes:
        status: HTTP status.
        reason: For machines, the error's ``code``: such as ``queue_full``.
        message: For people.
        retry_after_s: When to try again, seconds; None: nothing is said.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s

    def body(self) -> bytes:
        """The error object."""
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        error = {"message": self.message, "type": kind, "param": None, "code": self.reason}
        return json.dumps({"error": error}).encode()

    def response(self, request_id: str = "") -> web.Response:
        """As an HTTP response."""
        headers = {"X-Request-Id": request_id} if request_id else {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after_s)))
        return web.Response(status=self.status, body=self.body(), content_type="application/json", headers=headers)

    def event(self, path: str) -> bytes:
        """As an event of a stream that has begun already, in the manner of the API that was asked."""
        if path.startswith("/v1/messages"):
            told = {"type": "error", "error": {"type": "api_error", "message": self.message}}
            return b"event: error\ndata: " + json.dumps(told).encode() + b"\n\n"
        if path.startswith("/v1/responses"):
            told_flat = {"type": "error", "code": self.reason, "message": self.message, "param": None}
            return b"event: error\ndata: " + json.dumps(told_flat).encode() + b"\n\n"
        return b"data: " + self.body() + b"\n\n"


class PassedOn(Problem):
    """A worker's own error, byte for byte."""

    def __init__(self, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
        super().__init__(status, "worker_error", f"the worker answered HTTP {status}")
        self._body = body
        self._headers = tuple(headers)

    def response(self, request_id: str = "") -> web.Response:
        """The worker's answer."""
        return web.Response(status=self.status, body=self._body, headers=returned(self._headers, request_id))


def bad_request(reason: str, message: str, status: int = 400) -> Problem:
    """The client's mistake."""
    return Problem(status, reason, message)
