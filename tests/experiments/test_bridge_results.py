"""docs/bridge.md shows the results that are in the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.bridge import overhead, sim_to_real
from experiments.bridge.document import with_results

DOCUMENT = overhead.DOCUMENT.read_text(encoding="utf-8")


def kept(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_what_the_bridge_costs() -> None:
    found = kept(overhead.RESULTS)
    table = overhead.table(found["figures"], found["versions"])
    assert with_results(DOCUMENT, overhead.SCRIPT, table) == DOCUMENT


def test_how_true_the_simulator_is() -> None:
    assert with_results(DOCUMENT, sim_to_real.SCRIPT, sim_to_real.table(kept(sim_to_real.RESULTS))) == DOCUMENT


def test_every_load_is_as_true_as_it_should_be() -> None:
    """Attainment within 3 points, median ATGT within 10 %."""
    for run in kept(sim_to_real.RESULTS):
        real, simulated = run["recorded"], run["simulated"]
        assert abs(simulated["slo_attainment"] - real["slo_attainment"]) <= 0.03
        assert abs(simulated["atgt_p50_s"] / real["atgt_p50_s"] - 1.0) <= 0.10
