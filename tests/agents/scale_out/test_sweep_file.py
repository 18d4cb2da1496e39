"""The file of a sweep: which trials it makes, and what it refuses."""

import numpy as np
import pytest

from aladdin_agents.learned.train.config import flat
from aladdin_agents.scale_out.halving import Stopping
from aladdin_agents.scale_out.sweep_file import Range, read_sweep
from aladdin_env.errors import InputError
from tests.agents.scale_out.toys import a_run


@pytest.fixture
def sweep(tmp_path):
    a_run(tmp_path)

    def read(text):
        (tmp_path / "sweep.toml").write_text(f'config = "run.toml"\n{text}', encoding="utf-8")
        return read_sweep(tmp_path / "sweep.toml")

    return read


def test_lists_make_all_combinations_under_each_seed(sweep):
    found = sweep('seeds = [7, 8]\n[parameters]\n"learner.epochs" = [1, 2]\nnetwork.kind = ["mlp", "equivariant"]')
    assert [trial.name for trial in found.trials] == [f"{i}-seed{seed}" for i in range(4) for seed in (7, 8)]
    assert [tuple(trial.changes.values()) for trial in found.trials[::2]] == [
        (1, "mlp"), (1, "equivariant"), (2, "mlp"), (2, "equivariant"),
    ]  # fmt: skip
    last = found.trials[-1]
    assert (last.config.seed, last.config.learner.epochs, last.config.network.kind) == (8, 2, "equivariant")
    assert last.seed == 8 and found.stopping is None


def test_without_parameters_there_is_a_trial_for_each_seed(sweep):
    assert [trial.name for trial in sweep("seeds = [1, 5]").trials] == ["0-seed1", "0-seed5"]
    (trial,) = sweep("").trials
    assert trial.seed == trial.config.seed == 0


RANGES = """
samples = 40
[parameters]
"learner.learning_rate" = {low = 1e-5, high = 1e-2, log = true}
"learner.epochs" = {low = 1, high = 3}
"learner.clip" = {low = 0.1, high = 0.3}
"network.hidden" = {low = 4, high = 64, log = true}
"network.kind" = ["mlp", "equivariant"]
"""


def test_ranges_are_drawn_from_the_same_way_each_time(sweep):
    found = sweep(RANGES)
    assert found.trials == sweep(RANGES).trials
    assert sweep("draw_seed = 1" + RANGES).trials[0].changes != found.trials[0].changes
    drawn = {name: [trial.changes[name] for trial in found.trials] for name in found.parameters}
    assert set(drawn["learner.epochs"]) == {1, 2, 3} and set(drawn["network.kind"]) == {"mlp", "equivariant"}
    assert all(0.1 <= clip <= 0.3 for clip in drawn["learner.clip"])
    rates = drawn["learner.learning_rate"]
    assert 1e-5 <= min(rates) < 1e-4 and 1e-3 < max(rates) <= 1e-2  # each factor is as likely
    assert all(isinstance(width, int) and 4 <= width <= 64 for width in drawn["network.hidden"])
    assert sweep(RANGES.replace("40", "41")).trials[:40] == found.trials  # the first ones stay the same


def test_all_values_of_a_range_stay_in_it():
    rng = np.random.default_rng(0)
    for whole in (False, True):
        drawn = [Range(1, 2, log=True, whole=whole).draw(rng) for _ in range(200)]
        assert min(drawn) >= 1 and max(drawn) <= 2


def test_some_of_a_grid_are_all_different(sweep):
    text = '[parameters]\n"learner.epochs" = [1, 2, 3, 4]\n"learner.n_steps" = [32, 64]'
    found = [tuple(trial.changes.values()) for trial in sweep("samples = 6\n" + text).trials]
    assert len(set(found)) == 6
    assert len(sweep("samples = 99\n" + text).trials) == 8


def test_what_is_not_varied_stays(sweep):
    (trial,) = sweep('[parameters]\n"learner.epochs" = [3]').trials
    before = flat(sweep("").trials[0].config)
    assert flat(trial.config) == before | {"learner.epochs": 3}


def test_files_are_found_from_the_folder_of_the_sweep(sweep, tmp_path):
    (trial,) = sweep('[parameters]\n"network.start" = ["best.npz"]').trials
    assert trial.config.network.start == (tmp_path / "best.npz").as_posix()


