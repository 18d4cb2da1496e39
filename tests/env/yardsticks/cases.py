"""Laws and fleets made by hand, who met an objective, and what the busy time of workers costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np

from aladdin_env.latency import DecodeLaw, LatencyProfile, PrefillLaw, Provenance
from aladdin_env.scenario import SLO, Fleet, Scenario, SLOClass, Transfer, WorkerType
from aladdin_env.simulator.setup import Draws
from aladdin_env.simulator.state import FAILURE
from aladdin_traces import PrefixBlocks, Trace, Workload
from tests.env.simulator.random_cases import Case, random_case
from tests.reference import simulator as reference
from tests.reference.engine import begin_step
from tests.reference.model import RefWorker

_PROVENANCE = Provenance("none", "none", 1, "none", "0", "2026", "by hand", "by hand", {})
K1, K2, C2, C3 = 1e-4, 1e-6, 1e-4, 0.01
PREFILL, DECODE = PrefillLaw.linear(K1, 0.0), DecodeLaw.linear(K2, C2, C3)


def profile(
    prefill: PrefillLaw = PREFILL, decode: DecodeLaw = DECODE, *, overlap_s: float = 0.0, overhead_s: float = 0.0,
    kv_tokens: int = 1_000_000, gpus: int = 1,
) -> LatencyProfile:  # fmt: skip
    return LatencyProfile("hand", prefill, decode, overlap_s, overhead_s, 1000.0, 0.0, kv_tokens, gpus, _PROVENANCE)


def worker(laws: LatencyProfile | None = None, name: str = "w", **limits: Any) -> WorkerType:
    """One worker that always runs, but without a minimum, at one unit of currency per second of a GPU."""
    given = {"initial": 1, "minimum": 0, "maximum": 1, "scheduler": "prefill_first", "block_size": 1} | limits
    return WorkerType(name, laws or profile(), price_per_gpu_hour=3600.0, **given)


def scenario_of(trace: Trace, *kinds: WorkerType, slo: SLO | None = None, **more: Any) -> Scenario:
    workload = Workload.from_trace(trace)
    return Scenario("hand", workload, Fleet(kinds), slo or SLO(1e6, 1e6), horizon_s=None, **more)


def at_once(prompt: Sequence[int], output: Sequence[int]) -> Trace:
    """All arrive at time 0."""
    return Trace.from_arrays([0.0] * len(prompt), prompt, output)


@dataclass(frozen=True)
class Outcome:
    """What happened to the requests, as arrays, and what it cost.

    Attributes:
        ttft_s: Seconds to the first token.
        decoding_s: Seconds from the first to the last token.
        served: Whether all tokens came.
        costs: By unit of a bound.
    """

    ttft_s: np.ndarray
    decoding_s: np.ndarray
    served: np.ndarray
    costs: dict[str, float]

    def met(self, trace: Trace, slo: SLO) -> int:
        """Requests within their SLO."""
        goals = slo.targets()[trace.klass]
        in_time = (self.ttft_s <= goals[:, 0]) & (self.decoding_s <= goals[:, 1] * (trace.output_tokens - 1))
        return int((self.served & in_time).sum())


def busy_outcome(case: Case) -> Outcome:
    """By the reference simulator, where only steps cost: no worker is paid for while it starts or idles."""
    busy_s = np.zeros(case.scenario.fleet.slots)
    failures = case.draws.failures

    def noting(worker: RefWorker, now: float) -> None:
        begin_step(worker, now)
        if worker.step is not None:
            cuts = [float(f["time_s"]) for f in failures if f["slot"] == worker.slot and f["time_s"] >= now]
            busy_s[worker.slot] += min([worker.step.ends_s, *cuts]) - now

    trace, script = case.draws.trace, case.script()
    with patch.object(reference, "begin_step", noting):
        found = reference.simulate_reference(
            case.reference(), trace.arrival_s.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist(),
            script.ref_place, script.ref_scale,
            None if case.blocks is None else [case.blocks[r].tolist() for r in range(len(trace))],
        )  # fmt: skip
    first = np.array([np.nan if r.first_token_s is None else r.first_token_s for r in found.requests])
    last = np.array([np.nan if r.finish_s is None else r.finish_s for r in found.requests])
    served = np.array([r.status == "finished" for r in found.requests])
    slots = [kind for kind in case.scenario.fleet.types for _ in range(kind.maximum)]
    costs = {
        "cost": float(busy_s @ [kind.price_per_s for kind in slots]),
        "gpu_seconds": float(busy_s @ [float(kind.gpus) for kind in slots]),
    }
    return Outcome(first - trace.arrival_s, last - first, served, costs)


def random_laws(rng: np.random.Generator) -> LatencyProfile:
    """Linear or by tables, with beta that rises or falls over the batch; floors, overlaps and overheads that matter."""
    if rng.random() < 0.5:
        prefill = PrefillLaw.linear(rng.choice([1e-4, 1e-3]), rng.choice([0.0, 0.02]), rng.choice([0.0, 0.05]))
    else:
        knots = int(rng.integers(1, 5))
        tokens = np.cumsum(rng.uniform(4, 200, knots))
        prefill = PrefillLaw(
            tuple(tokens),
            tuple(rng.uniform(0.005, 0.1) + np.cumsum(rng.uniform(0, 0.1, knots))),
            float(rng.choice([0.0, 1e-6, 1e-5])),
        )
        prefill = replace(prefill, floor_tokens=float(rng.choice([0.0, *prefill.floor_ends])))
    if rng.random() < 0.5:
        decode = DecodeLaw.linear(rng.choice([0.0, 1e-6, 1e-4]), rng.choice([0.0, 1e-4, 3e-3]), 0.01)
    else:
        batch = np.array([1, 2, 4, 9])
        slopes = np.cumsum(rng.uniform(0, 3e-4, 4)) / (batch if rng.random() < 0.6 else 1)
        alpha = rng.uniform(0.005, 0.05) + np.cumsum(rng.uniform(0, 0.02, 4) * rng.choice([0.0, 1.0]))
        decode = DecodeLaw(tuple(batch.tolist()), tuple(alpha), tuple(slopes))
    return replace(
        profile(prefill, decode, overlap_s=float(rng.choice([0.0, 0.01, 0.1]))),
        overhead_s=float(rng.choice([0.0, 0.01])), kv_bytes_per_request=float(rng.choice([0.0, 2500.0])),
        gpus=int(rng.integers(1, 3)),
    )  # fmt: skip


def pressed_case(seed: int, scheduler: str) -> Case:
    """A random case without minima, in part with gangs of like requests that arrive together."""
    case, rng = random_case(seed, scheduler), np.random.default_rng(seed)
    old, n = case.draws.trace, len(case.draws.trace)
    arrival, output = old.arrival_s, old.output_tokens
    if rng.random() < 0.6:
        gang = int(rng.integers(2, 2 + n))
        arrival, output = arrival[np.arange(n) // gang * gang], output[np.arange(n) // gang * gang]
    trace = Trace.from_arrays(arrival, old.prompt_tokens, output, rng.integers(0, 2, n), prefix_blocks=case.blocks)
    kinds = case.scenario.fleet.types
    if rng.random() < 0.8:
        made = [replace(random_laws(rng), kv_bytes_per_request=k.latency.kv_bytes_per_request) for k in kinds]
        kinds = tuple(replace(kind, profile=laws) for kind, laws in zip(kinds, made, strict=True))
    if rng.random() < 0.5:
        budget = int(rng.integers(1, 300))
        kinds = tuple(replace(k, max_num_seqs=8, max_num_batched_tokens=8 + budget) for k in kinds)
    fleet = replace(case.scenario.fleet, types=tuple(replace(kind, minimum=0) for kind in kinds), max_gpus=None)
    return replace(case, scenario=replace(case.scenario, fleet=fleet), draws=replace(case.draws, trace=trace))


def gang_case(seed: int, scheduler: str) -> Case:
    """Like requests, most often all at once, on one worker (or one of each role) that always runs."""
    rng = np.random.default_rng(seed)
    count, longest = int(rng.integers(1, 20)), (int(rng.integers(1, 80)), int(rng.integers(1, 60)))
    if rng.random() < 0.5:
        prompt, output = (np.full(count, tokens) for tokens in longest)
    else:
        prompt, output = (rng.integers(1, tokens + 1, count) for tokens in longest)
    block, seqs = int(rng.choice([1, 1, 4])), int(rng.choice([1, 2, 4, 8, 16]))
    share = float(rng.choice([0.1, 0.3, 0.6, 1.0, 2.0]))  # of all requests that the KV holds
    room = max(sum(longest) + 4, int(share * (prompt + output).sum()))
    kinds = [
        worker(
            random_laws(rng), role, scheduler=scheduler, role=role, max_num_seqs=seqs, kv_capacity_tokens=room + block,
            max_num_batched_tokens=max(seqs, int(rng.choice([1, 64, 512, 4096]))), block_size=block,
            prefix_cache=bool(rng.random() < 0.7),
        )
        for role in (("prefill", "decode") if scheduler == "split" else ("mixed",))
    ]  # fmt: skip
    arrival = np.zeros(count) if rng.random() < 0.7 else np.sort(rng.uniform(0, 2, count))
    blocks = _shared_beginning(rng, prompt, block) if rng.random() < 0.3 else None
    trace = Trace.from_arrays(arrival, prompt, output, rng.integers(0, 2, count), prefix_blocks=blocks)
    scenario = scenario_of(trace, *kinds, max_hold_s=1e6)
    scenario = replace(scenario, fleet=replace(scenario.fleet, transfer=Transfer(1e12, 1e-9)))
    draws = Draws(trace, rng.random(count), np.ones((len(kinds), 1)), np.zeros(0, dtype=FAILURE))
    return Case(scenario, draws, "least", [[1] * len(kinds)])


def _shared_beginning(rng: np.random.Generator, prompt: np.ndarray, block: int) -> PrefixBlocks:
    size, common = block * int(rng.choice([1, 2])), int(rng.integers(0, 5))
    lists = [[i if i < common else 1000 * r + i for i in range(p // size)] for r, p in enumerate(prompt.tolist(), 1)]
    return PrefixBlocks.from_lists(lists, size)


def random_slo(seed: int, outcome: Outcome, trace: Trace) -> SLO:
    """Objectives of two classes that some of the requests just meet."""
    rng = np.random.default_rng(seed)
    classes = []
    for klass in range(2):
        mine = outcome.served & (trace.klass == klass) & (trace.output_tokens > 1)
        pace = outcome.decoding_s[mine] / (trace.output_tokens[mine] - 1)
        found = [float(rng.choice(values)) if len(values) else 1.0 for values in (outcome.ttft_s[mine], pace)]
        ttft_s = 1e6 if rng.random() < 0.5 else found[0]
        classes.append(SLOClass(str(klass), ttft_s * (1 + 1e-9), found[1] * (1 + 1e-9)))
    return SLO(classes=tuple(classes))
