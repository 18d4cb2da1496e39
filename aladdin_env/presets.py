"""Named scenarios, and one function that loads a scenario by name, from a file, or as it is.

Assumptions that the presets share:

- Prices are currency per GPU-hour: A100 1.8, H100 3.0, H200 3.7. They are assumed on-demand prices in US dollars, round
  numbers and no offer of anybody's; only their ratios matter for what a policy should do.
- A worker takes 37 to 120 s to start (5 % to 95 %) unless the preset says otherwise.
- A late first token or too slow a pace costs ten times what serving the request costs in GPU time, a request that is
  not served at all twenty times. The GPU time is that of ``initial`` workers, shared by the requests that arrive.
- ``initial`` is about the fewest workers with which a router that counts requests holds the SLO for 99 % of them, on a
  fixed fleet over the whole horizon. ``tests/env/test_scenario.py`` checks this.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aladdin_env.errors import InputError, suggest
from aladdin_env.scenario import SLO, ColdStart, Failures, Fleet, RewardWeights, Scenario, SLOClass, WorkerType
from aladdin_env.scenario_file import read_scenario
from aladdin_traces import ArrivalProcess, Diurnal, Flood, OnOff, Poisson, Workload

A100, H100, H200 = 1.8, 3.0, 3.7
COLD_START = ColdStart(mean_s=70.0, spread=0.35, law="lognormal")
SLOW_COLD_START = ColdStart(mean_s=240.0, spread=0.4, law="lognormal")
MISS_OVER_COST = 10.0


def _worker(
    name: str,
    profile: str,
    price: float,
    initial: int,
    maximum: int = 16,
    *,
    cold_start: ColdStart = COLD_START,
    scheduler: str = "chunked",
    role: str = "mixed",
    max_num_batched_tokens: int = 8192,
) -> WorkerType:
    return WorkerType(
        name=name,
        profile=profile,
        initial=initial,
        minimum=1,
        maximum=maximum,
        price_per_gpu_hour=price,
        cold_start=cold_start,
        scheduler=scheduler,
        role=role,
        max_num_batched_tokens=max_num_batched_tokens,
    )


def _scenario(
    name: str,
    description: str,
    arrivals: ArrivalProcess,
    lengths: str,
    fleet: Fleet | WorkerType,
    slo: SLO,
    horizon_s: float,
    class_shares: tuple[float, ...] = (),
) -> Scenario:
    whole = Fleet((fleet,)) if isinstance(fleet, WorkerType) else fleet
    cost_per_s = sum(kind.initial * kind.price_per_s for kind in whole.types)
    miss = MISS_OVER_COST * cost_per_s / arrivals.mean_rate_rps
    return Scenario(
        name=name,
        workload=Workload.generated(arrivals, lengths, class_shares),
        fleet=whole,
        slo=slo,
        horizon_s=horizon_s,
        heartbeat_s=10.0,
        reward=RewardWeights(cost=1.0, ttft_miss=miss, atgt_miss=miss, unserved=2 * miss),
        description=description,
    )


def _sharegpt_poisson() -> Scenario:
    return _scenario(
        "sharegpt-poisson",
        "The Aladdin paper's setting: Llama-2-13B on A100, prefill first, ShareGPT lengths, Poisson arrivals.",
        Poisson(25.0),
        "sharegpt",
        _worker("a100", "llama-2-13b-a100-tp1", A100, 8, scheduler="prefill_first", max_num_batched_tokens=4096),
        SLO(ttft_s=1.0, atgt_s=0.05),
        600.0,
    )


def _azure_conv() -> Scenario:
    return _scenario(
        "azure-conv",
        "Half an hour of a working morning: Azure's conversations on Llama-3.1-8B, H100, chunked prefill.",
        Diurnal(90.0, noise_sd=0.05, start_s=9 * 3600.0),
        "azure-conv",
        _worker("h100", "llama-3.1-8b-h100-tp1", H100, 7),
        SLO(ttft_s=1.0, atgt_s=0.02),
        1800.0,
    )


def _azure_code() -> Scenario:
    return _scenario(
        "azure-code",
        "Code completion in bursts: long prompts, short answers, silence in between.",
        OnOff(on_rate_rps=80.0),
        "azure-code",
        _worker("h100", "llama-3.1-8b-h100-tp1", H100, 6, max_num_batched_tokens=2048),
        SLO(ttft_s=1.0, atgt_s=0.05),
        1800.0,
    )


def _diurnal() -> Scenario:
    return _scenario(
        "diurnal",
        "A day of 45 requests/s on average, following Azure's conversations by the hour: 3.9 million requests.",
        Diurnal(45.0, "azure-conv-weekday", noise_sd=0.1),
        "sharegpt",
        _worker("a100", "llama-3.1-8b-a100-tp1", A100, 6),
        SLO(ttft_s=1.0, atgt_s=0.025),
        86400.0,
    )


def _short_day() -> Scenario:
    return _scenario(
        "short-day",
        "A day's rise and fall in two hours, to see a fleet follow its load in a few seconds of simulation.",
        Diurnal(45.0, "azure-code-weekday", noise_sd=0.05, period_s=7200.0),
        "sharegpt",
        _worker("a100", "llama-3.1-8b-a100-tp1", A100, 8),
        SLO(ttft_s=1.0, atgt_s=0.025),
        7200.0,
    )


def _flood() -> Scenario:
    return _scenario(
        "flood",
        "A quiet stream that jumps to ten times its rate, for two minutes every ten on average.",
        Flood(base_rps=8.0, flood_rps=80.0, every_s=600.0, lasts_s=120.0),
        "sharegpt",
        _worker("a100", "llama-3.1-8b-a100-tp1", A100, 7),
        SLO(ttft_s=1.0, atgt_s=0.025),
        3600.0,
    )


def _mixed_fleet() -> Scenario:
    return _scenario(
        "mixed-fleet",
        "Three kinds of GPU at three prices behind one router.",
        Poisson(90.0),
        "azure-conv",
        Fleet(
            (
                _worker("a100", "llama-3.1-8b-a100-tp1", A100, 3, 6),
                _worker("h100", "llama-3.1-8b-h100-tp1", H100, 3, 6),
                _worker("h200", "llama-3.1-8b-h200-tp1", H200, 2, 4),
            )
        ),
        SLO(ttft_s=1.5, atgt_s=0.04),
        900.0,
    )


def _split_phase() -> Scenario:
    return _scenario(
        "split-phase",
        "Prefill and decode on pools of their own; KV travels between them.",
        Poisson(100.0),
        "azure-conv",
        Fleet(
            (
                _worker("prefill", "llama-3.1-8b-h100-tp1", H100, 3, 8, scheduler="split", role="prefill"),
                _worker("decode", "llama-3.1-8b-h100-tp1", H100, 3, 8, scheduler="split", role="decode"),
            )
        ),
        SLO(ttft_s=1.0, atgt_s=0.015),
        900.0,
    )


def _slow_start() -> Scenario:
    return _scenario(
        "slow-start",
        "A 70B model on four H100 per worker, which takes 2 to 7 minutes to start; a day's load in two hours.",
        Diurnal(70.0, noise_sd=0.1, period_s=7200.0),
        "sharegpt",
        _worker("h100x4", "llama-3.1-70b-h100-tp4", H100, 6, cold_start=SLOW_COLD_START),
        SLO(ttft_s=1.5, atgt_s=0.04),
        7200.0,
    )


def _failures() -> Scenario:
    kind = _worker("a100", "llama-3.1-8b-a100-tp1", A100, 6)
    return _scenario(
        "failures",
        "Workers that fail once an hour each, and lose what they were doing.",
        Poisson(53.0),
        "sharegpt",
        Fleet((kind,), failures=Failures(mtbf_s=3600.0, repair_s=30.0)),
        SLO(ttft_s=1.0, atgt_s=0.025),
        3600.0,
    )


def _two_classes() -> Scenario:
    return _scenario(
        "two-classes",
        "Interactive requests and batch work in one stream, with objectives of their own.",
        Poisson(58.0),
        "sharegpt",
        _worker("a100", "llama-3.1-8b-a100-tp1", A100, 6),
        SLO(classes=(SLOClass("interactive", 0.8, 0.022), SLOClass("batch", 20.0, 0.06))),
        900.0,
        class_shares=(0.7, 0.3),
    )


PRESETS: dict[str, Callable[[], Scenario]] = {
    "sharegpt-poisson": _sharegpt_poisson,
    "azure-conv": _azure_conv,
    "azure-code": _azure_code,
    "diurnal": _diurnal,
    "short-day": _short_day,
    "flood": _flood,
    "mixed-fleet": _mixed_fleet,
    "split-phase": _split_phase,
    "slow-start": _slow_start,
    "failures": _failures,
    "two-classes": _two_classes,
}
"""Makers of the shipped scenarios, by name."""


def scenario_names() -> list[str]:
    """Names of the shipped scenarios, in the order of the documentation."""
    return list(PRESETS)


def load_scenario(source: str | Path | Scenario) -> Scenario:
    """A shipped scenario by its name (see :func:`scenario_names`), one from a TOML file, or the given one itself.

    Raises:
        InputError: no such name (with the nearest one), or a file that cannot be used.
    """
    if isinstance(source, Scenario):
        return source
    if not isinstance(source, str | Path):
        raise InputError("scenario", source, "give a Scenario, the name of a preset, or the path of a TOML file")
    if isinstance(source, str) and source in PRESETS:
        return PRESETS[source]()
    if isinstance(source, Path) or source.endswith(".toml"):
        return read_scenario(source)
    raise InputError("scenario", source, f"{suggest(source, scenario_names())} A file's name ends in .toml")
