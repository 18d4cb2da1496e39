"""Reading logs: names of columns, one run of several, and what is refused with which words."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aladdin_calibration.request_log import EngineLimits, RequestLog, read_request_log
from aladdin_traces.errors import InputError

ROWS = {
    "arrival_s": [10.0, 12.0, 11.0],
    "first_token_s": [10.5, 12.5, 11.5],
    "last_token_s": [11.5, 13.5, 12.5],
    "prompt_tokens": [100, 200, 300],
    "output_tokens": [51, 51, 1],
}


def written(path: Path, **changes: object) -> Path:
    frame = pd.DataFrame({**ROWS, **changes})
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_requests_come_in_the_order_of_arrival_on_a_clock_of_their_own(tmp_path: Path, name: str) -> None:
    log = read_request_log(written(tmp_path / name))
    assert log.trace.arrival_s.tolist() == [0.0, 1.0, 2.0]
    assert log.trace.prompt_tokens.tolist() == [100, 300, 200]
    assert log.ttft_s == pytest.approx([0.5] * 3) and log.latency_s == pytest.approx([1.5] * 3)
    assert log.tpot_s == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)


def test_other_names_of_the_columns(tmp_path: Path) -> None:
    names = {"first_token_s": "first_token_time_s", "last_token_s": "finish_s", "prompt_tokens": "input_toks"}
    path = tmp_path / "log.csv"
    pd.DataFrame(ROWS).rename(columns=names).assign(queued_s=1.0).to_csv(path, index=False)
    assert len(read_request_log(path)) == 3


def test_one_run_of_several(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", model=["a", "b", "a"], max_num_seqs=[128, 256, 128])
    assert len(read_request_log(path, {"model": "a"})) == 2
    assert len(read_request_log(path, {"max_num_seqs": "256"})) == 1
    with pytest.raises(InputError, match=r"several runs: choose one with --where model=\.\.\."):
        read_request_log(path)
    with pytest.raises(InputError, match="where modl: 'a' is not valid; no such column; did you mean 'model'"):
        read_request_log(path, {"modl": "a"})
    with pytest.raises(InputError, match="where model: 'c' is not valid"):
        read_request_log(path, {"model": "c"})
    with pytest.raises(InputError, match="no row has all these values"):
        read_request_log(path, {"model": "a", "max_num_seqs": "256"})


def test_what_the_file_says_of_its_run_is_kept(tmp_path: Path) -> None:
    columns = {"model": ["a", "b", "a"], "hardware": "X", "max_num_seqs": 128, "gpu": None}
    log = read_request_log(written(tmp_path / "log.csv", **columns), {"model": "a"})
    assert log.told == {"model": "a", "hardware": "X", "max_num_seqs": "128"}
    assert read_request_log(written(tmp_path / "bare.csv")).told == {}


def test_how_many_decode_at_once() -> None:
    first, last = [0.5, 0.6, 1.5, 9.0], [1.5, 2.6, 3.5, 9.5]  # the third takes the place of the first
    log = RequestLog.from_arrays([0.0, 0.1, 0.2, 8.0], first, last, [5] * 4, [11, 21, 21, 6])
    assert log.decoding_at_once == 2


def test_who_hardly_queued() -> None:
    log = RequestLog.from_arrays([0.0, 0.0, 0.0], [1.0, 4.9, 5.1], [2.0, 5.9, 6.1], [5] * 3, [11, 11, 11])
    assert log.soon_s == pytest.approx(5.0) and log.hardly_queued.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_token_s": [9.9, 12.5, 11.5]}, "line 2, column first_token_s: .* before the request's arrival"),
        ({"last_token_s": [11.5, 12.4, 12.5]}, "line 3, column last_token_s: .* before the request's first token"),
        ({"first_token_s": [10.5, "", 11.5]}, "line 3, column first_token_s"),
        ({"output_tokens": [51, 0, 1]}, "column output_tokens: '0' is not valid"),
        (
            {"arrival_s": [1e4, 1.2e4, 1.1e4], "first_token_s": [1.1e4] * 3, "last_token_s": [2.2e4] * 3},
            "first_token_s",
        ),
        ({name: [1e3 * v for v in ROWS[name]] for name in list(ROWS)[:3]}, "seconds .these look like milliseconds"),
        ({name: [1e-3 * v for v in ROWS[name]] for name in list(ROWS)[:3]}, "give all times in seconds"),
        ({"output_tokens": [1, 1, 1]}, "more than one token"),
    ],
)
def test_what_cannot_be(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_request_log(written(tmp_path / "log.csv", **changes))
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named_with_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    pd.DataFrame(ROWS).drop(columns="last_token_s").to_csv(path, index=False)
    with pytest.raises(InputError, match="add the missing last_token_s or finish_s"):
        read_request_log(path)


def test_arrays_are_checked_too() -> None:
    with pytest.raises(InputError, match=r"first_token_s\[1\]: nan .* not served"):
        RequestLog.from_arrays([0.0, 1.0], [0.1, np.nan], [1.0, 2.0], [5, 5], [9, 9])
    with pytest.raises(InputError, match="last_token_s: '1 elements'"):
        RequestLog.from_arrays([0.0, 1.0], [0.1, 1.1], [1.0], [5, 5], [9, 9])


def test_limits_that_no_server_has() -> None:
    with pytest.raises(InputError, match="max_num_batched_tokens"):
        EngineLimits(256, 128)
    with pytest.raises(InputError, match="kv_capacity_tokens"):
        EngineLimits(8, 128, kv_capacity_tokens=4)
    with pytest.raises(InputError, match="scheduler"):
        EngineLimits(8, 128, scheduler="split")
