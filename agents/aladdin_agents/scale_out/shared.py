"""Whether the processes of a cluster see a folder of this machine."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aladdin_agents.learned.train.lock import make_folder
from aladdin_env.errors import InputError


@dataclass(frozen=True)
class SharedFolder:
    """A folder with a mark in it.

    Attributes:
        path: Absolute.
        mark: Name of a file that is in it while it is shared.
    """

    path: Path
    mark: str

    def check(self) -> None:
        """On a machine of the cluster.

        Raises:
            InputError: it does not see the mark.
        """
        if not (self.path / self.mark).exists():
            mend = f"{socket.gethostname()} does not see it: give a folder on a disk that the whole cluster shares"
            raise InputError("--out", str(self.path), mend)


@contextmanager
def shared(folder: Path) -> Iterator[SharedFolder]:
    """Put a mark into ``folder``, which is made where it is missing, while active."""
    make_folder(folder)
    marked = SharedFolder(folder.absolute(), f".shared-{uuid.uuid4().hex}")
    (marked.path / marked.mark).touch()
    try:
        yield marked
    finally:
        (marked.path / marked.mark).unlink(missing_ok=True)
