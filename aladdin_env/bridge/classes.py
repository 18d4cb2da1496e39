"""The objectives of live requests: those of the scenario, and those that clients state in headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aladdin_env.bridge.events import Watcher
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.simulator.state import MAX_CLASSES


class Classes:
    """Which SLO class a request is of.

    The arrays have room for four classes. Those that the scenario does not use are given to objectives that clients
    state, as they come; when all are taken, to a stated pair belongs the loosest class that is as tight in both, else
    the tightest there is.

    Args:
        cluster: Whose table of objectives is filled.
        ttft_headers: Names of the header with the TTFT objective in milliseconds, the usual one first.
        tpot_headers: The same for ATGT.
        watcher: Hears of objectives that get a class.
        clock: Seconds since the bridge began.
    """

    def __init__(
        self,
        cluster: LiveCluster,
        ttft_headers: tuple[str, ...],
        tpot_headers: tuple[str, ...],
        watcher: Watcher,
        clock: Callable[[], float],
    ) -> None:
        self._slo = cluster.world.slo
        self._watcher = watcher
        self._clock = clock
        self._headers = ttft_headers, tpot_headers
        self._used = max(1, len(cluster.view.scenario.slo.classes))
        self._known = {(float(ttft), float(atgt)): k for k, (ttft, atgt) in enumerate(self._slo[: self._used])}

    def of(self, headers: Mapping[str, str]) -> int:
        """The class of a request with these headers; 0 where they state nothing usable."""
        ttft_s, atgt_s = (self._stated(headers, names) for names in self._headers)
        if ttft_s is None and atgt_s is None:
            return 0
        default_ttft, default_atgt = self._slo[0].tolist()
        return self._class(ttft_s or default_ttft, atgt_s or default_atgt)

    @staticmethod
    def _stated(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
        for name in names:
            given = headers.get(name)
            if given is None:
                continue
            try:
                value = float(given) / 1e3
            except ValueError:
                return None
            return value if 1e-4 < value < 1e5 else None
        return None

    def _class(self, ttft_s: float, atgt_s: float) -> int:
        pair = ttft_s, atgt_s
        if pair in self._known:
            return self._known[pair]
        if self._used < MAX_CLASSES:
            klass = self._used
            self._used += 1
            self._slo[klass] = pair
            self._known[pair] = klass
            self._watcher.promised(klass, ttft_s, atgt_s, self._clock())
            return klass
        table = self._slo[: self._used].tolist()
        fitting = [k for k, (ttft, atgt) in enumerate(table) if ttft <= ttft_s and atgt <= atgt_s]
        if fitting:
            return max(fitting, key=lambda k: (table[k][0] / ttft_s, table[k][1] / atgt_s))
        return min(range(self._used), key=lambda k: (table[k][0], table[k][1]))
