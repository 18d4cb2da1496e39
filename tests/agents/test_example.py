"""The example of a third party's policies runs as printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_policy.py"


def test_custom_policies_run_beside_ours():
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=300, env=dict(os.environ), check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
    names = [row[0] for row in rows]
    assert names == ["long_prompts_apart", "least_queued_prompt", "round_robin", "least_request", "aladdin"]
    attained = dict(zip(names, (float(row[1]) for row in rows), strict=True))
    assert attained["aladdin"] == max(attained.values())
    assert done.stdout.splitlines()[-1].startswith("long_prompts_apart saw ")
