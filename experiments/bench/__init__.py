"""The benchmarks of ``aladdin bench``, a script for each part; what is timed stands in :mod:`aladdin_env.bench`."""

import json
from collections.abc import Iterable

from aladdin_env.bench import FIGURES, run_bench


def run(names: Iterable[str]) -> None:
    """Measure and print, as JSON, the definitions before the values."""
    wanted = list(names)
    what = {figure.name: f"{figure.what} ({figure.unit})" for figure in FIGURES if figure.name in wanted}
    print(json.dumps({"what": what, "values": run_bench(wanted)}, indent=2))
