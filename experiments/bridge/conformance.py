"""The conformance suite on known routers: ``python -m experiments.bridge.conformance [ROUTER ...] [--runs 3]``.

Writes results/conformance.json, where routers that are not run this time keep what they had, and the table of all into
docs/conformance.md, and prints it; ``--table`` makes only the table. The routers must be on PATH.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from aladdin_env.bridge.conformance import CASES, FAIL, PASS, PRESETS, SKIP, Outcome, Suite
from aladdin_env.bridge.conformance.launch import arguments
from aladdin_traces.files import whole_file
from experiments.bridge.document import with_results

RESULTS = Path(__file__).parent / "results" / "conformance.json"
SCRIPT = "experiments.bridge.conformance"
DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
_START_S = 120.0
_CELLS = {PASS: "pass", FAIL: "**fail**", SKIP: "skip"}
_OURS = "aladdin"


def measure(router: str, runs: int) -> dict[str, Any]:
    """What came of all cases on a fresh start of the router, ``runs`` times: failed is what failed in any."""
    found = [asyncio.run(_run(PRESETS[router])) for _ in range(runs)]
    verdicts, reasons = {}, {}
    for position, case in enumerate(CASES):
        outcomes = [run[position] for run in found]
        worst = next((o for v in (FAIL, SKIP) for o in outcomes if o.verdict == v), outcomes[0])
        verdicts[case.name] = worst.verdict
        times = sum(outcome.verdict == worst.verdict for outcome in outcomes)
        if worst.reason:
            reasons[case.name] = worst.reason + (f" (in {times} of {runs} runs)" if times < runs else "")
    return {
        "version": version_of(router),
        "command": PRESETS[router],
        "runs": runs,
        "verdicts": verdicts,
        "reasons": reasons,
    }


async def _run(template: str) -> list[Outcome]:
    async with Suite() as suite:
        await suite.start(template, _START_S)
        return await suite.run(CASES)


def version_of(router: str) -> str:
    """The router's version, by the interpreter that lies beside its program."""
    if router == _OURS:
        return metadata.version("aladdin-env")
    interpreter = Path(arguments(router)[0]).resolve().with_name("python")
    code = f"from importlib.metadata import version; print(version({router!r}))"
    return subprocess.run([interpreter, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def table(routers: Mapping[str, Mapping[str, Any]]) -> str:
    """All verdicts as a Markdown table, and what failed as a list."""
    names = [f"{name} {routers[name]['version']}" if name in routers else f"{name} (not run)" for name in PRESETS]
    lines = [f"| case | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for case in CASES:
        verdicts = [routers.get(name, {}).get("verdicts", {}).get(case.name, "") for name in PRESETS]
        lines.append(f"| `{case.name}`: {case.what} | {' | '.join(_CELLS.get(v, '') for v in verdicts)} |")
    for name in PRESETS:
        if name in routers:
            lines += ["", *_told(name, routers[name])]
    return "\n".join(lines) + "\n"


def _told(name: str, result: Mapping[str, Any]) -> list[str]:
    """What a router did instead, a line for each case that failed."""
    failed = [case for case, verdict in result["verdicts"].items() if verdict == FAIL]
    lines = [f"- `{case}`: `{result['reasons'][case].replace('`', '')}`" for case in failed]
    if not failed:
        return [f"{name}: nothing failed in {result['runs']} runs."]
    return [f"What {name} did instead, {result['runs']} runs:", "", *lines]


def read() -> dict[str, Any]:
    """The results so far."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return found


def main(given: Sequence[str] | None = None) -> None:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("routers", nargs="*", metavar="ROUTER", help=", ".join(PRESETS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(given)
    unknown = set(options.routers) - set(PRESETS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    found = read()
    for router in [] if options.table else options.routers or PRESETS:
        found[router] = measure(router, options.runs)
        with whole_file(RESULTS) as temporary:
            temporary.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(found), end="")
    DOCUMENT.write_text(with_results(DOCUMENT.read_text(encoding="utf-8"), SCRIPT, table(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
