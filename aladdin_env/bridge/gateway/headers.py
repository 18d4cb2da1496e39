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
    out = CIMultiDict[str]()
    named = _named_by_connection(given)
    for name, value in given:
        low = name.lower()
        if low not in _OF_A_CONNECTION and low not in named:
            out.add(name, value)
    out[REQUEST_ID] = identity
    return out


def returned(given: Iterable[tuple[str, str]], identity: str) -> CIMultiDict[str]:
    """The headers of an answer for the client."""
    out = forwarded(given, identity)
    out.pop("Server", None)
    out.pop("Date", None)
    return out


def _named_by_connection(given: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Headers that the Connection header says are of this connection alone."""
    found = [value for name, value in given if name.lower() == "connection"]
    return frozenset(part.strip().lower() for value in found for part in value.split(","))
