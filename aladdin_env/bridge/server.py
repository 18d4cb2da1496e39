"""The bridge put together: workers, arrays, policies, control loop, and two listeners."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from aladdin_env.bridge.classes import Classes
from aladdin_env.bridge.control import ControlLoop, Guards
from aladdin_env.bridge.decider import ACTIVE, Decider
from aladdin_env.bridge.dispatcher import Dispatcher, Queueing
from aladdin_env.bridge.events import Regime, Watcher, Watchers
from aladdin_env.bridge.fleet import LiveFleet, Mirror
from aladdin_env.bridge.gateway.admin import Admin
from aladdin_env.bridge.gateway.front import OPEN, Front, Handler, make_app, runner_of
from aladdin_env.bridge.gateway.idlers import close_idlers
from aladdin_env.bridge.gateway.lengths import PromptLengths
from aladdin_env.bridge.gateway.others import Others
from aladdin_env.bridge.gateway.proxy import Proxy
from aladdin_env.bridge.gateway.settings import TPOT_HEADERS, TTFT_HEADERS, GatewaySettings
from aladdin_env.bridge.gateway.strangers import CONNECTION_LOG
from aladdin_env.bridge.gateway.tokenisers import ESTIMATE, tokeniser
from aladdin_env.bridge.gateway.upstream import Upstream
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.tracking import Tracking
from aladdin_env.bridge.watch import Watch, WatchOptions
from aladdin_env.bridge.workers.pool import WorkerPool
from aladdin_env.bridge.workers.timing import REAL_TIME, Timing
from aladdin_env.errors import InputError
from aladdin_env.policy import Combined, make_policy
from aladdin_env.scenario import Scenario

_log = logging.getLogger(__name__)
_ROWS = 16384
_LOOK_S = 0.05
_DEFAULT_SCALER = "aladdin"


@dataclass(frozen=True)
class Listening:
    """Where clients and operators connect.

    Attributes:
        host: Address for clients.
        port: Its port; 0: any free one.
        admin_host: Address for admin calls; the machine itself by default.
        admin_port: Its port; None: there is no such listener; 0: any free one.
        certificate: TLS certificate file for clients; None: plain HTTP.
        key: Its key; None: it is in the certificate file.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None
    certificate: Path | None = None
    key: Path | None = None

    def tls(self) -> ssl.SSLContext | None:
        """What TLS needs.

        Raises:
            InputError: the files are no certificate and key.
        """
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            why = " ".join(str(error).split())
            raise InputError("--tls-cert", str(self.certificate), f"give a certificate and its key ({why})") from None
        return context


@dataclass(frozen=True)
class BridgeSettings:
    """How the bridge works.

    Attributes:
        policy: Policy that is served, by name or file.
        baseline: Who acts under ``shadow``, and for most requests under ``canary``.
        mode: ``shadow``, ``canary`` or ``active``.
        canary: Share of requests that the policy decides under ``canary``.
        fleet: What is known of the workers beforehand.
        guards: Limits on scaling.
        queueing: How requests wait.
        gateway: The front.
        listening: Addresses.
        rows: Most requests at a time.
        watching: Metrics, status and page.
        follows: Correct the latency profile by what requests really take.
        tokenizer: Who counts the tokens of prompts: ``estimate``, ``worker``, or a tokeniser file.
    """

    policy: str = "aladdin"
    baseline: str = "least_request"
    mode: str = ACTIVE
    canary: float = 0.1
    fleet: LiveFleet = field(default_factory=LiveFleet)
    guards: Guards = field(default_factory=Guards)
    queueing: Queueing = field(default_factory=Queueing)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    listening: Listening = field(default_factory=Listening)
    rows: int = _ROWS
    watching: WatchOptions = field(default_factory=WatchOptions)
    follows: bool = True
    tokenizer: str = ESTIMATE


