"""A connection to a Ray cluster, and its failures told in one line."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aladdin_agents.benchmark.provenance import versions
from aladdin_env.compare.work import usable_cpus
from aladdin_env.errors import InputError, OutsideFault

#: The address that stands for a cluster of this machine alone, started for the command and ended with it.
LOCAL = "local"
#: How often work is begun again whose process or machine has died.
RETRIES = 3
_ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>[^\s:/]+|\[[^\s\]]+\]):(?P<port>\d{1,5})")
_FORMS = "give HOST:PORT, ray://HOST:PORT, auto, or local"
_ANSWERS_S = 5.0
# Of Ray itself: no usage reports, and no remark that tasks without a GPU see no GPU.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to ``address`` while active; a connection that this process has already is used as it is.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT``, ``auto`` (the cluster that this machine belongs to) or ``local``.

    Raises:
        InputError: Ray is not installed, no such form, nobody answers there, another version of Ray or Python.
    """
    _check(address)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError:
        mend = "Ray is not installed: pip install 'aladdin-env[ray]', or leave --ray out for local processes"
        raise InputError("--ray", address, mend) from None
    if ray.is_initialized():
        yield ray
        return
    _connect(ray, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Refuse what is no address, and one where nobody listens: Ray itself would try for a long time."""
    if address in (LOCAL, "auto"):
        return
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InputError("--ray", address, _FORMS)
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), _ANSWERS_S).close()
    except (OSError, OverflowError) as error:
        mend = f"nobody answers there ({error}): start a cluster with 'ray start --head', or give local"
        raise InputError("--ray", address, mend) from None


def _connect(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options |= {"num_cpus": usable_cpus(), "include_dashboard": False}
    try:
        ray.init(address, **options)
    except (ConnectionError, ImportError, OSError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        mend = f"Ray cannot connect ({why}): {_FORMS}; a cluster that asks for a token takes RAY_AUTH_MODE=token here"
        raise InputError("--ray", address, mend) from error


@dataclass(frozen=True)
class Origin:
    """Where a command was typed; it travels with the work.

    Attributes:
        folder: The working folder there.
        versions: Versions of the packages that results depend on.
    """

    folder: str
    versions: Mapping[str, str]

    @classmethod
    def here(cls) -> Origin:
        """This process."""
        return cls(os.getcwd(), versions())

    def settle(self) -> None:
        """In a process of the cluster: work as if there, so that relative names mean the same files.

        Raises:
            OutsideFault: a package has another version here.
        """
        for name, version in versions().items():
            if self.versions[name] != version:
                where, wanted = socket.gethostname(), self.versions[name]
                raise OutsideFault(f"{where} has {name} {version}, the machine that asks {wanted}: install the same")
        if Path(self.folder).is_dir():
            os.chdir(self.folder)


@contextmanager
def plain_faults(ray: Any, what: str) -> Iterator[None]:
    """What was raised on the cluster, as it was raised there; dead processes in one line.

    Args:
        ray: The library.
        what: What was being done, for the line.

    Raises:
        OutsideFault: processes have died again and again, or the cluster has gone.
    """
    errors = ray.exceptions
    try:
        yield
    except errors.RayTaskError as error:
        if isinstance(error.cause, InputError | OutsideFault):
            raise error.cause from None
        raise
    except (errors.WorkerCrashedError, errors.ActorDiedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
        raise OutsideFault(f"{what}: its process has died {RETRIES + 1} times ({_first_line(error)})") from error
    except (errors.RayError, ConnectionError) as error:
        raise OutsideFault(f"{what}: Ray has failed ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
