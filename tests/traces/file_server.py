"""A local HTTP server that gives one file, well or badly as a test asks."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves ``data`` at ``/trace.csv``; each request takes the next of ``plan``, then ``"whole"``.

    Plans: ``whole``, ``no range`` (whole, whatever is asked), ``broken`` (half of what was asked), ``no length``,
    ``trickle`` (a byte in ten milliseconds after the first half), ``circle``, ``html``, ``empty``, ``silent``, or a
    status as a number.

    Attributes:
        data: The file.
        etag: Its version; None tells none.
        plan: What the next requests get.
        ranges: The Range header of each request that came, None without one.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.etag: str | None = '"v1"'
        self.plan: list[str | int] = []
        self.ranges: list[str | None] = []
        self.headers: dict[str, str] = {}
        self.stopped = threading.Event()
        self.url = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        how = self.plan.pop(0) if self.plan else "whole"
        asked = request.headers["Range"]
        self.ranges.append(asked)
        if isinstance(how, int) or how in ("circle", "html", "silent"):
            return self._refuse(request, how)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and how != "no range" else 0
        if start >= len(self.data) and start:
            return self._head(request, 416, {"Content-Range": f"bytes */{len(self.data)}", "Content-Length": "0"})
        body = b"" if how == "empty" else self.data[start:]
        headers = {} if how == "no length" else {"Content-Length": str(len(body))}
        if self.etag:
            headers["ETag"] = self.etag
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        self._head(request, 206 if start else 200, headers)
        half = len(body) // 2
        request.wfile.write(body[:half] if how in ("broken", "trickle") else body)
        if how == "trickle":
            for place in range(half, len(body)):
                if self.stopped.is_set():
                    return
                request.wfile.write(body[place : place + 1])
                time.sleep(0.01)

    def _refuse(self, request: BaseHTTPRequestHandler, how: str | int) -> None:
        if how == "silent":
            self.stopped.wait(10)
        elif how == "circle":
            self.plan.insert(0, "circle")
            self._head(request, 302, {"Location": self.url, "Content-Length": "0"})
        elif how == "html":
            self._head(request, 200, {"Content-Type": "text/html", "Content-Length": "6"})
            request.wfile.write(b"<html>")
        else:
            self._head(request, how, {"Content-Length": "0", **self.headers})

    @staticmethod
    def _head(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()


@contextmanager
def serving(data: bytes) -> Iterator[FileServer]:
    """A server of ``data`` on a free port of this machine."""
    files = FileServer(data)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with suppress(BrokenPipeError, ConnectionResetError):
                files.answer(self)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    files.url = f"http://127.0.0.1:{server.server_port}/trace.csv"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield files
    finally:
        files.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
