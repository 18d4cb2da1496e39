"""The routers that are measured, and how each is started: with little work per request, and no log of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from aladdin_env.errors import InputError

OURS = {"bridge": "aladdin serve --policy aladdin --port {port} {backends:--worker}"}
PEERS = {
    "vllm_router": (
        "vllm-router --host 127.0.0.1 --port {port} --worker-urls {backends} --policy round_robin "
        "--log-level warning --prometheus-port {spare}"
    ),
    "smg": (
        "smg launch --host 127.0.0.1 --port {port} --worker-urls {backends} --policy round_robin "
        "--log-level warn --prometheus-host 127.0.0.1 --prometheus-port {spare} --backend vllm"
    ),
}


def known_peers() -> dict[str, str]:
    """Those of :data:`PEERS` that are installed."""
    return {key: template for key, template in PEERS.items() if shutil.which(template.split()[0])}


def peers_given(given: Sequence[str]) -> dict[str, str]:
    """Routers by key from ``NAME=COMMAND``.

    Raises:
        InputError: It is none, or the name is taken.
    """
    found = {}
    for text in given:
        name, equals, template = text.partition("=")
        key = name.strip().replace("-", "_")
        if not equals or not key.isidentifier() or not template.strip():
            raise InputError("--peer", text, "write NAME=COMMAND with {port} and {backends} in the command")
        if key in ("direct", *OURS):
            raise InputError("--peer", text, "choose another name")
        found[key] = template
    return found
