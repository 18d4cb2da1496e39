"""The workers of the benchmark, and the one way in which its scenarios are put together.

Every fleet has one of three frames: sixteen slots of one type named ``gpu``, sixteen of three types, or sixty-four of
one type. So a network that was trained on one scenario of a frame fits all others of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aladdin_env.presets import A100, COLD_START, H100, H200, MISS_OVER_COST
from aladdin_env.scenario import SLO, ColdStart, Failures, Fleet, RewardWeights, Scenario, WorkerType
from aladdin_traces import Workload

SLOTS, MANY_SLOTS = 16, 64
TYPE_NAMES, TYPE_SLOTS = ("a100", "h100", "h200"), (6, 6, 4)
_CHUNKED_TOKENS, _WHOLE_TOKENS = 2048, 4096  # budgets of a step: vLLM's defaults, today and in its version 0


@dataclass(frozen=True)
class Engine:
    """A model on GPUs, and the objectives that its users have.

    Attributes:
        profile: Name of a shipped latency profile.
        price: Currency per GPU-hour.
        slo: Objectives.
        scheduler: "chunked" or "prefill_first".
    """

    profile: str
    price: float
    slo: SLO
    scheduler: str = "chunked"

    def worker(self, name: str, initial: int, slots: int, cold_start: ColdStart) -> WorkerType:
        """A worker type of this engine."""
        return WorkerType(
            name, self.profile, initial, 1, slots, self.price, cold_start, self.scheduler,
            max_num_batched_tokens=_CHUNKED_TOKENS if self.scheduler == "chunked" else _WHOLE_TOKENS,
        )  # fmt: skip


CHAT_13B_A100 = Engine("llama-2-13b-a100-tp1", A100, SLO(1.0, 0.05))
CHAT_13B_A100_WHOLE = replace(CHAT_13B_A100, scheduler="prefill_first")
CHAT_13B_A100X2 = Engine("llama-2-13b-a100-tp2", A100, SLO(1.0, 0.04))
CHAT_8B_A100 = Engine("llama-3.1-8b-a100-tp1", A100, SLO(1.0, 0.025))
CODE_8B_A100 = Engine("llama-3.1-8b-a100-tp1", A100, SLO(1.0, 0.05))
DOCUMENTS_8B_A100 = Engine("llama-3.1-8b-a100-tp1", A100, SLO(2.0, 0.04))
REASONING_8B_H100 = Engine("llama-3.1-8b-h100-tp1", H100, SLO(2.0, 0.02))
CHAT_70B_A100X4 = Engine("llama-3.1-70b-a100-tp4", A100, SLO(2.0, 0.06))
CHAT_70B_H200X2 = Engine("llama-2-70b-h200-tp2", H200, SLO(2.0, 0.06))


@dataclass(frozen=True)
class Setting:
    """A load on a fleet: what becomes a scenario of a task.

    Attributes:
        name: Of the scenario, within split and task.
        about: One line for people.
        workload: Where requests come from.
        kinds: Worker types; ``initial`` is the fleet at time 0.
        slo: Objectives.
        horizon_s: Requests arrive in [0, horizon).
        failures: Losses of workers.
    """

    name: str
    about: str
    workload: Workload
    kinds: tuple[WorkerType, ...]
    slo: SLO
    horizon_s: float
    failures: Failures

    def scenario(self, title: str, *, fixed: bool) -> Scenario:
        """The scenario under this title, its reward weighted as that of the presets.

        On a ``fixed`` fleet nobody scales; the other slots stay empty, so that it has the frame of those that scale.
        """
        kinds = tuple(replace(kind, minimum=kind.initial) if fixed else kind for kind in self.kinds)
        cost_per_s = sum(kind.initial * kind.price_per_s for kind in kinds)
        miss = MISS_OVER_COST * cost_per_s / self.workload.mean_rate_rps
        return Scenario(
            title, self.workload, Fleet(kinds, failures=self.failures), self.slo, self.horizon_s,
            reward=RewardWeights(1.0, miss, miss, 2.0 * miss),
            description=self.about,
        )  # fmt: skip


def one_type(
    name: str,
    about: str,
    workload: Workload,
    engine: Engine,
    initial: int,
    horizon_s: float,
    *,
    slots: int = SLOTS,
    cold_start: ColdStart = COLD_START,
    failures: Failures | None = None,
) -> Setting:
    """A fleet of one engine."""
    kinds = (engine.worker("gpu", initial, slots, cold_start),)
    return Setting(name, about, workload, kinds, engine.slo, horizon_s, failures or Failures())


def three_types(
    name: str,
    about: str,
    workload: Workload,
    prices: tuple[float, float, float],
    initial: tuple[int, int, int],
    horizon_s: float,
) -> Setting:
    """Llama-2-13B on A100, H100 and H200 at these prices per GPU-hour."""
    slo = SLO(1.0, 0.05)
    kinds = tuple(
        Engine(f"llama-2-13b-{gpu}-tp1", price, slo).worker(gpu, first, most, COLD_START)
        for gpu, price, first, most in zip(TYPE_NAMES, prices, initial, TYPE_SLOTS, strict=True)
    )
    return Setting(name, about, workload, kinds, slo, horizon_s, Failures())
