"""Watching the bridge: metrics for Prometheus, a status for scripts, a live page for people.

``watch = Watch(cluster, pool, decider, dispatcher, clock)`` hears of everything (it is a
:class:`~aladdin_env.bridge.events.Watcher`) and has the pages; ``watch.close()`` ends their streams. It reads state and
changes none.
"""

from __future__ import annotations

from aladdin_env.errors import InputError

try:
    from aladdin_env.bridge.watch.watch import Watch, WatchOptions
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("aiohttp", "orjson", "prometheus_client"):
        raise
    raise InputError(str(error.name), None, "it is missing: pip install 'aladdin-env[serve]'") from None

__all__ = ["Watch", "WatchOptions"]