def served_policy(spec: str, scenario: Scenario, can_scale: bool) -> tuple[Combined, str]:
    """A policy by name, and its whole name; where the pool scales and it does not, Aladdin's scaler goes with it.

    Raises:
        InputError: there is no such policy, or it wants to hear of events, which the bridge does not tell.
    """
    policy = make_policy(spec, scenario)
    if can_scale and not policy.scales:
        spec = f"{spec}+{_DEFAULT_SCALER}"
        policy = make_policy(spec, scenario)
    return policy, spec


class Bridge:
    """A bridge in front of a pool of workers: ``async with Bridge(pool, settings) as bridge: ...``.

    Args:
        pool: The workers.
        settings: Everything else.
        timing: The clock of the workers.

    Attributes:
        watchers: Who hears of what happens; add to it before the bridge starts.
        seen: Metrics, status and live page.
        pages: Pages of its own, by path: all on the admin listener; on that for clients, see docs/bridge.md.

    Raises:
        InputError: a policy that there is not, a checkpoint that does not fit.
    """

    def __init__(self, pool: WorkerPool, settings: BridgeSettings, timing: Timing = REAL_TIME) -> None:
        self.pool = pool
        self.settings = settings
        self.watchers = Watchers()
        self._begun_s = time.perf_counter()
        self._timing = timing
        self.scenario = settings.fleet.scenario(pool)
        policy, served = served_policy(settings.policy, self.scenario, pool.can_scale)
        baseline, compared = served_policy(settings.baseline, self.scenario, False)
        self._specs = served, compared
        self.cluster = LiveCluster.open(self.scenario, policy, settings.rows)
        self.decider = Decider(
            self.cluster, policy, baseline, self.watchers.fell_back, mode=settings.mode, canary=settings.canary
        )
        self.dispatcher = Dispatcher(self.cluster, self.decider, self.watchers, settings.queueing, self.clock)
        tracking = Tracking(self.cluster, self.watchers.learnt) if settings.follows else None
        self.seen = Watch(
            self.cluster, pool, self.decider, self.dispatcher, self.clock, settings.watching,
            None if tracking is None else tracking.status,
        )  # fmt: skip
        self.watchers.add(self.seen)
        if tracking is not None:
            self.watchers.add(tracking)
        self.pages = self.seen.pages()
        self.control = ControlLoop(
            self.cluster, self.decider, pool, settings.guards, self.watchers, self.dispatcher.offer, self.clock
        )
        workers = {worker.slot: worker for worker in pool.workers}
        self._upstream = Upstream(settings.gateway)
        lengths = PromptLengths(tokeniser(settings.tokenizer, pool.workers, self._upstream))
        proxy = Proxy(self.dispatcher, workers, self._upstream, lengths, settings.gateway)
        others = Others(pool.workers, self._upstream, settings.gateway)
        classes = Classes(self.cluster, TTFT_HEADERS, TPOT_HEADERS, self.watchers, self.clock)
        self._front = Front(self.dispatcher, proxy, others, classes, lengths, settings.gateway)
        self._admin = Admin(self)
        self._runners: list[web.AppRunner] = []
        self._idlers: list[asyncio.Task[None]] = []
        self._loop: asyncio.Task[None] | None = None
        self.url = ""
        self.admin_url = ""

    def clock(self) -> float:
        """Seconds since the bridge was made."""
        return time.perf_counter() - self._begun_s

    def watch(self, watcher: Watcher) -> None:
        """Have somebody hear of everything."""
        self.watchers.add(watcher)

    async def exchange(self, spec: str) -> None:
        """Serve another policy from now on.

        Raises:
            InputError: there is no such policy, or it does not fit this fleet; the one before stays.
        """
        policy, spec = served_policy(spec, self.scenario, self.pool.can_scale)
        await asyncio.to_thread(warm_up, self.scenario, [policy])  # streams go on meanwhile
        self.decider.exchange(policy)
        self._specs = spec, self._specs[1]
        self.watchers.switched(self.regime(), self.clock())

    def set_mode(self, mode: str, canary: float | None = None) -> None:
        """Change who decides.

        Raises:
            InputError: there is no such mode, or no such share.
        """
        before = self.regime()
        self.decider.set_mode(mode, canary)
        if self.regime() != before:
            self.watchers.switched(self.regime(), self.clock())

    def regime(self) -> Regime:
        """Who decides now."""
        return Regime(self.decider.mode, self.decider.canary, *self._specs)

    async def __aenter__(self) -> Bridge:
        """Start everything; returns when clients can connect.

        Raises:
            InputError: a port that is in use, a worker that is none, TLS files that are none.
            OutsideFault: the pool cannot be reached.
        """
        tls = self.settings.listening.tls()
        warm_up(self.scenario, [self.decider.policy, self.decider.baseline, *self.decider.fallbacks])
        self._mirror = Mirror(
            self.cluster, self.pool, self.watchers, self.dispatcher.offer, self.clock, self._timing.clock
        )
        await self._upstream.open()
        try:
            await self.pool.start()
            where = self.settings.listening
            app = make_app(self._front, self._pages_for_clients(), self.settings.gateway)
            self.url = await self._listen(app, where.host, where.port, tls)
            if where.admin_port is not None:
                self.admin_url = await self._listen(
                    self._admin.app(self.pages), where.admin_host, where.admin_port, None
                )
            self._loop = asyncio.create_task(self.control.run())
        except BaseException:
            await self._close(0.0)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Refuse what is new, finish what is there, let go of the workers."""
        await self._close(self.settings.gateway.drain_s)

    async def _listen(self, app: web.Application, host: str, port: int, tls: ssl.SSLContext | None) -> str:
        runner = runner_of(app, self.settings.gateway.drain_s, logger=CONNECTION_LOG)
        await runner.setup()
        self._runners.append(runner)
        self._idlers.append(asyncio.create_task(close_idlers(runner, self.settings.gateway.idler_s), name="idlers"))
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            why = error.strerror or str(error)
            raise InputError("port", port, f"it cannot be listened on at {host} ({why}): give another") from None
        bound = runner.addresses[0][1]
        return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{bound}"

    def _pages_for_clients(self) -> dict[str, Handler]:
        """All pages; where clients must show a key only those that tell nothing of workers and requests."""
        has_keys = bool(self.settings.gateway.api_keys)
        return {path: page for path, page in self.pages.items() if not has_keys or path in OPEN}

    async def _emptied(self, drain_s: float) -> None:
        """Until no request is left: meanwhile newcomers are told to ask again, instead of finding nobody."""
        until_s = self.clock() + drain_s
        while self.clock() < until_s and (
            self.dispatcher.held or any(worker.in_flight for worker in self.pool.workers)
        ):
            await asyncio.sleep(_LOOK_S)

    async def _close(self, drain_s: float) -> None:
        self.dispatcher.closing = True
        self.seen.close()  # the listener waits for its streams
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
        await self._emptied(drain_s)
        for idlers in self._idlers:
            idlers.cancel()
        for runner in self._runners:
            await runner.cleanup()
        await self.pool.stop(drain_s)
        await self._upstream.close()


def warm_up(scenario: Scenario, policies: Sequence[Combined]) -> None:
    """Compile all that a request will call: the first call of anything takes seconds."""
    from aladdin_env.simulator.state import READY

    for policy in policies:
        cluster = LiveCluster.open(scenario, policy, 2)
        cluster.set_worker(0, READY, 0.0)
        for ends in (cluster.finish, cluster.lose, cluster.leave):
            row = cluster.enter(1, 0, 0.5, 0.0)
            with cluster.without([0]):
                if cluster.accepts(row) and cluster.ask(policy, row, 0.0) >= 0:
                    cluster.carry_out(row, 0)
                    cluster.token(row, 0.0, 2)
                    ends(row, 0.0)
            cluster.forget(row)
        row = cluster.enter(1, 0, 0.5, 0.0)
        cluster.carry_out(row, -1)
        cluster.reject(row, 0.0)
        cluster.see_kv(0, 0.1)
        cluster.heartbeat(0.0)
        cluster.set_worker(0, 3, 0.0)
        for hook in policy.hooks("reset"):
            hook(scenario)
