"""Metrics read back by Prometheus' own parsers."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from aladdin_env.bridge.watch import Watch

OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def families(watch: Watch, accepts: str = "") -> list[Metric]:
    body, content_type = watch.metrics.page(accepts)
    read = open_families if "openmetrics" in content_type else plain_families
    return list(read(body.decode()))


class Page:
    """The samples of a page: ``page("aladdin_shed_total", reason="rejected")``; None where there is none."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self.samples = [sample for family in found for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float | None:
        values = [sample.value for sample in self.samples if sample.name == name and sample.labels == labels]
        assert len(values) < 2, f"{name} {labels} is there twice"
        return values[0] if values else None

    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}

    def labels_of(self, name: str) -> set[str]:
        return {label for sample in self.samples if sample.name == name for label in sample.labels}


def page(watch: Watch) -> Page:
    return Page(families(watch))
