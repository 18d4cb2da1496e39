"""Which headers travel on, in both directions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from multidict import CIMultiDict

REQUEST_ID = "X-Request-Id"
# Of one connection alone (RFC 9110, 7.6.1), and what the sending library writes itself.
_OF_A_CONNECTION = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "content-length", "expect",
})  # fmt: skip
_LONGEST_ID = 256


def request_id(given: Mapping[str, str]) -> str:
    """The client's id of a request where it has a usable one, else a new one."""
    own = given.get(REQUEST_ID, "")
    return own if 0 < len(own) <= _LONGEST_ID and own.isprintable() else uuid.uuid4().hex


def forwarded(given: Iterable[tuple[str, str]], identity: str) -> CIMultiDict[str]:
    """The headers of a request for the worker."""
    headers = [(name, name.lower(), value) for name, value in given]
    named = _named_by_connection([value for _, low, value in headers if low == "connection"])
    left_out = _OF_A_CONNECTION | named if named else _OF_A_CONNECTION
    out = CIMultiDict([(name, value) for name, low, value in headers if low not in left_out])
    out[REQUEST_ID] = identity
    return out


def returned(given: Iterable[tuple[str, str]], identity: str) -> CIMultiDict[str]:
    """The headers of an answer for the client."""
    out = forwarded(given, identity)
    out.pop("Server", None)
    out.pop("Date", None)
    return out


def _named_by_connection(given: Iterable[str]) -> frozenset[str]:
    """Headers that Connection headers say are of this connection alone."""
    return frozenset(part.strip().lower() for value in given for part in value.split(","))