def test_stopping(sweep):
    assert sweep("[stopping]\ngrace = 500").stopping == Stopping(500, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = [1]", "seed: .* no such field here; did you mean 'seeds'"),
        ("seeds = 3", "seeds: 3 is not valid; give a list"),
        ("seeds = [1, 1]", "seeds: .* each seed once"),
        ("seeds = [-1]", r"seeds\[0\]: -1"),
        ("samples = 0", "samples: 0 is not valid; give a whole number"),
        ("draw_seed = true", "draw_seed: True"),
        ("parameters = 3", "parameters: 3 is not valid; give a table"),
        ('[parameters]\n"learner.learning_rat" = [1]', "parameters.learner.learning_rat: .*'learner.learning_rate'"),
        ('[parameters]\n"learner.epochs" = 3', "parameters.learner.epochs: 3 is not valid; give a list of values, or"),
        ('[parameters]\n"learner.epochs" = []', "give a list of values"),
        ('[parameters]\n"learner.epochs" = [1, 0]', "parameters.learner.epochs: 0 is .*from 1 to 100 .*epochs = 0"),
        ('[parameters]\n"learner.batch_size" = [512]', "parameters.learner.batch_size: 512 .*at most environment.envs"),
        ("[parameters]\nseed = [1]", r"parameters.seed: .* give seeds = \[\.\.\.\]"),
        ('[parameters]\ntask = ["joint"]', "parameters.task: .* a sweep of its own"),
        ('[parameters]\n"learner.clip" = {low = 0.1, high = 0.2}', "samples: None .* how many combinations"),
        ('[parameters]\n"learner.clip" = {low = 0.1, hihg = 0.2}', "clip.hihg: 0.2 is not valid; did you mean 'high'"),
        ('[parameters]\n"learner.clip" = {low = 0.1}', "learner.clip.high: None"),
        ('[parameters]\n"learner.clip" = {low = 0.2, high = 0.1}', r"clip.low: 0.2 .* below high \(0.1\)"),
        ('[parameters]\n"learner.clip" = {low = 0, high = 0.1, log = true}', "clip.low: 0.* above 0 and below"),
        ('[parameters]\n"learner.clip" = {low = 0, high = 0.1, log = 1}', "clip.log: 1 is not valid; give true or"),
        ('[parameters]\n"learner.epochs" = {low = 1.5, high = 3}', "learner.epochs: .* whole ones for low and high"),
        ('[parameters]\n"network.kind" = {low = 1, high = 3}', "network.kind: .* no number: give a list"),
        ('[parameters]\n"environment.allow_hold" = {low = 0, high = 1}', "allow_hold: .* no number: give a list"),
        ("[stopping]\nreduction = 3", "stopping.grace: None"),
        ("[stopping]\ngrace = 10\nreduction = 1", "stopping.reduction: 1"),
        ("[stopping]\ngrade = 10", "stopping.grade: 10 is not valid; did you mean 'grace'"),
        ("stopping = 3", "stopping: 3 is not valid; give a table"),
        ("seeds = [", "sweep: .* mend its TOML"),
    ],
)
def test_mistakes(sweep, text, message):
    with pytest.raises(InputError, match=message):
        sweep(text)


def test_mistakes_about_files(tmp_path):
    with pytest.raises(InputError, match=r"sweep: .*nothing.toml.* readable TOML file"):
        read_sweep(tmp_path / "nothing.toml")
    file = tmp_path / "sweep.toml"
    file.write_text("seeds = [1]", encoding="utf-8")
    with pytest.raises(InputError, match="config: None is not valid; give the TOML file of a training run"):
        read_sweep(file)
    file.write_text('config = "nothing.toml"', encoding="utf-8")
    with pytest.raises(InputError, match=r"training configuration: .*nothing.toml"):
        read_sweep(file)
    a_run(tmp_path)
    file.write_text(f'config = "run.toml"\nseeds = {list(range(10_001))}', encoding="utf-8")
    with pytest.raises(InputError, match="more than 10,000 trials"):
        read_sweep(file)
    lists = "\n".join(f'"{name}" = {list(range(1, 60))}' for name in ("learner.epochs", "network.hidden", "steps"))
    file.write_text(f'config = "run.toml"\n[parameters]\n{lists}', encoding="utf-8")
    with pytest.raises(InputError, match=r"samples: None .* the lists make 205,379"):
        read_sweep(file)
