"""A user's mistake: one clear line on stderr, exit code 2, no traceback, nothing written."""

import gzip

import pytest

HEAD = "arrival_s,prompt_tokens,output_tokens\n"


@pytest.fixture
def mistake(cli, tmp_path):
    """Run a command that must fail; gives its line on stderr, after seeing that it is one and that no file is left."""

    def run(*arguments):
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        answer = cli(*arguments)
        after = {path for path in tmp_path.rglob("*") if path.is_file()}
        assert answer.exit_code == 2, (answer.exit_code, answer.output, answer.exception)
        said = [line for line in answer.stderr.splitlines() if line.startswith("aladdin:")]
        assert len(said) == 1, answer.stderr
        assert answer.stderr.rstrip().endswith(said[0])
        assert "Traceback" not in answer.output
        assert answer.stdout == ""
        assert after == before
        return said[0]

    return run


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("arrival_s,prompt_tokens\n0,10\n", ["output_tokens"]),
        ("TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,10\n", ["GeneratedTokens"]),
        (HEAD + "0,10,10\n1,5.5,10\n", ["5.5", "line 3"]),
        (HEAD + "0,10,10\n1,10,nan\n", ["nan", "line 3"]),
        (HEAD + "0,10,10\n-3,10,10\n", ["-3", "line 3"]),
        (HEAD + "5,10,10\n1,10,10\n", ["line 3", "arrival_s"]),
        (HEAD, ["trace.csv"]),
        ("", ["the file is empty"]),
    ],
    ids=["column", "azure column", "fraction", "nan", "negative time", "unsorted", "no rows", "empty"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_bad_trace(mistake, scenario_file, tmp_path, text, parts, zipped):
    path = tmp_path / ("trace.csv.gz" if zipped else "trace.csv")
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    out = tmp_path / "rows.csv"
    line = mistake("compare", "--scenario", scenario_file, "--trace", path, "--policies", "toy_spread", "--out", out)
    assert all(part in line for part in parts), line


def test_no_such_trace(mistake, scenario_file):
    assert "nowhere.csv" in mistake("compare", "--scenario", scenario_file, "--trace", "nowhere.csv")


def test_a_prompt_longer_than_any_kv(mistake, scenario_file, tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(HEAD + "0,10,10\n1,9000000,10\n")
    line = mistake("simulate", scenario_file, "--trace", path, "--policy", "toy_spread", "--out", tmp_path / "r.csv")
    assert "prompt_tokens of request 1" in line
    assert "9000000" in line
    assert "tokens of KV" in line


def test_an_unknown_key_in_a_scenario(mistake, scenario_file):
    scenario_file.write_text(scenario_file.read_text().replace("heartbeat_s", "hartbeat_s"))
    line = mistake("compare", "--scenario", scenario_file)
    assert "hartbeat_s" in line
    assert "did you mean 'heartbeat_s'?" in line


def test_a_broken_scenario_file(mistake, tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("name = [")
    assert "TOML" in mistake("compare", "--scenario", path)


@pytest.mark.parametrize("command", [("compare", "--scenario"), ("simulate",), ("plan", "--scenario")])
def test_an_unknown_scenario(mistake, command):
    assert "did you mean 'azure-conv'?" in mistake(*command, "azure-con")


@pytest.mark.parametrize("command", ["compare", "plan", "simulate"])
def test_an_unknown_profile(mistake, command):
    assert "did you mean 'llama-3.1-8b-h100-tp1'?" in mistake(command, "--profile", "llama-3.1-8b-h100-tp11")


@pytest.mark.parametrize(
    ("options", "name", "least"),
    [(["--ttft", 0.01], "slo.ttft_s", "at least 0.0"), (["--atgt", 0.001], "slo.atgt_s", "at least 0.0")],
)
@pytest.mark.parametrize("command", ["compare", "simulate", "plan"])
def test_an_infeasible_slo(mistake, scenario_file, command, options, name, least):
    first = [command, scenario_file] if command == "simulate" else [command, "--scenario", scenario_file]
    line = mistake(*first, *options)
    assert name in line
    assert "infeasible" in line
    assert least in line


def test_the_least_slo_that_is_named_is_accepted(mistake, cli, scenario_file):
    line = mistake("simulate", scenario_file, "--policy", "toy_spread", "--ttft", 0.01)
    answer = cli("simulate", scenario_file, "--policy", "toy_spread", "--ttft", line.split()[-1])
    assert answer.exit_code == 0, answer.stderr


def test_a_typo_in_policies(mistake, scenario_file, tmp_path):
    common = ("compare", "--scenario", scenario_file, "--out", tmp_path / "rows.csv", "--policies")
    assert "did you mean 'toy_spread'?" in mistake(*common, "toy_spraed")
    assert "did you mean 'toy_rate'?" in mistake(*common, "toy_spread+toy_rat")
    assert "name at least one" in mistake(*common, " , ")


def test_a_scaler_on_a_fixed_fleet(mistake, scenario_file):
    line = mistake("compare", "--scenario", scenario_file, "--workers", 2, "--policies", "toy_spread+toy_rate")
    assert "the fleet is fixed" in line


def test_a_policy_that_names_a_worker_that_does_not_exist(mistake, scenario_file, tmp_path):
    for jobs in (1, 2):
        line = mistake("compare", "--scenario", scenario_file, "--policies", "toy_spread,toy_silly", "--jobs", jobs,
                       "--plot", tmp_path / "p.png")  # fmt: skip
        assert "toy_silly" in line
        assert "999" in line


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--workers", "0"], "workers"),
        (["--workers", "two"], "'two'"),
        (["--workers", "h10=2"], "did you mean 'h100'?"),
        (["--workers", "-1"], "-1"),
        (["--workers", "9000"], "8192"),
        (["--rate", "-1"], "-1"),
        (["--rate", "nan"], "nan"),
        (["--rate", "abc"], "--rate"),
        (["--rate-scale", "0"], "0"),
        (["--rate", "1", "--rate-scale", "2"], "not both"),
        (["--horizon", "0"], "horizon"),
        (["--seeds", "0"], "--seeds"),
        (["--seed", "-1"], "--seed"),
        (["--jobs", "0"], "--jobs"),
        (["--min-gpus", "1.5"], "--min-gpus"),
        (["--target", "99"], "--target"),
        (["--max-workers", "0"], "--max-workers"),
        (["--price", "-2"], "price"),
        (["--plot", "picture.gif"], ".png"),
        (["--plot", "nowhere/picture.png"], "folder"),
        (["--out", "rows.xls"], ".csv"),
        (["--polices", "a"], "--policies"),
    ],
)
def test_bad_options_of_compare(mistake, scenario_file, options, part):
    line = mistake("compare", "--scenario", scenario_file, *options)
    assert part in line, line


def test_a_number_of_workers_for_a_fleet_of_several_types(mistake):
    assert "--workers a100=2 --workers h100=2" in mistake("compare", "--scenario", "mixed-fleet", "--workers", 3)


def test_slo_options_for_a_scenario_with_classes(mistake):
    assert "interactive" in mistake("compare", "--scenario", "two-classes", "--ttft", 1)


def test_simulate_writes_a_single_simulation(mistake, scenario_file, tmp_path):
    assert "one seed" in mistake("simulate", scenario_file, "--seeds", 2, "--out", tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--by", "gpu"], "did you mean 'gpus'?"),
        (["--lengths", "sharegp"], "did you mean 'sharegpt'?"),
        (["--target", "0"], "target"),
        (["--max-workers", "0"], "--max-workers"),
        (["--profile", ","], "--profile"),
        (["--scenario", "split-phase"], "mixed workers"),
    ],
)
def test_bad_options_of_plan(mistake, options, part):
    assert part in mistake("plan", *options)


def test_lengths_for_a_trace(mistake, trace_file):
    assert "those of the trace" in mistake("plan", "--trace", trace_file, "--lengths", "sharegpt")


def test_an_unknown_benchmark(mistake):
    assert "did you mean 'sim_rps_16'?" in mistake("bench", "--only", "sim_rps_61")


def test_an_unknown_command(mistake):
    assert "compare" in mistake("compair")


def test_a_folder_that_cannot_be_written_to(mistake, scenario_file, tmp_path, monkeypatch):
    from aladdin_env.cli import output

    monkeypatch.setattr(output.os, "access", lambda path, mode: False)  # tests may run as root, who may write anywhere
    assert "cannot be written to" in mistake("compare", "--scenario", scenario_file, "--out", tmp_path / "rows.csv")
