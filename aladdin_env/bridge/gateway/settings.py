"""How the front behaves; every number has its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass, field

from aladdin_traces import checks

#: Headers by which a client states its objectives, the usual name first. Milliseconds.
TTFT_HEADERS = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
TPOT_HEADERS = ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms")


@dataclass(frozen=True)
class GatewaySettings:
    """Settings of the front.

    Attributes:
        max_body_bytes: Largest request body.
        retries: How often a request is tried on another worker before its first byte.
        retry_budget: Retries may be so large a share of the requests of the last minute, and 10 more.
        connect_s: Longest wait for a connection to a worker.
        first_byte_s: Longest wait for the head of an answer; a long prompt in a long queue takes its time.
        idle_s: Longest silence in the middle of an answer.
        drain_s: At shutdown, longest wait for the requests in flight.
        api_keys: Keys of which clients must show one; empty: none is asked for.
        worker_key_env: Name of the environment variable with the key that workers want; None: clients' own passes.
        show_worker: Tell clients which worker and which policy served them.
        body_s: Longest wait for a client's request, from its first byte to its last.
        stall_s: Longest wait for a client that does not read its answer.
        idler_s: A connection on which no whole head of a request has come for as long is closed.
    """

    max_body_bytes: int = 64 << 20
    retries: int = 2
    retry_budget: float = 0.2
    connect_s: float = 5.0
    first_byte_s: float = 600.0
    idle_s: float = 120.0
    drain_s: float = 30.0
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    worker_key_env: str | None = None
    show_worker: bool = False
    body_s: float = 60.0
    stall_s: float = 60.0
    idler_s: float = 90.0

    @property
    def drops(self) -> frozenset[str]:
        """Headers of clients that are no worker's business, in lower case: keys that are not for it."""
        return frozenset({"authorization"} if self.api_keys or self.worker_key_env else ())

    def __post_init__(self) -> None:
        checks.whole("max_body_bytes", self.max_body_bytes, low=1, high=1 << 40)
        checks.whole("retries", self.retries, low=0, high=100)
        checks.number("retry_budget", self.retry_budget, low=0.0, high=10.0)
        for name in ("connect_s", "first_byte_s", "idle_s", "body_s", "stall_s", "idler_s"):
            checks.number(name, getattr(self, name), above=0.0)
        checks.number("drain_s", self.drain_s, low=0.0)
