"""Files of results: what is written reads back equal, what a crash leaves is mended, what is wrong is named."""

import csv

import pytest

from aladdin_agents.benchmark.entrants import Entrant
from aladdin_agents.benchmark.results import Ledger, read_files, read_rows
from aladdin_agents.benchmark.rows import COLUMNS, differing
from aladdin_agents.benchmark.scenarios import case_of
from aladdin_env.compare import Contender
from aladdin_env.errors import InputError


@pytest.fixture
def rows(make_row):
    values = {"requests": 7.0, "ttft_p99_s": 1e-17}
    return [make_row("least_request+kpa", seed, cost=1 / 3 + seed, **values) for seed in (20_000, 20_001)]


def written(path, rows):
    ledger = Ledger(path)
    for row in rows:
        ledger.add(row)
    return path


def test_rows_read_back_equal(tmp_path, rows, same):
    found = read_rows(written(tmp_path / "r.csv", rows))
    assert all(map(same, found, rows))
    assert list(found[0].__dict__) == list(COLUMNS)


def test_the_file_is_plain_csv(tmp_path, rows):
    with written(tmp_path / "r.csv", rows).open(newline="") as file:
        (first, _) = csv.DictReader(file)
    assert first["cost"] == repr(1 / 3 + 20_000) and first["goodput_rps"] == "" and first["benchmark"] == "v1"


def test_a_ledger_goes_on(tmp_path, rows):
    path = written(tmp_path / "r.csv", rows[:1])
    ledger = Ledger(path)
    assert list(ledger.rows) == [rows[0].key]
    ledger.add(rows[1])
    assert len(read_rows(path)) == 2


def test_a_line_cut_short_is_removed(tmp_path, rows):
    path = written(tmp_path / "r.csv", rows)
    whole = path.read_text()
    path.write_text(whole[:-30])
    ledger = Ledger(path)
    assert list(ledger.rows) == [rows[0].key]
    ledger.add(rows[1])
    assert path.read_text() == whole


def changed(path, find, put):
    text = path.read_text()
    assert find in text
    path.write_text(text.replace(find, put, 1))
    return path


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        ("gpu_hours,", "hours,", "missing columns: gpu_hours"),
        ("\nv1,", "\nv0,", "line 2: benchmark.*'v0'.*v1"),
        (",steady,", ",steddy,", "line 2: scenario.*did you mean 'steady'"),
        (",validate,", ",validation,", "line 2: split.*validate"),
        (",20000,", ",-1,", "line 2: seed"),
        (",7.0,", ",seven,", "line 2: requests.*finite"),
        (",7.0,", ",inf,", "line 2: requests.*finite"),
        (",20001,", ",20000,", "line 3.*second row"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, rows, find, put, message):
    path = changed(written(tmp_path / "r.csv", rows), find, put)
    with pytest.raises(InputError, match=message):
        read_rows(path)


def test_columns_may_come_in_any_order_with_others(tmp_path, rows, same):
    path = written(tmp_path / "r.csv", rows)
    with path.open(newline="") as file:
        table = [{"note": "mine", **dict(reversed(line.items()))} for line in csv.DictReader(file)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    assert all(map(same, read_rows(path), rows))


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"])
def test_no_results_at_all(tmp_path, content):
    path = tmp_path / "r.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError):
        read_rows(path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="--out"):
        Ledger(tmp_path / "nowhere" / "r.csv")


def test_a_ledger_rewrites_a_file_whose_columns_are_in_another_order(tmp_path, rows, make_row):
    path = written(tmp_path / "rows.csv", rows[:1])
    table = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("".join(",".join(reversed(line)) + "\n" for line in table))
    Ledger(path).add(rows[1])
    assert [row.key for row in read_rows(path)] == [row.key for row in rows[:2]]


def test_a_field_that_no_file_has_is_told(tmp_path, rows):
    path = written(tmp_path / "rows.csv", rows[:1])
    path.write_text(path.read_text() + "x" * 200_000 + "\n")
    with pytest.raises(InputError, match="give a readable CSV file"):
        read_rows(path)


def test_files_together(tmp_path, rows, make_row):
    one, two = written(tmp_path / "a.csv", rows), written(tmp_path / "b.csv", rows[1:])
    assert len(read_files([one, two])) == 2
    other = written(tmp_path / "c.csv", [make_row("least_request+kpa", 20_001, cost=9.0)])
    with pytest.raises(InputError, match="other results"):
        read_files([one, other])


def test_results_of_two_files_of_one_name_are_not_mixed(tmp_path, make_row):
    path = written(tmp_path / "r.csv", [make_row("mine.npz", policy_sha256="aa")])
    case = case_of("validate", "joint", "steady")
    Ledger(path).check_same_files([(case, Entrant(Contender("mine.npz", "mine.npz"), "aa", ""))])
    with pytest.raises(InputError, match="another --out"):
        Ledger(path).check_same_files([(case, Entrant(Contender("mine.npz", "mine.npz"), "bb", ""))])
    other = written(tmp_path / "s.csv", [make_row("mine.npz", 20_001, policy_sha256="bb")])
    with pytest.raises(InputError, match="name of its own"):
        read_files([path, other])


def test_differing_measures(make_row):
    one, other = make_row("a+b", cost=1.0), make_row("a+b", cost=1.0 + 1e-12, goodput_rps=2.0)
    assert differing(one, other) == ("cost", "goodput_rps")
    assert differing(one, other, 1e-9) == ("goodput_rps",)
    assert differing(one, one) == ()
