"""Scalers by name: each function makes one for a scenario (entry-point group ``aladdin.scalers``)."""

from __future__ import annotations

from aladdin_agents.scale_aladdin import AladdinScaler
from aladdin_agents.scale_planner import Planner
from aladdin_agents.scale_reactive import Kpa, TargetUtilisation, TunedReactive
from aladdin_agents.scale_saturation import Saturation
from aladdin_agents.tunable import Settings
from aladdin_env.scenario import Scenario
from aladdin_env.view import ClusterView


class Static:
    """Leaves the fleet as it is."""

    name = "static"

    def settings(self) -> Settings:
        """It has no parameters."""
        return {"policy": self.name}

    def scale(self, view: ClusterView) -> None:
        """No change."""


def make_static(scenario: Scenario) -> Static:
    """Leaves the fleet as it is."""
    return Static()


def make_aladdin(scenario: Scenario) -> AladdinScaler:
    """The fewest workers that the sizing formulas allow."""
    return AladdinScaler(scenario)


def make_target_utilisation(scenario: Scenario) -> TargetUtilisation:
    """The Kubernetes HPA on requests per worker."""
    return TargetUtilisation(scenario)


def make_kpa(scenario: Scenario) -> Kpa:
    """Knative's autoscaler."""
    return Kpa(scenario)


def make_tuned_reactive(scenario: Scenario) -> TunedReactive:
    """A tuned reactive rule."""
    return TunedReactive(scenario)


def make_planner(scenario: Scenario) -> Planner:
    """Dynamo's planner: forecast load over a profile's throughput."""
    return Planner(scenario)


def make_saturation(scenario: Scenario) -> Saturation:
    """llm-d's Workload Variant Autoscaler: spare KV memory and spare queue."""
    return Saturation(scenario)
