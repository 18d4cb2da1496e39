"""The search for the fewest workers: on functions that are known, and on a toy whose answer is counted by hand."""

import pytest

from aladdin_env import InputError
from aladdin_env.compare import Contender, Ladder, compare_fewest, contenders
from aladdin_env.compare.search import Question, fewest_workers
from aladdin_env.compare.work import Run
from aladdin_env.presets import load_scenario


class Known:
    """A lab in which the attainment is a function of the number of workers (and of the seed)."""

    def __init__(self, attainment):
        self.attainment = attainment
        self.asked = []

    def run(self, contender, seed, counts, *, keep_fleet=False):
        self.asked.append((sum(counts), seed))
        return Run({"slo_attainment": self.attainment(sum(counts), seed)})


def search(attainment, *, start=4, most=64, target=0.99, seeds=(0,)):
    lab = Known(attainment)
    question = Question(Contender("known", "known"), seeds, target, Ladder((1,), most), start)
    return fewest_workers(lab, question, lambda done: None), lab


@pytest.mark.parametrize("least", range(1, 65))
@pytest.mark.parametrize("start", [1, 4, 64])
def test_finds_the_step_wherever_it_is(least, start):
    found, lab = search(lambda n, seed: float(n >= least), start=start)
    assert found.workers == least
    assert found.counts == (least,)
    assert found.is_monotone
    assert len({n for n, _ in lab.asked}) <= 16
    assert max(n for n, _ in lab.asked) <= 64


def test_says_when_no_fleet_holds_and_shows_the_nearest():
    found, _ = search(lambda n, seed: n / 100)
    assert found.workers is None
    assert found.counts == (64,)
    assert found.tried[64] == pytest.approx(0.64)


def test_tells_when_the_next_larger_fleet_misses_again():
    found, _ = search(lambda n, seed: float(n == 5 or n > 6))
    assert found.workers == 5
    assert not found.is_monotone


def test_the_mean_over_the_seeds_counts():
    found, _ = search(lambda n, seed: 1.0 if n >= 6 - seed else 0.9, target=0.95, seeds=(0, 1))
    assert found.workers == 5  # seed 1 holds with 5, seed 0 has 0.9: the mean is 0.95
    assert len(found.runs) == 2


def test_a_seed_that_rules_the_target_out_spares_the_others():
    _, lab = search(lambda n, seed: float(n >= 8), seeds=tuple(range(10)), start=7)
    assert [seed for n, seed in lab.asked if n == 7] == [0]


def test_fleets_grow_in_proportion_and_never_lose_a_worker():
    ladder = Ladder((4, 2), 60)
    before = (0, 0)
    for workers in range(1, 61):
        counts = ladder.counts(workers)
        assert sum(counts) == workers
        assert all(now >= then for now, then in zip(counts, before, strict=True))
        assert abs(counts[0] - workers * 2 / 3) <= 1
        before = counts


def test_split_fleets_have_one_of_each_role():
    ladder = Ladder.of(load_scenario("split-phase"))
    assert ladder.least == 2
    assert ladder.counts(2) == (1, 1)
    with pytest.raises(InputError, match="one of each role"):
        Ladder.of(load_scenario("split-phase"), most=1)


@pytest.mark.parametrize(("target", "workers"), [(0.25, 2), (0.5, 3), (0.75, 5), (1.0, 6)])
def test_a_burst_that_is_counted_by_hand(burst, target, workers):
    # Six requests at once; a worker runs one at a time, and only the first of each worker has its token in time.
    found = compare_fewest(burst, contenders(burst.with_workers((1,)), ["toy_spread"]), [0], target=target, jobs=1)
    (row,) = found.rows
    assert row.workers == workers == row.gpus
    assert row["slo_attainment"].mean == pytest.approx(workers / 6)
