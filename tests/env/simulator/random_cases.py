"""Random fleets and workloads, for the compiled core and for the plain reference simulator alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aladdin_env.latency import DecodeLaw, LatencyProfile, PrefillLaw, Provenance
from aladdin_env.scenario import SLO, Failures, Fleet, Scenario, Transfer, WorkerType
from aladdin_env.simulator.setup import Draws
from aladdin_env.simulator.state import FAILURE
from aladdin_env.view import ClusterView, RequestView
from aladdin_traces import PrefixBlocks, Trace, Workload
from tests.reference.laws import row_decode, row_hidden, row_prefill
from tests.reference.model import RefRequest, RefScenario, RefType, Snapshot

_PROVENANCE = Provenance("none", "none", 1, "none", "0", "2026", "random", "random", {})


@dataclass
class Script:
    """A policy that both simulators can run: what it answers depends on nothing but what both show."""

    rule: str
    wanted: list[list[int]]
    name: str = "script"
    beats: int = 0

    def choose(self, candidates: list[int], load: dict[int, int], hits: dict[int, int], r: int, retries: int) -> int:
        if self.rule == "least":
            return min(candidates, key=lambda w: (load[w], w))
        if self.rule == "affinity":
            return min(candidates, key=lambda w: (-hits[w], load[w], w))
        slot = candidates[(7 * r + 3 * retries + sum(load.values())) % len(candidates)]
        if self.rule == "hold" and load[slot] >= 2:
            return -1
        if self.rule == "reject" and r % 5 == 3:
            return -2 if load[slot] > 1 else -1 if r % 2 else slot
        return slot

    # for the compiled core
    def place(self, view: ClusterView, request: RequestView) -> int:
        candidates = view.candidates(request).tolist()
        load = {w: len(view.running(w)) + len(view.waiting(w)) + int(view.workers[w]["inbound"]) for w in candidates}
        assert all(len(view.running(w)) == view.workers[w]["running"] for w in candidates)
        assert all(load[w] == view.workers[w]["members"] for w in candidates)
        assert all(len(view.waiting(w)) == view.workers[w]["waiting"] for w in candidates)
        hits = dict(enumerate(view.prefix_hits().tolist()))
        return self.choose(candidates, load, hits, request.index, request.retries)

    def scale(self, view: ClusterView) -> list[int]:
        self.beats += 1
        return self.wanted[(self.beats - 1) % len(self.wanted)]

    # for the reference
    def ref_place(self, snapshot: Snapshot, request: RefRequest) -> int:
        slots = snapshot.slots
        load = {w: len(slots[w].running) + len(slots[w].waiting) + slots[w].inbound for w in snapshot.candidates}
        hits = {w: slots[w].hit_tokens for w in snapshot.candidates}
        return self.choose(snapshot.candidates, load, hits, request.index, request.retries)

    def ref_scale(self, snapshot: Snapshot) -> list[int]:
        return self.scale(None)  # type: ignore[arg-type]


@dataclass
class Case:
    scenario: Scenario
    draws: Draws
    rule: str
    wanted: list[list[int]]

    @property
    def blocks(self) -> PrefixBlocks | None:
        return self.draws.trace.prefix_blocks

    def script(self) -> Script:
        return Script(self.rule, self.wanted)

    def reference(self) -> RefScenario:
        largest = max(kind.max_num_seqs for kind in self.scenario.fleet.types)
        fleet = self.scenario.fleet
        types = []
        for kind, cold in zip(fleet.types, self.draws.cold_starts, strict=True):
            row = kind.latency.row(largest).tolist()
            types.append(
                RefType(
                    scheduler=kind.scheduler, role=kind.role, count=kind.maximum, initial=kind.initial,
                    minimum=kind.minimum, gpus=kind.gpus, price_per_s=kind.price_per_s, max_num_seqs=kind.max_num_seqs,
                    max_num_batched_tokens=kind.max_num_batched_tokens, kv_blocks=kind.kv_blocks,
                    block_size=kind.block_size, kv_overhead_tokens=kind.latency.kv_overhead_tokens,
                    overhead_s=kind.latency.overhead_s, prefill=row_prefill(row), decode=row_decode(row),
                    mixed_overlap_s=kind.latency.mixed_overlap_s,
                    kv_bytes_per_token=kind.latency.kv_bytes_per_token, cold_starts_s=cold.tolist(),
                    prefix_cache=kind.prefix_cache, hidden=row_hidden(row),
                )
            )  # fmt: skip
        failures = [(float(f["time_s"]), int(f["slot"])) for f in self.draws.failures]
        return RefScenario(
            types, fleet.max_gpus if fleet.max_gpus is not None else 10**9, self.scenario.heartbeat_s,
            self.scenario.max_hold_s, self.scenario.max_retries, fleet.failures.repair_s,
            fleet.transfer.bandwidth_bytes_per_s, fleet.transfer.latency_s, failures,
            prefix_block_tokens=0 if self.blocks is None else self.blocks.block_size,
        )  # fmt: skip


def _profile(rng: np.random.Generator, dyadic: bool) -> LatencyProfile:
    """Laws with every feature; ``dyadic``: all numbers are multiples of 2**-16, so that sums are exact in any order."""

    def num(low: float, high: float) -> float:
        value = float(rng.uniform(low, high))
        return max(round(value * 2**16), 1) / 2**16 if dyadic else value

    if dyadic:
        prefill = PrefillLaw((0.0, 16384.0), (0.25, 0.25 + 16384 / 64), 0.0)
        decode = DecodeLaw((0, 1024), (0.125, 0.125 + 1024 / 256), (2.0**-12, 2.0**-12))
    else:
        knots = np.cumsum(rng.uniform(4, 200, 4))
        times = num(0.01, 0.2) + np.cumsum(rng.uniform(0, 0.2, 4))
        law = PrefillLaw(tuple(knots), tuple(times), float(rng.choice([0.0, 1e-6])))
        with_floor = bool(law.floor_ends) and int(knots[0]) % 2 == 1  # no draw: the other numbers stay what they were
        prefill = replace(law, floor_tokens=law.floor_ends[-1]) if with_floor else law
        batches = (1, 2, 4, 9)
        decode = DecodeLaw(
            batches,
            tuple(num(0.01, 0.05) + np.cumsum(rng.uniform(0, 0.01, 4))),
            tuple(np.cumsum(rng.uniform(0, 1e-4, 4))),
        )
    return LatencyProfile(
        "random", prefill, decode, num(0.0, 0.01), float(rng.choice([0.0, 0.015625])), 1000.0,
        float(rng.choice([0.0, 2500.0])), 4096, int(rng.integers(1, 3)), _PROVENANCE,
    )  # fmt: skip


def _shared_prefixes(rng: np.random.Generator, prompt: np.ndarray, block: int) -> PrefixBlocks:
    """Prompts that follow one of a few documents to some depth and then go their own way; few ids come twice."""
    size = block * int(rng.choice([1, 1, 2, 3]))
    documents = int(rng.integers(1, 5))
    lists = []
    for r, tokens in enumerate(prompt.tolist()):
        blocks = tokens // size + int(rng.integers(0, 2))  # the last one may be partly filled
        depth = int(rng.integers(0, blocks + 1))
        document = int(rng.integers(documents))
        ids = [1000 * document + i if i < depth else 10_000 + 1000 * r + i for i in range(blocks)]
        if ids and rng.random() < 0.05:
            ids[-1] = ids[0]
        lists.append(ids)
    return PrefixBlocks.from_lists(lists, size)


def random_case(seed: int, scheduler: str, *, dyadic: bool = False) -> Case:
    """A small cluster under pressure: short KV, short queues, failures, scaling; all drawn from ``seed``."""
    rng = np.random.default_rng(seed)
    block = int(rng.choice([1, 4, 16]))
    roles = ["prefill", "decode"] if scheduler == "split" else ["mixed"] * int(rng.integers(1, 3))
    types = []
    for i, role in enumerate(roles):
        maximum = int(rng.integers(1, 4))
        seqs = int(rng.integers(1, 7))
        types.append(
            WorkerType(
                f"t{i}", _profile(rng, dyadic), initial=(initial := int(rng.integers(0 if i else 1, maximum + 1))),
                minimum=int(rng.integers(0, initial + 1)), maximum=maximum, scheduler=scheduler, role=role,
                max_num_seqs=seqs, max_num_batched_tokens=int(rng.choice([seqs, seqs + 7, 64, 512])),
                kv_capacity_tokens=int(rng.integers(80, 400)), block_size=block, prefix_cache=bool(rng.random() < 0.8),
            )
        )  # fmt: skip
    fleet = Fleet(
        tuple(types),
        max_gpus=int(rng.choice([6, 12]))
        if rng.random() < 0.3 and sum(t.initial * t.gpus for t in types) <= 6
        else None,
        failures=Failures(0.0, float(rng.choice([0.5, 4.0]))),
        transfer=Transfer(float(rng.choice([1e5, 1e9])), float(rng.choice([2**-10, 0.25]))),
    )
    n = int(rng.integers(1, 40))
    step = 2.0**-5 if dyadic else 0.0
    gaps = rng.exponential(float(rng.choice([0.01, 0.2, 1.0])), n)
    arrival = np.cumsum(gaps) if not dyadic else np.cumsum(np.floor(gaps / step) * step)
    room = min(t.longest_request_tokens for t in types) - 1
    prompt = rng.integers(1, min(room, int(rng.choice([20, 200]))) + 1, n)
    output = rng.integers(1, int(rng.choice([3, 40, 120])), n)
    scenario = Scenario(
        "random", Workload.from_arrays(arrival, prompt, output), fleet, SLO(1e6, 1e6), horizon_s=None,
        heartbeat_s=float(rng.choice([0.5, 2.0, 5.0])), max_hold_s=float(rng.choice([0.0, 1.5, 20.0])),
        max_retries=int(rng.integers(0, 3)),
    )  # fmt: skip
    failures = np.zeros(int(rng.choice([0, 0, 3, 12])), dtype=FAILURE)
    times = np.sort(rng.uniform(0, float(arrival[-1]) + 10, len(failures)))
    failures["time_s"] = np.floor(times / step) * step if dyadic else times
    failures["slot"] = rng.integers(0, fleet.slots, len(failures))
    cold = rng.choice([0.5, 1.0, 3.0], (len(types), 256)) + (0 if dyadic else rng.uniform(0, 0.1, (len(types), 256)))
    wanted = rng.integers(0, 4, (5, len(types))).tolist()
    rule = str(rng.choice(["least", "any", "hold", "reject", "affinity"]))
    blocks = _shared_prefixes(rng, prompt, block) if rng.random() < 0.6 else None
    trace = Trace.from_arrays(arrival, prompt, output, prefix_blocks=blocks)
    return Case(scenario, Draws(trace, rng.random(n), cold, failures), rule, wanted)
