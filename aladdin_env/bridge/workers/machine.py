"""What servers on this machine need of it: a port each, and some of its GPUs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aladdin_env.errors import InputError

_ASK_S = 20.0


@contextmanager
def reserved_port(host: str) -> Iterator[int]:
    """A free port on ``host`` that nobody else gets until the block ends, but a server that binds it by its number.

    On Linux a socket that is bound and does not listen keeps the port from everybody who asks for any free port, while
    a server that sets SO_REUSEADDR, as all usual ones do, can listen on it. Elsewhere the port is given back at once,
    and another process may be faster.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, 0))
        port = int(holder.getsockname()[1])
        if sys.platform != "linux":
            holder.close()
        yield port


def gpu_ids() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none on a machine without."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        asked = [tool, "--query-gpu=index", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=_ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return told.stdout.split() if told.returncode == 0 else []


class GpuSets:
    """The machine's GPUs, in sets of which each server gets one.

    Args:
        gpus: Their names.
        each: GPUs of one server; 0: servers are told nothing about GPUs, and share all.
        servers: Most servers at once.

    Raises:
        InputError: They are not enough.
    """

    def __init__(self, gpus: Sequence[str], each: int, servers: int) -> None:
        if each and not gpus:
            raise InputError("gpus_per_worker", each, "name the GPUs: none is found on this machine")
        if each and len(gpus) // each < servers:
            mend = (
                f"give at most {len(gpus) // each}: there are {len(gpus)} GPUs, {each} for each worker "
                "(with 0 GPUs per worker they share all)"
            )
            raise InputError("max", servers, mend)
        sets = range(len(gpus) // each) if each else ()
        self._free = deque(",".join(gpus[i * each : (i + 1) * each]) for i in sets)

    def take(self) -> str | None:
        """A set that no server has, the one that was given back first; None where they share."""
        return self._free.popleft() if self._free else None

    def give_back(self, gpus: str | None) -> None:
        """No server has ``gpus`` any more."""
        if gpus is not None:
            self._free.append(gpus)
