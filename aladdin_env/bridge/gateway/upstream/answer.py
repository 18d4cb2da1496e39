"""What a worker answers, for whoever asked."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from aladdin_env.bridge.gateway.upstream.connection import Connection


class Answer:
    """An answer whose head is there; a context manager, after which its connection is kept, or closed if it must be.

    Args:
        connection: Where it comes in.
        release: Takes the connection back.

    Attributes:
        status: HTTP status.
        headers: As they came, repeated ones too.
    """

    __slots__ = ("_connection", "_release", "headers", "status")

    def __init__(self, connection: Connection, release: Callable[[Connection], None]) -> None:
        self._connection = connection
        self._release = release
        self.status = connection.status
        self.headers = [
            (name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in connection.headers
        ]

    @property
    def content_type(self) -> str:
        """Without its parameters, in lower case; "" where there is none."""
        for name, value in self.headers:
            if name.lower() == "content-type":
                return value.partition(";")[0].strip().lower()
        return ""

    @property
    def is_stream(self) -> bool:
        """Whether it is an event stream."""
        return self.content_type == "text/event-stream"

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            Unanswered: it breaks off.
        """
        await self._connection.arrived(whole=True)
        return self._connection.taken()

    async def some(self) -> bytes:
        """What has come of the body by now, or comes next; b"": the end.

        Raises:
            Unanswered: it breaks off; what came before is given first.
        """
        await self._connection.arrived(whole=False)
        return self._connection.taken()

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release(self._connection)
