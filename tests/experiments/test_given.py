"""Mistakes on a script's command line: one line, exit code 2, before any work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from experiments.beyond import placements, scaling
from experiments.paper import everything, length_cdf

Main = Callable[[Sequence[str]], None]


@pytest.mark.parametrize("main", [length_cdf.main, everything.main, placements.SCRIPT.main, scaling.SCRIPT.main])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--jobs", "0"], "argument --jobs: '0' is not valid; give a whole number"),
        (["--jobs", "two"], "argument --jobs: 'two' is not valid; give a whole number"),
        (["--out", "/proc/x"], "argument --out: '/proc/x' is not valid; it cannot be written to"),
        (["--out", __file__], "it cannot be written to (file exists), give another folder"),
    ],
)
def test_what_all_scripts_take_is_checked_first(
    main: Main, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(main, given, said, capsys)


def assert_refused(main: Main, given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line of stderr says it, and nothing else happens."""
    with pytest.raises(SystemExit) as ended:
        main(given)
    found = capsys.readouterr()
    assert ended.value.code == 2 and found.out == ""
    assert said in found.err.splitlines()[-1] and "Traceback" not in found.err


def test_a_trace_that_is_not_there_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--quick", "--out", str(tmp_path)]
    assert_refused(length_cdf.main, [*out, "--trace", "/none.csv"], "--trace: '/none.csv' is not valid", capsys)
    (tmp_path / "no.csv").write_text("a trace?\n")
    assert_refused(length_cdf.main, [*out, "--trace", str(tmp_path / "no.csv")], "no.csv line 1", capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["no.csv"]


@pytest.mark.parametrize("main", [placements.SCRIPT.main, scaling.SCRIPT.main])
def test_a_folder_of_traces_that_is_not_there_or_empty(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--quick", "--out", str(tmp_path)]
    assert_refused(main, [*out, "--traces", "/none"], "--traces: '/none' is not valid; there is no such folder", capsys)
    assert_refused(main, [*out, "--traces", str(tmp_path)], "azure2023_conv.csv.gz", capsys)


def test_a_folder_for_results_is_made(tmp_path: Path) -> None:
    length_cdf.main(["--quick", "--out", str(tmp_path / "new" / "one")])
    assert sorted(path.name for path in (tmp_path / "new" / "one").iterdir()) == ["length_cdf.csv", "length_cdf.png"]
