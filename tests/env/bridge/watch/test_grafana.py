"""The dashboard: every metric and label that it asks for exists, and every metric is shown or left out on purpose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .read import page
from .test_metrics import busy

FILE = Path(__file__).parents[4] / "docs/deploy/grafana/aladdin.json"
BOARD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
#: Not on the dashboard: limits and facts that no curve makes clearer.
LEFT_OUT = {
    "aladdin_process_virtual_memory_bytes", "aladdin_process_max_fds", "aladdin_process_start_time_seconds",
}  # fmt: skip
SELECTOR = re.compile(r"\b(aladdin_\w+)\{([^}]*)\}")
GROUPED = re.compile(r"\b(?:by|without) \(([^)]*)\)")


def expressions() -> Iterator[tuple[str, str]]:
    for panel in BOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


EXPRESSIONS = list(expressions())


@pytest.fixture(scope="module")
def found() -> Any:
    return page(busy().watch)


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_what_it_asks_for_is_there(title: str, expression: str, found: Any) -> None:
    used = SELECTOR.findall(expression)
    assert used and len(used) == len(re.findall("aladdin_", expression)), "a metric without a selector"
    for name, selector in used:
        assert name in found.names(), name
        assert 'instance=~"$instance"' in selector
        asked = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector))
        asked |= {label.strip() for group in GROUPED.findall(expression) for label in group.split(",")}
        assert asked - {"instance"} <= found.labels_of(name), name


def test_every_metric_is_shown_or_left_out_on_purpose(found: Any) -> None:
    shown = {name for _, expression in EXPRESSIONS for name, _ in SELECTOR.findall(expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in found.names()}
    assert {re.sub(r"_bucket$", "", name) for name in shown} == families - LEFT_OUT


def test_counters_and_histograms_are_asked_by_rate() -> None:
    for title, expression in EXPRESSIONS:
        for name in re.findall(r"(\S*aladdin_\w+_(?:total|bucket))\{", expression):
            assert re.match(r".*(rate|increase)\(aladdin_", name), title


def test_it_is_a_dashboard_that_grafana_10_takes() -> None:
    assert BOARD["schemaVersion"] >= 38 and BOARD["title"] and BOARD["uid"]
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    uids = {json.dumps(source) for panel in BOARD["panels"] for source in sources(panel)}
    assert uids == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["SLOs", "Latency", "Queue and shed", "Workers", "Scaling", "Policy", "Bridge"]


def sources(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if "datasource" in value:
            yield value["datasource"]
        for inner in value.values():
            yield from sources(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from sources(inner)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
