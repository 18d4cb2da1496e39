"""A request that is not served, as OpenAI's and vLLM's servers say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

_KINDS = {
    HTTPStatus.BAD_REQUEST: "BadRequestError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalServerError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
}
_RETRY_AFTER_S = 1


class Refusal(Exception):
    """Why a request is not served, and with which status that is answered.

    Attributes:
        status: HTTP status.
        message: One line for people.
        param: The field of the body that is to blame, if one is.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.headers = dict(headers or {})
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.headers["Retry-After"] = str(_RETRY_AFTER_S)

    @property
    def body(self) -> bytes:
        """The error object."""
        status = HTTPStatus(self.status)
        kind = _KINDS.get(status, status.phrase.replace(" ", "") + "Error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.status}
        return json.dumps({"error": error}).encode()


def bad_request(message: str, param: str | None = None) -> Refusal:
    """The request cannot be served as it is."""
    return Refusal(HTTPStatus.BAD_REQUEST, message, param)


def unavailable(message: str) -> Refusal:
    """The same request may be served later, or elsewhere."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, message)
