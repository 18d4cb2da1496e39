"""Which headers travel on, in both directions."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from multidict import CIMultiDict

REQUEST_ID = "X-Request-Id"
# Of one connection alone (RFC 9110, 7.6.1), and what the sending library writes itself.
_OF_A_CONNECTION = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "content-length", "expect",
})  # fmt: skip
_NONE: frozenset[str] = frozenset()
_NOT_RETURNED = _OF_A_CONNECTION | {REQUEST_ID.lower(), "server", "date"}
_NOT_FORWARDED = _OF_A_CONNECTION | {REQUEST_ID.lower(), "content-encoding"}  # a body is unpacked when it is read
_LONGEST_ID = 256
_ids = random.Random()  # of the system's entropy: names, no secrets


def request_id(given: Mapping[str, str]) -> str:
    """The client's id of a request where it has a usable one, else a new one."""
    own = given.get(REQUEST_ID, "")
    return own if 0 < len(own) <= _LONGEST_ID and own.isprintable() else f"{_ids.getrandbits(128):032x}"


def forwarded(given: Iterable[tuple[str, str]], identity: str, drops: frozenset[str] = _NONE) -> list[tuple[str, str]]:
    """The headers of a request for the worker, but for those in ``drops``."""
    return [*_passed(given, _NOT_FORWARDED | drops), (REQUEST_ID, identity)]


def returned(given: Iterable[tuple[str, str]], identity: str) -> CIMultiDict[str]:
    """The headers of an answer for the client."""
    out = CIMultiDict(_passed(given, _NOT_RETURNED))
    out[REQUEST_ID] = identity
    return out


def _passed(given: Iterable[tuple[str, str]], left_out: frozenset[str]) -> list[tuple[str, str]]:
    """All but these and those that Connection headers name."""
    headers = [(name, name.lower(), value) for name, value in given]
    for _, low, value in headers:
        if low == "connection":
            left_out |= {part.strip().lower() for part in value.split(",")}
    return [(name, value) for name, low, value in headers if low not in left_out]
