"""What a run keeps of its validations: the best checkpoint, a table, TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import save
from aladdin_agents.learned.train.callbacks import record_pictures
from aladdin_agents.learned.train.config import Config
from aladdin_agents.learned.train.pictures import moments
from aladdin_agents.learned.train.validation import Progress, Validator, Verdict, trials_of
from aladdin_traces.files import whole_file

BEST, LAST, HISTORY = "best.npz", "last.npz", "history.csv"
#: Scalars that the tab HPARAMS shows beside the hyper-parameters.
METRICS = ("validation/best", "validation/score", "validation/attainment", "serving/slo_attainment")

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Outcome:
    """Where the best checkpoint of a run is, and how it did.

    Attributes:
        best: The checkpoint; not there where nothing was validated.
        steps: Decisions learned from, or episodes of a search.
        score: Of the best, see :mod:`aladdin_agents.learned.train.validation`.
        attainment: Of the best.
        cost_ratio: Of the best, over the expert's.
        expert: The expert's score.
        agreement: With the expert after the warm start; None without one.
    """

    best: Path
    steps: int
    score: float
    attainment: float
    cost_ratio: float
    expert: float
    agreement: float | None


class Keeper:
    """Judges what a run has learned, and keeps the best.

    Args:
        config: The run.
        out: Its folder.
        card: Makes a card with these results.

    Attributes:
        history: A row for each validation.
    """

    def __init__(self, config: Config, out: Path, card: Callable[[dict[str, float]], Card]) -> None:
        self._config = config
        self._out = out
        self._card = card
        self._trials = trials_of(config)
        self.validator = Validator(config, self._trials)
        self.history: list[dict[str, float]] = []

    @property
    def best(self) -> dict[str, float] | None:
        """The best validation so far."""
        return max(self.history, key=lambda row: row["score"], default=None)

    @property
    def is_stuck(self) -> bool:
        """Whether too many validations have brought nothing better."""
        patience, best = self._config.validation.patience, self.best
        return bool(patience and best and len(self.history) - 1 - self.history.index(best) >= patience)

    def judge(
        self, weights: Weights, steps: int, more: Mapping[str, float], logger: Logger, progress: Progress
    ) -> Verdict:
        """Judge these weights after ``steps``; ``more`` are further columns of the table."""
        last = self._out / LAST
        save(last, weights, self._card({}))
        verdict = self.validator.judge(last, progress)
        before = self.best
        self.history.append({"steps": float(steps), **_numbers(verdict), **more})
        if before is None or verdict.score >= before["score"]:  # of equals the one that has seen more
            save(self._out / BEST, weights, self._card(self._results(verdict)))
        self._record(verdict, steps, logger)
        self._write_history()
        return verdict

    def told(self) -> str:
        """The last validation beside the best, in a few words."""
        best = self.best
        return f"validation {self.history[-1]['score']:.4f}, best {best['score']:.4f}" if best else ""

    def judged(self, verdict: Verdict) -> str:
        """A validation, in a line."""
        told = f"validation {verdict.score:.4f} (the expert {self.validator.judge_expert().score:.4f})"
        told += f", {verdict.attainment:.2%} within their objectives"
        return f"{told}, cost {verdict.cost_ratio:.3f} of the expert's" if self._config.scales else told

    def outcome(self, steps: int, agreement: float | None = None) -> Outcome:
        """What has been reached."""
        best = self.best
        assert best is not None
        expert = self.validator.judge_expert().score
        return Outcome(
            self._out / BEST, steps, best["score"], best["attainment"], best["cost_ratio"], expert, agreement
        )

    def _results(self, verdict: Verdict) -> dict[str, float]:
        expert = self.validator.judge_expert()
        found = {f"validation_{name}": value for name, value in _numbers(verdict).items()}
        return found | {f"expert_{name}": value for name, value in _numbers(expert).items()}

    def _record(self, verdict: Verdict, steps: int, logger: Logger) -> None:
        best = self.best
        for name, value in _numbers(verdict).items():
            logger.record(f"validation/{name}", value)
        for name, case in verdict.cases.items():
            logger.record(f"attainment/{name}", case["slo_attainment"])
        logger.record("validation/best", best["score"] if best else verdict.score)
        logger.record("validation/expert", self.validator.judge_expert().score)
        count = self._config.validation.pictures
        if count:
            record_pictures(logger, moments(self._config, self._out / LAST, self._trials[0], count))
        logger.dump(steps)

    def _write_history(self) -> None:
        with whole_file(self._out / HISTORY) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.history)


def _numbers(verdict: Verdict) -> dict[str, float]:
    return {"score": verdict.score, "attainment": verdict.attainment, "cost_ratio": verdict.cost_ratio}
