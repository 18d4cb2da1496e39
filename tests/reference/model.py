"""What the oracle is told, what it answers, and the objects it works on. Contract: docs/simulator.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

OFF, STARTING, READY, DRAINING, FAILED = "OFF", "STARTING", "READY", "DRAINING", "FAILED"
STATUSES = (OFF, STARTING, READY, DRAINING, FAILED)
HOLD, REJECT = -1, -2


@dataclass
class RefType:
    """One worker type of the fleet."""

    scheduler: str  # "prefill_first" | "chunked" | "split"
    role: str  # "mixed" | "prefill" | "decode" (mixed unless split)
    count: int  # slots, the maximum
    initial: int
    minimum: int
    gpus: int  # of one worker
    price_per_s: float  # of one worker (all its GPUs)
    max_num_seqs: int
    max_num_batched_tokens: int
    kv_blocks: int
    block_size: int
    kv_overhead_tokens: int  # j
    overhead_s: float
    prefill: Callable[[float, float], float]  # (tokens, sum of n (2 past + n)) -> seconds
    decode: Callable[[int, float], float]  # (batch, context) -> seconds
    mixed_overlap_s: float
    kv_bytes_per_token: float
    cold_starts_s: list[float]  # the k-th start of this type takes cold_starts_s[k % len]
    prefix_cache: bool = True
    hidden: Callable[[float], float] = lambda tokens: 0.0  # seconds of a prefill in which decodes hide

    @property
    def capacity(self) -> int:
        """Tokens that one request may have in KV."""
        return self.kv_blocks * self.block_size - self.kv_overhead_tokens

    def blocks_for(self, tokens: int) -> int:
        """ceil((tokens + j) / block_size)."""
        return -(-(tokens + self.kv_overhead_tokens) // self.block_size)

    @property
    def keeps_prefixes(self) -> bool:
        return self.prefix_cache and self.role != "decode"


@dataclass
class RefScenario:
    """A fleet and its surroundings."""

    types: list[RefType]
    max_gpus: int
    heartbeat_s: float
    max_hold_s: float
    max_retries: int
    repair_s: float
    transfer_bandwidth_bytes_per_s: float
    transfer_latency_s: float
    failures: list[tuple[float, int]]  # (time, slot), in the order drawn
    prefix_block_tokens: int = 0  # B; 0: the requests name no prefix blocks


@dataclass(eq=False)
class RefRequest:
    """One request: what it asks, what became of it, and where it is."""

    index: int
    arrival_s: float
    prompt_tokens: int  # p
    output_tokens: int  # o
    prefix: list[int] = field(default_factory=list)  # the ids of its f whole prefix blocks

    # Results.
    status: str = "arriving"  # at the end: "finished", "truncated", "rejected" or "failed"
    worker: int = -1  # slot of the last placement of the last attempt
    prefill_worker: int = -1  # slot of the first placement of the last attempt (split only: differs from worker)
    admitted_s: float | None = None  # engine time of the first admission to `running` in the last attempt
    first_token_s: float | None = None  # as the client sees it
    finish_s: float | None = None  # as the client sees it; None when rejected or failed
    ended_s: float | None = None  # engine time of the end, whatever the status
    generated: int = 0  # g
    preemptions: int = 0  # over all attempts
    retries: int = 0
    hit_tokens: int = 0  # h B of the first admission of the last attempt (set only while `preemptions` is 0)

    # State.
    computed: int = 0  # n
    decoding: bool = False  # all of `need` is computed, every further token is a decode step
    blocks: int = 0  # KV blocks of its own (at `kv_at` once the prefill of a split request is done)
    held: list[int] = field(default_factory=list)  # the prefix blocks it holds there, the first c of `prefix`
    kv_at: RefWorker | None = None  # the prefill worker that keeps the KV until the transfer is done
    destination: RefWorker | None = None  # the decode worker that the KV is on its way to
    transfer_ends_s: float | None = None
    held_since_s: float | None = None

    @property
    def ended(self) -> bool:
        return self.ended_s is not None

    @property
    def prefilled(self) -> bool:
        """Waits for its second placement (or its transfer)."""
        return self.kv_at is not None

    def forget(self) -> None:
        """A new attempt: everything generated is lost."""
        self.worker = self.prefill_worker = -1
        self.admitted_s = self.first_token_s = None
        self.generated = self.computed = self.blocks = self.hit_tokens = 0
        self.held = []
        self.decoding = False
        self.kv_at = self.destination = self.transfer_ends_s = None


@dataclass
class Step:
    """A step under way: each member, in the order of `running`, with the tokens computed for it."""

    kind: str  # "prefill", "decode" or "mixed"
    ends_s: float
    work: list[tuple[RefRequest, int]]


@dataclass(eq=False)
class RefWorker:
    """One slot of the fleet."""

    slot: int
    type_index: int
    type: RefType
    status: str = OFF
    until_s: float | None = None  # end of the cold start (STARTING) or of the repair (FAILED)
    on_since_s: float | None = None
    not_off_s: float = 0.0
    running: list[RefRequest] = field(default_factory=list)  # in admission order
    waiting: list[RefRequest] = field(default_factory=list)
    inbound: list[RefRequest] = field(default_factory=list)  # their KV is on its way here
    parked: list[RefRequest] = field(default_factory=list)  # prefilled here, their KV still here
    step: Step | None = None
    prefix_block_tokens: int = 0  # B; 0: it keeps no prefix blocks
    cache: dict[int, list[RefRequest]] = field(default_factory=dict)  # prefix block -> who holds it (nobody: idle)
    idle: list[int] = field(default_factory=list)  # the prefix blocks that nobody holds, idle longest first
    asked_tokens: int = 0  # for prefix_hit_ratio: prompt tokens of the requests admitted
    hit_tokens: int = 0  # and what of them was hit

    @property
    def blocks_used(self) -> int:
        """Those of the requests' own, and every held prefix block once. Idle ones take none."""
        own = sum(request.blocks for request in self.running + self.parked)
        return own + self.blocks_of_prefix(len(self.cache) - len(self.idle))

    @property
    def blocks_free(self) -> int:
        return self.type.kv_blocks - self.blocks_used

    @property
    def empty(self) -> bool:
        return not (self.running or self.waiting or self.inbound or self.parked)

    def turn_on(self, now: float, status: str) -> None:
        self.status = status
        if self.on_since_s is None:
            self.on_since_s = now

    def turn_off(self, now: float) -> None:
        assert self.empty and self.on_since_s is not None
        self.forget_prefixes()
        self.status, self.until_s, self.step = OFF, None, None
        self.not_off_s += now - self.on_since_s
        self.on_since_s = None

    # Memory and prefix blocks. Contract: "Prefix caching".

    def blocks_of_prefix(self, count: int) -> int:
        """KV blocks of `count` prefix blocks: m each."""
        return count * (self.prefix_block_tokens // self.type.block_size)

    def prefix_within(self, request: RefRequest, tokens: int) -> list[int]:
        """The prefix blocks that a request with `tokens` computed holds here: its first min(f, tokens // B)."""
        if self.prefix_block_tokens == 0:
            return []
        return request.prefix[: tokens // self.prefix_block_tokens]

    def hit(self, request: RefRequest) -> int:
        """Tokens h B that the request would hit now. The last prompt token is never among them."""
        tokens = 0
        for block in self.prefix_within(request, request.prompt_tokens - 1):
            if block not in self.cache:
                break
            tokens += self.prefix_block_tokens
        return tokens

    def growth(self, request: RefRequest, tokens: int) -> int:
        """What must be free for the request to have `tokens` computed: its own, and blocks that nobody holds now."""
        prefix = self.prefix_within(request, tokens)
        own = self.type.blocks_for(tokens) - self.blocks_of_prefix(len(prefix))
        assert own >= 0
        unheld = [block for block in prefix if not self.cache.get(block)]
        return own - request.blocks + self.blocks_of_prefix(len(unheld))

    def hold(self, request: RefRequest, tokens: int) -> None:
        """One of `running` has, or is getting, `tokens` computed: it takes its memory, idle blocks make room."""
        assert self.growth(request, tokens) <= self.blocks_free
        prefix = self.prefix_within(request, tokens)
        for block in prefix[len(request.held) :]:
            if block in self.idle:
                self.idle.remove(block)
            self.cache.setdefault(block, []).append(request)
        request.held = prefix
        request.blocks = self.type.blocks_for(tokens) - self.blocks_of_prefix(len(prefix))
        while self.blocks_free < self.blocks_of_prefix(len(self.idle)):
            del self.cache[self.idle.pop(0)]

    def let_go(self, request: RefRequest) -> None:
        """The request's KV leaves the worker, its last prefix block first."""
        for block in reversed(request.held):
            self.cache[block].remove(request)
            if not self.cache[block]:
                self.idle.append(block)
        request.held = []
        request.blocks = 0

    def forget_prefixes(self) -> None:
        for request in self.running + self.parked:
            request.held = []
        self.cache, self.idle = {}, []

    def check(self) -> None:
        """What is true of the memory at any time."""
        assert 0 <= self.blocks_of_prefix(len(self.idle)) <= self.blocks_free <= self.type.kv_blocks
        assert sorted(self.idle) == sorted(block for block, holders in self.cache.items() if not holders)
        members = self.running + self.parked
        for request in members:
            assert request.blocks >= 0 and request.held == request.prefix[: len(request.held)]
            assert all(self.cache[block].count(request) == 1 for block in request.held)
        assert sum(len(holders) for holders in self.cache.values()) == sum(len(request.held) for request in members)
        assert all(request.blocks == 0 and not request.held for request in self.waiting)
        assert self.prefix_block_tokens > 0 or not self.cache


@dataclass(frozen=True)
class SlotView:
    """What a policy sees of one slot."""

    status: str
    type_index: int
    running: list[int]  # request indices in admission order
    waiting: list[int]
    inbound: int
    blocks_used: int
    hit_tokens: int = 0  # h B of the request at hand, were it admitted now (0 where it may not be placed)


@dataclass(frozen=True)
class Snapshot:
    """What a policy sees. `candidates` is empty in a scale decision."""

    now_s: float
    slots: list[SlotView]
    candidates: list[int]


@dataclass
class RefResult:
    """What happened.

    ``end_s`` is the time when the last request ended, in engine time, that is without a worker type's overhead. The
    seconds and the cost of workers are counted from 0 to that moment. ``steps`` counts steps that were completed.
    ``heartbeats`` has the statuses right after the scale decision of each heartbeat. ``closest_s`` is the smallest gap
    between two events that were due next at one time: where it is no larger than rounding errors, which of the two
    came first says nothing. ``hit_tokens`` over ``asked_tokens`` is the prefix hit ratio: both are counted at every
    admission for prefill, before any preemption of the request, on a worker that keeps prefix blocks.
    """

    requests: list[RefRequest]
    worker_seconds: list[float]  # not OFF, per slot
    cost: float
    end_s: float
    heartbeats: list[tuple[float, dict[str, int]]]
    steps: dict[str, int]  # "prefill", "decode", "mixed"
    closest_s: float
    hit_tokens: int = 0
    asked_tokens: int = 0


Place = Callable[[Snapshot, RefRequest], int]
Scale = Callable[[Snapshot], list[int]]
