"""What the live bridge costs: ``aladdin bench --bridge``, beside other routers in the same run.

A chat request of 2 KB goes to one of 8 mock backends, which answer at once with 300 bytes. Load, mocks and routers are
processes of their own; ``direct`` goes to a mock without a router, by the same load.
"""

from aladdin_env.bench.bridge.measure import CONNECTIONS, Effort, measure_bridge
from aladdin_env.bench.bridge.peers import OURS, PEERS, known_peers, peers_given

__all__ = ["CONNECTIONS", "OURS", "PEERS", "Effort", "describe", "known_peers", "measure_bridge", "peers_given"]


def describe(name: str) -> tuple[str, str]:
    """Unit and meaning of a figure."""
    key, _, rest = name.partition("_over_")
    if rest:
        other, _, what = rest.rpartition("_")
        return "", f"{key} / {other}, {'latency' if what == 'p50' else 'throughput'}; median of the rounds"
    if name.endswith("_added_us"):
        return "us", "what the bridge adds to direct, at one connection"
    if name.endswith("_p50_us"):
        return "us", "median time of a request, one connection"
    return "requests/s", f"{CONNECTIONS} connections"
