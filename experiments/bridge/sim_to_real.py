"""How true the simulator is of a whole bridge: ``python -m experiments.bridge.sim_to_real [--seconds 120]``.

``aladdin serve --policy aladdin`` before four emulated workers, real HTTP, real time; the same trace in the simulator.
The load is a share of what the simulator says the fleet can serve at 99 % within objectives. What the bridge recorded
is compared with the simulation of what it recorded, as ``aladdin replay-log`` does. Writes results/sim_to_real.json and
the table in docs/bridge.md. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from aladdin_env import SLO, Scenario, WorkerType, Workload
from aladdin_env import Fleet as SimulatedFleet
from aladdin_env.bench.bridge.wire import new_loop
from aladdin_env.bridge.record.log import Log, read_logs
from aladdin_env.bridge.record.sim_to_real import SimToReal, sim_to_real
from aladdin_env.cli.output import progress_bar
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.setup import draw
from aladdin_traces import Poisson, Trace
from aladdin_traces.files import whole_file
from experiments.bridge.document import with_results
from experiments.bridge.soak.client import MODEL
from experiments.bridge.soak.processes import Fleet, Serve

SCRIPT = "experiments.bridge.sim_to_real"
RESULTS = Path(__file__).parent / "results" / "sim_to_real.json"
DOCUMENT = Path(__file__).parents[2] / "docs" / "bridge.md"
FLEET = Fleet(workers=4, max_num_seqs=16, ttft_s=1.0, atgt_s=0.03)
LOADS = (0.5, 0.8, 1.0)
_HELD = 0.99
_READ_BYTES = 1 << 16
_START_S = 180.0


def scenario(rate_rps: float, seconds: float) -> Scenario:
    """The fleet as the bridge will be told of it."""
    kind = WorkerType(
        "worker", FLEET.profile, initial=FLEET.workers, minimum=FLEET.workers, maximum=FLEET.workers,
        max_num_seqs=FLEET.max_num_seqs,
    )  # fmt: skip
    workload = Workload.generated(Poisson(rate_rps), "sharegpt")
    return Scenario(
        "sim-to-real", workload, SimulatedFleet((kind,)), SLO(FLEET.ttft_s, FLEET.atgt_s), horizon_s=seconds
    )


def served_rate_rps(seed: int) -> float:
    """The largest rate that is served within objectives at 99 %, by the simulator over ten minutes."""
    low, high = 0.1, 200.0
    while high / low > 1.02:
        rate_rps = (low * high) ** 0.5
        attained = Simulator(scenario(rate_rps, 600.0), seed).run("aladdin").summary["slo_attainment"]
        low, high = (rate_rps, high) if attained >= _HELD else (low, rate_rps)
    return low


def recorded(trace: Trace, told: Any) -> Log:
    """What a bridge recorded of this trace."""
    with Serve(FLEET) as serve:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_send(serve.url, trace, told))
        status, _ = serve.stop()
        if status != 0:
            raise RuntimeError(f"the bridge ended with {status}")
        return read_logs([serve.log])[0]


async def _send(url: str, trace: Trace, told: Any) -> None:
    """An open loop, once all workers are ready."""
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
        async with asyncio.timeout(_START_S):
            while await _ready(session, url) < FLEET.workers:
                await asyncio.sleep(0.2)
        began_s = loop.time() + 1.0
        for k in range(len(trace)):
            await asyncio.sleep(max(0.0, began_s + float(trace.arrival_s[k]) - loop.time()))
            group.create_task(_ask(session, url, k, int(trace.prompt_tokens[k]), int(trace.output_tokens[k])))
            told(k + 1)


async def _ready(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(f"{url}/status") as answer:
        return int((await answer.json())["ready"])


async def _ask(session: aiohttp.ClientSession, url: str, k: int, prompt_tokens: int, output_tokens: int) -> None:
    ids = np.random.default_rng(k).integers(3, 1 << 16, prompt_tokens).tolist()  # no two begin alike: nothing is cached
    body = {"model": MODEL, "prompt": ids, "max_tokens": output_tokens, "ignore_eos": True, "stream": True}
    async with session.post(f"{url}/v1/completions", json=body) as answer:
        while await answer.content.read(_READ_BYTES):
            pass


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """For the document; of nothing: that there is nothing."""
    if not runs:
        return "Not run yet.\n"
    lines = [
        "| load | requests | attainment, bridge | simulator | points off | p50 ATGT | p99 ATGT | p50 TTFT | p99 TTFT |",
        "|---" * 9 + "|",
    ]
    for run in runs:
        real, simulated = run["recorded"], run["simulated"]
        off = [f"{simulated[name] / real[name] - 1.0:+.1%}" for name in _TIMES]
        attained, expected = 100.0 * real["slo_attainment"], 100.0 * simulated["slo_attainment"]
        lines.append(
            f"| {run['load']:.0%} ({run['rate_rps']:.1f}/s) | {run['requests']:,} | {attained:.1f} % "
            f"| {expected:.1f} % | {expected - attained:+.1f} | {' | '.join(off)} |"
        )
    return "\n".join(lines) + "\n"


_TIMES = ("atgt_p50_s", "atgt_p99_s", "ttft_p50_s", "ttft_p99_s")


def _plain(load: float, rate_rps: float, found: SimToReal) -> dict[str, Any]:
    return {
        "load": load, "rate_rps": rate_rps, "requests": found.requests, "recorded": found.recorded,
        "simulated": found.simulated, "notes": found.notes,
    }  # fmt: skip


def main(given: Sequence[str] | None = None) -> int:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(given)
    if asked.seconds <= 0:
        parser.error("--seconds must be above 0")
    full_rps = served_rate_rps(asked.seed)
    runs = []
    for load in LOADS:
        rate_rps = load * full_rps
        trace = draw(scenario(rate_rps, asked.seconds), np.random.default_rng(asked.seed)).trace
        with progress_bar(f"{load:.0%} of {full_rps:.1f}/s", len(trace)) as told:
            runs.append(_plain(load, rate_rps, sim_to_real(recorded(trace, told))))
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")
    DOCUMENT.write_text(with_results(DOCUMENT.read_text(encoding="utf-8"), SCRIPT, table(runs)), encoding="utf-8")
    print(table(runs), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
