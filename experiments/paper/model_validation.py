"""Laws of prefill, decode, KV against measurements (Figures 6 to 8): ``python -m experiments.paper.model_validation``.

Every measurement of calibration/measurements is fitted anew; errors are out of sample, of whole configurations that the
fit did not see. The picture is that of the calibration's report (points, laws, 95 % prediction intervals); with several
measurements there is one for each. Beside them the errors of the shipped profiles of the paper's models, which are fits
to NVIDIA's kernel timings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from aladdin_calibration.measurement import Measurement
from aladdin_calibration.profiles import profile_of
from aladdin_calibration.report_figure import draw_report
from aladdin_env.latency import load_profile
from experiments.paper.shared import Asked, Finding, script

NAME = Path(__file__).stem
MEASUREMENTS = Path(__file__).parents[2] / "calibration" / "measurements"
SHIPPED = ("llama-2-13b-a100-tp1", "llama-2-70b-a100-tp4", "llama-2-70b-a100-tp8")
_OF = {
    "": "a step, as measured",
    "paced_": "a step, at the machine's pace",
    "configuration_": "a configuration's median step",
    "configuration_paced_": "a configuration's median step, at the machine's pace",
    "repeat_": "noise: equal steps against their mean",
}


def find(asked: Asked) -> Finding:
    """Errors of every measurement and of the shipped profiles; a picture per measurement."""
    paths = sorted(MEASUREMENTS.glob("*.parquet"), key=_cpu_last)[: 1 if asked.quick else None]
    rows: list[dict[str, object]] = []
    figures = {}
    for i, path in enumerate(paths):
        measurement = _load(path, asked.quick)
        profile = profile_of(measurement, path.stem)
        figures["" if i == 0 else f"-{path.stem}"] = draw_report(measurement, profile)
        rows += _rows(f"measured: {path.stem}", profile.provenance.errors)
        asked.tell((i + 1) / len(paths))
    for name in SHIPPED:
        rows += _rows(f"kernel timings: {name}", load_profile(name).provenance.errors)
    table = pd.DataFrame(rows)
    paper = "errors of prefill, decode and KV laws under 10 % (Llama-2 on A100 and V100)"
    return Finding(table, figures, paper, _told(table))


def _load(path: Path, quick: bool) -> Measurement:
    measurement = Measurement.load(path)
    if not quick:
        return measurement
    first = measurement.steps[measurement.steps["repeat"] == 0].reset_index(drop=True)
    return Measurement(first, measurement.facts)


def _cpu_last(path: Path) -> tuple[bool, str]:
    return "cpu" in path.stem, path.stem


def _rows(source: str, errors: Mapping[str, float]) -> Iterator[dict[str, object]]:
    """A row per law and case that is known."""
    for law in ("prefill", "decode", "mixed"):
        for case, words in _OF.items():
            if f"{law}_{case}median" in errors:
                median, p95 = (errors[f"{law}_{case}{part}"] for part in ("median", "p95"))
                yield {"source": source, "law": law, "error_of": words, "median": median, "p95": p95}


def _told(table: pd.DataFrame) -> str:
    """Median errors out of sample: of a configuration's median step, where equal steps were repeated."""
    parts = []
    for source, rows in table.groupby("source", sort=False):
        known = rows[rows["error_of"].isin([_OF[""], _OF["configuration_"]])].drop_duplicates("law", keep="last")
        errors = zip(known["law"], 100.0 * known["median"], strict=True)
        parts.append(f"{source} {', '.join(f'{law} {error:.1f} %' for law, error in errors)}")
    return "median out of sample, of the median of equal steps: " + "; ".join(parts)


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
