"""Compiles the core once, before the processes of pytest-xdist would each do it at the same time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings

# Compilation and a busy machine make single examples slow; how slow is no property of ours.
settings.register_profile("aladdin", deadline=None)
settings.load_profile("aladdin")


def pytest_sessionstart(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return
    from aladdin_env.compiled import is_cold

    if is_cold():
        from aladdin_env.presets import load_scenario
        from aladdin_env.simulator.run import simulate

        print("Compiling the simulator, once ...", flush=True)
        simulate(replace(load_scenario("sharegpt-poisson"), horizon_s=5.0), "least_request")
