"""The page about calibration: its first example runs, on measured steps that are not in its folder otherwise."""

import re
from pathlib import Path

import pandas as pd
import pytest

from tests.calibration.test_fits import observed

PAGE = Path(__file__).parents[2] / "docs" / "calibration.md"


def test_the_first_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = observed(noise=0.02)
    table = pd.DataFrame(
        {
            "config": steps["config"],
            "n_prefill": (steps["prefill_tokens"] > 0).astype(int),
            "sum_prefill": steps["prefill_tokens"],
            "sum_sq": steps["sum_squares"],
            "n_decode": steps["batch"],
            "sum_ctx": steps["context_tokens"],
            "step_wall": steps["seconds"] * 1e3,
        }
    )
    table.to_csv(tmp_path / "steps.csv", index=False)
    monkeypatch.chdir(tmp_path)
    (example, *_) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(example, PAGE.name, "exec"), {})
    assert {path.name for path in tmp_path.glob("my-worker.*")} == {f"my-worker.{e}" for e in ("json", "md", "png")}
