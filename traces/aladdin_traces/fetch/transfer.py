"""HTTP: fill a partial file, go on where it ended, try again what may pass.

The standard library's client is enough for that, and follows redirects and the environment's proxies by itself.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from aladdin_traces.errors import InputError
from aladdin_traces.fetch.catalogue import TraceSource
from aladdin_traces.fetch.part import PartialFile

Progress = Callable[[int, int | None], None]
"""Is told how many bytes are there, and how many there will be (None where the server does not tell)."""

_CHUNK_BYTES = 1 << 20
_LONGEST_WAIT_S = 60.0
_PASSING = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        tries: Tries without progress before giving up, at least 1.
        backoff_s: Seconds before the second try; doubled for each further one, and at least what the server asks for.
        timeout_s: Seconds without an answer or a byte after which a try has failed.
    """

    tries: int = 5
    backoff_s: float = 1.0
    timeout_s: float = 30.0


class _Failed(Exception):
    """This address will not give the file; the message says why."""


class _BrokeOff(Exception):
    """A try failed that may pass: the message says why."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def fill(source: TraceSource, part: PartialFile, patience: Patience, progress: Progress) -> None:
    """Fill ``part`` with the whole file, from the first of the source's addresses that gives it.

    Raises:
        InputError: None gives it, or it cannot be written; what has come is kept for the next time.
    """
    for url in source.urls:
        try:
            return _from_address(url, source, part, patience, progress)
        except _Failed as failure:
            reason = str(failure)
    again = "run the same command again: it goes on where it ended" if part.size_bytes else "try again"
    raise InputError("url", url, f"it could not be fetched ({reason}); check address and network, then {again}")


def _from_address(url: str, source: TraceSource, part: PartialFile, patience: Patience, progress: Progress) -> None:
    failures, best_bytes = 0, part.size_bytes
    while True:
        try:
            return _one_try(url, source, part, patience.timeout_s, progress)
        except _BrokeOff as broken:
            has_come_far = part.size_bytes >= best_bytes + _CHUNK_BYTES
            best_bytes = max(best_bytes, part.size_bytes)
            failures = 1 if has_come_far else failures + 1
            if failures >= patience.tries:
                raise _Failed(f"{broken}, {failures} times") from None
            wait_s = max(broken.wait_s, patience.backoff_s * 2 ** (failures - 1))
            time.sleep(min(wait_s, _LONGEST_WAIT_S))


def _one_try(url: str, source: TraceSource, part: PartialFile, timeout_s: float, progress: Progress) -> None:
    offset, version = part.size_bytes, part.version_of(url)
    if offset and version is None and source.sha256 is None:  # nothing could tell whether the rest fits to it
        offset = 0
    headers = {"User-Agent": "aladdin-env", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        with urlopen(Request(url, headers=headers), timeout=timeout_s) as answer:
            _receive(answer, url, source, part, offset, version, progress)
    except HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            if error.headers.get("Content-Range") == f"bytes */{offset}":
                return  # all of it had come before
            part.discard()
            raise _BrokeOff("the partial file is longer than the file") from None
        raise _refused(error) from None
    except InputError:  # of the disk; it is a ValueError too
        raise
    except (OSError, HTTPException, ValueError) as error:
        raise _unreachable(error) from None


def _receive(
    answer: HTTPResponse,
    url: str,
    source: TraceSource,
    part: PartialFile,
    offset: int,
    version: str | None,
    progress: Progress,
) -> None:
    if answer.headers.get_content_type() == "text/html":
        raise _Failed("a web page came instead of a file: is there a login or a portal in between?")
    told = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
    start, total = _span(answer)
    total = source.size_bytes if total is None else total
    if start and (start != offset or (version and told and version != told)):
        part.discard()
        raise _BrokeOff("the file has changed since its first part came")
    if source.size_bytes is not None and total is not None and total != source.size_bytes:
        raise _Failed(f"it has {total:,} bytes where {source.size_bytes:,} were expected: the publisher changed it")
    if start == 0:  # a first try, or a server that knows no ranges
        part.begin(url, told)
    if total is not None:
        part.need_room(total - start)
    part.append(_chunks(answer, start, total, progress))
    if total is not None and part.size_bytes > total:
        part.discard()
        raise _BrokeOff("something else writes to the partial file, perhaps a second run")
    if total is not None and part.size_bytes < total:
        raise _BrokeOff(f"the connection broke off after {part.size_bytes:,} of {total:,} bytes")


def _span(answer: HTTPResponse) -> tuple[int, int | None]:
    """First byte that comes, and the size of the whole file."""
    if answer.status != HTTPStatus.PARTIAL_CONTENT:
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if span is None:
        raise _Failed("the server's answer to a request for the rest is not HTTP")
    return int(span[1]), None if span[2] == "*" else int(span[2])


def _chunks(answer: HTTPResponse, start: int, total: int | None, progress: Progress) -> Iterator[bytes]:
    done = start
    progress(done, total)
    while total is None or done < total:
        chunk = answer.read1(_CHUNK_BYTES)
        if not chunk:
            return
        done += len(chunk)
        yield chunk
        progress(done, total)


def _refused(error: HTTPError) -> _Failed | _BrokeOff:
    if 300 <= error.code < 400:
        return _Failed("the addresses lead in a circle")
    reason = f"the server answered {error.code} {error.reason}".rstrip()
    if error.code not in _PASSING:
        return _Failed(reason)
    wait = error.headers.get("Retry-After", "")
    return _BrokeOff(reason, float(wait) if wait.isdecimal() else 0.0)


def _unreachable(error: Exception) -> _Failed | _BrokeOff:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, socket.gaierror):
        return _Failed("the name of the server is not known: there may be no network")
    if isinstance(cause, ConnectionRefusedError):
        return _Failed("connection refused")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _Failed(f"the server's certificate is not trusted: {cause.verify_message}")
    if isinstance(cause, ValueError):
        return _Failed(f"no valid address or answer: {cause}")
    if isinstance(cause, TimeoutError):
        return _BrokeOff("no answer in time")
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return _BrokeOff(reason or type(cause).__name__)
