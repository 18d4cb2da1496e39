"""Addresses of servers, the keys that they want, and the library that reaches them: for all who ask servers."""

from __future__ import annotations

import os
from types import ModuleType
from urllib.parse import urlsplit

from aladdin_env.errors import InputError


def worker_url(text: str, field: str = "worker") -> str:
    """The address of a worker as given by a user, without a trailing slash and ``/v1``.

    Raises:
        InputError: It is no http(s) address, or has a user and password in it.
    """
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is no number
        usable = False
    if not usable or parts.query or parts.fragment:
        raise InputError(field, text, "give an address such as http://worker:8000")
    if parts.username is not None:  # would stand in every message
        mend = "give the address without user and password; a key goes into an environment variable (api_key_env)"
        raise InputError(field, parts.hostname, mend)
    return text.strip().rstrip("/").removesuffix("/v1").rstrip("/")


def authorization(variable: str | None) -> dict[str, str]:
    """The header with the key in an environment variable; none where it is None.

    Raises:
        InputError: the variable has none.
    """
    if variable is None:
        return {}
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError("api_key_env", variable, "set this environment variable to the key that the workers want")
    return {"Authorization": f"Bearer {key}"}


def aiohttp_module() -> ModuleType:
    """The HTTP library, which comes with an extra.

    Raises:
        InputError: it is not installed.
    """
    try:
        import aiohttp
    except ImportError:
        raise InputError("aiohttp", None, "it is missing: pip install 'aladdin-env[serve]'") from None
    return aiohttp
