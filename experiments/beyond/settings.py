"""The settings of the comparison beyond the paper: loads, workers and objectives, by name.

Everything is drawn from the shipped generators; recorded traces are added where a folder has them, half of their
requests drawn by the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from aladdin_env.presets import load_scenario
from aladdin_env.scenario import SLO, Scenario
from aladdin_traces import (
    LENGTHS,
    Histogram,
    IndependentLengths,
    LognormalMixture,
    Poisson,
    Sessions,
    Workload,
    read_trace,
)
from experiments.beyond.laws import Recorded, Shift
from experiments.paper.shared import at_rate, paper_setting
from experiments.tuning.loads import TRACES, part_of_trace

SEEDS = 10
"""Episodes of a setting, seeds 0, 1, ...; no setting of a policy was chosen on them."""
_FEW_SEEDS = 4
"""Of the highest rate, where an episode takes long."""
_QUICK_SEEDS, _QUICK_SHARE, _QUICK_S = 2, 0.25, 30.0


@dataclass(frozen=True)
class Setting:
    """Load, workers and objectives.

    Attributes:
        title: For people.
        scenario: Its fleet at time 0 says in which proportions several worker types grow.
        seeds: Episodes.
    """

    title: str
    scenario: Scenario
    seeds: int = SEEDS

    def quick(self) -> Setting:
        """A small version, for tests."""
        rate_rps = _QUICK_SHARE * self.scenario.workload.mean_rate_rps
        return replace(self, scenario=at_rate(self.scenario, rate_rps, _QUICK_S), seeds=_QUICK_SEEDS)


def fixed_fleets(traces: Path | None = None) -> dict[str, Setting]:
    """Settings for placements, each on the fewest workers that do."""
    found = {
        "paper": Setting("The paper's: Llama-2-13B, A100, prefill first, ShareGPT", paper_setting(50.0, 240.0)),
        "chat": Setting(
            "Chats behind system prompts, prefix caching, H100", _on_h100(chats(), 100.0, 100.0, SLO(1.0, 0.02))
        ),
        "agents": Setting(
            "Agents: many turns that grow, prefix caching, H100", _on_h100(agents(), 40.0, 100.0, SLO(1.0, 0.025))
        ),
        "mooncake": Setting("Mooncake's long prompts, prefix caching, H100", _mooncake()),
        "classes": Setting("Two SLO classes: interactive and batch, A100", _preset("two-classes", 150.0, 200.0)),
        "types": Setting("A100, H100 and H200 at three prices", _preset("mixed-fleet", 150.0, 150.0)),
        "conv": Setting("Azure's conversations, H100", _azure_conv()),
        "code": Setting("Azure's code completion in bursts, H100", _preset("azure-code", 72.0, 600.0)),
        "shift": Setting("Half way from code completion to ShareGPT's lengths, H100", _shift(200.0)),
    }
    for rate_rps, horizon_s, seeds in ((100.0, 150.0, SEEDS), (500.0, 40.0, SEEDS), (2000.0, 20.0, _FEW_SEEDS)):
        title = f"ShareGPT at {rate_rps:,.0f} requests/s: Llama-3.1-8B, A100"
        found[f"{rate_rps:.0f}/s"] = Setting(title, _on_a100(rate_rps, horizon_s), seeds)
    return found | (_recorded(traces) if traces else {})


def changing_loads(traces: Path | None = None) -> dict[str, Setting]:
    """Settings for scalers: presets whose load changes, and a shift of rate and lengths."""
    titles = {
        "short-day": "A day in two hours: ShareGPT, Llama-3.1-8B, A100",
        "flood": "Ten times the rate for two minutes, now and then",
        "slow-start": "The same with 70B workers, 2 to 7 minutes to start",
        "azure-code": "Code completion in bursts, H100",
    }
    found = {name: Setting(title, load_scenario(name)) for name, title in titles.items()}
    found["shift"] = Setting("Half way from code completion to ShareGPT at six times the rate", _shift_of_rate())
    if traces:
        for name, file in TRACES.items():
            last = part_of_trace(name, traces / file, 0.75, 1.0)
            found[name] = Setting(f"The last quarter of Azure's {name.rpartition('-')[2]} 2023, A100", last, seeds=1)
    return found


def chats() -> Workload:
    """Sessions of 3.4 turns on average with 20 s in between (median), each prompt behind one of 16 system prompts."""
    turns = Histogram(tuple(range(1, 13)), tuple(0.75**k for k in range(12)))
    lengths = LENGTHS["sharegpt"]
    law = Sessions(
        Poisson(1.0), turns, lengths, lengths, think_mu=3.0, think_sigma=1.0, rewrites=0.1,
        system_tokens=1024, system_prompts=16, block_size=128, max_prompt_tokens=16_000,
    )  # fmt: skip
    return Workload.from_law(law)


def agents() -> Workload:
    """Sessions of 8 turns on average with 6 s in between (median): prompts grow by tool output, answers are short."""
    turns = Histogram(tuple(range(1, 33)), tuple(0.875**k for k in range(32)))
    answer = LognormalMixture((1.0,), (4.7,), (0.8,), minimum=4, maximum=2_000)
    first, later = (
        IndependentLengths(LognormalMixture((1.0,), (mu,), (0.8,), minimum=16, maximum=20_000), answer)
        for mu in (7.5, 6.2)
    )
    law = Sessions(
        Poisson(1.0), turns, first, later, think_mu=1.8, think_sigma=0.8, rewrites=0.02,
        system_tokens=2048, system_prompts=4, block_size=128, max_prompt_tokens=60_000,
    )  # fmt: skip
    return Workload.from_law(law)


def _on_h100(workload: Workload, rate_rps: float, horizon_s: float, slo: SLO) -> Scenario:
    base = replace(load_scenario("azure-conv"), slo=slo, workload=workload)
    return at_rate(base, rate_rps, horizon_s)


def _on_a100(rate_rps: float, horizon_s: float) -> Scenario:
    base = replace(load_scenario("diurnal"), workload=Workload.preset("sharegpt"))
    return at_rate(base, rate_rps, horizon_s)


def _preset(name: str, rate_rps: float, horizon_s: float) -> Scenario:
    return at_rate(load_scenario(name), rate_rps, horizon_s)


def _mooncake() -> Scenario:
    return _on_h100(Workload.preset("mooncake-conversation"), 16.0, 200.0, SLO(10.0, 0.05))


def _azure_conv() -> Scenario:
    return _on_h100(Workload.preset("azure-conv"), 200.0, 150.0, SLO(1.0, 0.02))


def _shift(horizon_s: float) -> Scenario:
    """Long prompts with short answers, then short prompts with long answers, about as much work per second."""
    law = Shift(_poisson("azure-code", 100.0), _poisson("sharegpt", 300.0))
    return _on_h100(Workload.from_law(law), law.mean_rate_rps, horizon_s, SLO(1.0, 0.025))


def _shift_of_rate() -> Scenario:
    law = Shift(_poisson("azure-code", 40.0), _poisson("sharegpt", 240.0))
    scenario = _on_h100(Workload.from_law(law), law.mean_rate_rps, 3600.0, SLO(1.0, 0.025))
    kind = replace(scenario.fleet.types[0], initial=4)
    return replace(scenario, fleet=replace(scenario.fleet, types=(kind,)))


def _poisson(lengths: str, rate_rps: float) -> Workload:
    return Workload.generated(Poisson(rate_rps), lengths)


def _recorded(folder: Path) -> dict[str, Setting]:
    """The second halves of the public traces, sped up until they need some ten workers."""
    speeds = {
        "trace conv": ("azure2023_conv.csv.gz", 25.0, SLO(1.0, 0.02)),
        "trace code": ("azure2023_code.csv.gz", 10.0, SLO(1.0, 0.05)),
        "trace mooncake": ("mooncake_conversation_trace.jsonl.gz", 8.0, SLO(10.0, 0.05)),
    }
    found = {}
    for name, (file, speed, slo) in speeds.items():
        whole = read_trace(folder / file)
        law = Recorded(whole.window(0.5 * whole.duration_s), speed=speed)
        scenario = replace(load_scenario("azure-conv"), slo=slo, workload=Workload.from_law(law))
        horizon_s = law.trace.duration_s / speed
        found[name] = Setting(
            f"{file.partition('.')[0]}, {speed:g} times as fast, H100", replace(scenario, horizon_s=horizon_s)
        )
    return found
