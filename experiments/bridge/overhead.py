"""What the bridge costs, beside other routers: ``python -m experiments.bridge.overhead``, on an idle machine.

As ``aladdin bench --bridge``, with a learned policy besides; routers that are on PATH are measured in the same run.
Writes results/overhead.json and the table in docs/bridge.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from aladdin_env.bench.bridge import CONNECTIONS, OURS, Effort, known_peers, measure_bridge
from aladdin_env.cli.output import progress_bar
from aladdin_traces.files import whole_file
from experiments.bridge.conformance import version_of
from experiments.bridge.document import with_results

SCRIPT = "experiments.bridge.overhead"
RESULTS = Path(__file__).parent / "results" / "overhead.json"
DOCUMENT = Path(__file__).parents[2] / "docs" / "bridge.md"
LEARNED = {"learned": OURS["bridge"].replace("--policy aladdin", "--policy learned_placement")}
_ROWS = {
    "direct": "no router", "bridge": "bridge, `aladdin`", "learned": "bridge, `learned_placement`",
    "vllm_router": "vllm-router {}", "smg": "smg {}",
}  # fmt: skip


def table(found: Mapping[str, float], versions: Mapping[str, str]) -> str:
    """For the document; of nothing: that there is nothing."""
    if not found:
        return "Not run yet.\n"
    lines = [
        f"| router | p50, 1 connection | over direct | requests/s, {CONNECTIONS} connections |",
        "|---|---|---|---|",
    ]
    for key, name in _ROWS.items():
        if f"{key}_p50_us" in found:
            p50_us = found[f"{key}_p50_us"]
            lines.append(
                f"| {name.format(versions.get(key, ''))} | {p50_us:.0f} us | {p50_us - found['direct_p50_us']:.0f} us "
                f"| {found[f'{key}_rps_{CONNECTIONS}']:,.0f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, write, print."""
    peers = known_peers()
    effort = Effort()
    with progress_bar("measuring", effort.rounds) as told:
        found = measure_bridge(OURS | LEARNED | peers, effort, told, lambda text: print(text, file=sys.stderr))
    versions = {key: version_of(template.split()[0]) for key, template in peers.items()}
    versions["bridge"] = metadata.version("aladdin-env")
    with whole_file(RESULTS) as temporary:
        told_all = {"versions": versions, "figures": found}
        temporary.write_text(json.dumps(told_all, indent=2) + "\n", encoding="utf-8")
    text = table(found, versions)
    DOCUMENT.write_text(with_results(DOCUMENT.read_text(encoding="utf-8"), SCRIPT, text), encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
