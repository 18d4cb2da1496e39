"""docs/conformance.md shows the results that are in the file, and the file knows the cases that there are."""

from aladdin_env.bridge.conformance import CASES, PRESETS
from experiments.bridge.conformance import DOCUMENT, SCRIPT, read, table
from experiments.bridge.document import with_results


def test_the_document_shows_the_results() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_results(text, SCRIPT, table(read())) == text


def test_the_results_are_of_these_cases() -> None:
    for name, result in read().items():
        assert list(result["verdicts"]) == [case.name for case in CASES], name
        assert set(result["reasons"]) == {case for case, verdict in result["verdicts"].items() if verdict != "pass"}


def test_a_router_that_was_not_run_has_an_empty_column() -> None:
    lines = table({}).splitlines()
    assert lines[0] == f"| case | {' | '.join(f'{name} (not run)' for name in PRESETS)} |"
    assert len(lines) == 2 + len(CASES) and lines[2].endswith("|  |  |  |")
