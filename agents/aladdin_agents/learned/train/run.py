"""A training run: warm start, PPO, prices and load, validation, checkpoints; begun or resumed."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import load, save
from aladdin_agents.learned.networks import load_weights, sharpen
from aladdin_agents.learned.train.average import Average
from aladdin_agents.learned.train.callbacks import Collector, make_logger, record_pictures, record_settings
from aladdin_agents.learned.train.cards import make_card
from aladdin_agents.learned.train.config import Config, difference, flat, read_config, write_config
from aladdin_agents.learned.train.curriculum import Load
from aladdin_agents.learned.train.display import Display, Interruption, display
from aladdin_agents.learned.train.imitation import Imitator
from aladdin_agents.learned.train.lagrangian import Prices
from aladdin_agents.learned.train.learner import learn_once, make_learner, rate_at
from aladdin_agents.learned.train.lock import locked
from aladdin_agents.learned.train.pictures import moments
from aladdin_agents.learned.train.sources import make_pool, sources_of
from aladdin_agents.learned.train.state import read_checkpoint, write_checkpoint
from aladdin_agents.learned.train.validation import Validator, Verdict, trials_of
from aladdin_env.errors import InputError
from aladdin_traces.files import whole_file

CHECKPOINT, BEST, LAST, CONFIG, HISTORY = "checkpoint.zip", "best.npz", "last.npz", "config.toml", "history.csv"
# What may differ when a run is resumed: how long it goes on, not what it is.
_FREE = ("steps", "checkpoint_every", "validation.patience", "validation.pictures")
_METRICS = ("validation/best", "validation/score", "validation/attainment", "serving/slo_attainment")
# Phases that draw episodes of their own.
_IMITATION, _TRAINING, _RESUMED = 1, 2, 3


@dataclass(frozen=True)
class Outcome:
    """Where the best checkpoint of a run is, and how it did.

    Attributes:
        best: The checkpoint; not there where nothing was validated.
        steps: Decisions learned from.
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


class Run:
    """A run in a folder of its own.

    Args:
        config: What to train.
        out: The folder.
        command: What was typed, for the cards.

    Raises:
        InputError: scenarios or policies that there are not, a network that does not fit them.
    """

    def __init__(self, config: Config, out: Path, command: str) -> None:
        torch.set_num_threads(1)  # a batch of small layers gains nothing by more, and loses bit-exactness
        self.config, self.out, self.command = config, out, command
        self.sources = sources_of(config)
        self.load = Load(config.curriculum)
        self.scenarios = [scenario for source in self.sources for scenario in source.scenarios]
        self.prices = Prices(config.lagrangian, self.scenarios, config.scales)
        self.pool = make_pool(config, self.sources, self.load)
        self.model = make_learner(config, self.pool)
        self.average = Average(self.model.cluster_policy.net, config.learner.average)
        self.trials = trials_of(config)
        self.validator = Validator(config, self.trials)
        self.collector = Collector(config.decides, self.pool.whole.slots)
        self.history: list[dict[str, float]] = []
        self.agreement: float | None = None
        self.seconds = 0.0
        self._saved = 0
        self._rate = 0.0

    @property
    def steps(self) -> int:
        """Decisions learned from."""
        return int(self.model.num_timesteps)

    @property
    def best(self) -> dict[str, float] | None:
        """The best validation so far."""
        return max(self.history, key=lambda row: row["score"], default=None)

    # --- the course of a run ----------------------------------------------------------------------------------------

    def go(self, resume: bool) -> Outcome:
        """Begin, or go on where the last checkpoint was written.

        Raises:
            KeyboardInterrupt: it was interrupted; what there is was saved first.
            InputError: there is a run already and it is not to be resumed, or it is another one.
        """
        with locked(self.out), Interruption() as self._stop, display() as self._display:
            resumed = self._open(resume)
            self.pool.weigh(self.prices.weights)
            if not resumed:
                self.model.set_logger(Logger(None, []))
                self._warm_up(self._display)
            self.model.set_logger(make_logger(self.out / "tb", self.steps))
            record_settings(self.model.logger, flat(self.config), dict.fromkeys(_METRICS, 0.0))
            self._train(self._display)
            self._finish()
        return self.outcome()

    def _open(self, resume: bool) -> bool:
        """Prepare the folder; whether there is something to go on from."""
        kept, checkpoint = self.out / CONFIG, self.out / CHECKPOINT
        if not resume and checkpoint.exists():
            raise InputError("--out", str(self.out), "there is a run in it: give --resume, or another folder")
        if resume and checkpoint.exists():
            differs = difference(read_config(kept), self.config, _FREE)
            if differs is not None:
                raise InputError(differs, flat(self.config)[differs], f"the run in {self.out} has another value there")
            self._restore(read_checkpoint(checkpoint, self.model))
        write_config(self.config, kept)
        self._begin(_RESUMED + self.steps if self.steps else _TRAINING)
        return resume and checkpoint.exists()

    def _begin(self, phase: int) -> None:
        """New episodes, other ones in each phase."""
        self.pool.seed(self.config.seed + (phase << 32))

    def _warm_up(self, shown: Display) -> None:
        """Imitation, or the weights of a checkpoint; then the value."""
        chosen = self.config.imitation
        if self.config.network.start:
            self._take(Path(self.config.network.start))
        elif chosen.steps > 0:
            self._begin(_IMITATION)
            self.agreement = Imitator(self.model, self.pool, chosen, self.config.seed).run(self._watch(shown))
            shown.say(f"agrees with {chosen.expert} in {self.agreement:.1%} of held-out decisions")
            self._begin(_TRAINING)
        else:
            return
        sharpen(self.model.cluster_policy.net, chosen.sharpen)
        self.model.only_value = True
        for k in range(chosen.value_rollouts):
            shown.show("fitting the value", k / chosen.value_rollouts)
            self._learn()
        self.model.only_value = False
        self.model.num_timesteps = 0
        self.average.begin()

    def _take(self, path: Path) -> None:
        weights, card = load(path)
        mine = self._card({})
        given = (card.kind, card.network, card.hidden, card.shape.holds, card.shape.rejects, card.shape.max_change)
        shape = mine.shape
        if given != (mine.kind, mine.network, mine.hidden, shape.holds, shape.rejects, shape.max_change):
            mend = f"it is {card.network} {card.hidden} for {card.kind}, with other actions or layers than this run"
            raise InputError("network.start", str(path), mend)
        load_weights(self.model.cluster_policy.net, weights)

    def _train(self, shown: Display) -> None:
        while True:
            if not self.history or self.steps - self.history[-1]["steps"] >= self.config.validation.every:
                self._validate(shown)
            if self.steps >= self.config.steps or self._is_stuck():
                return
            if self.steps - self._saved >= self.config.checkpoint_every:
                self._save()
            self._stop_if_asked()
            self._learn()
            shown.show("training", self.steps / self.config.steps, self._told())

    def _learn(self) -> None:
        """One rollout, one update; prices and load follow the episodes that have ended."""
        start = time.perf_counter()
        before = self.steps
        logger = self.model.logger
        logger.record("train/load", self.load.level)
        learn_once(self.model, self.collector, rate_at(self.config.learner, before / max(1, self.config.steps)))
        self.average.update()
        self.prices.update(self.collector.attained)
        self.pool.weigh(self.prices.weights)
        self.load.note([x for values in self.collector.attained.values() for x in values], self.steps)
        for name in self.collector.attained if self.config.scales else ():
            logger.record(f"price/{name}", self.prices.price(name))
        spent = time.perf_counter() - start
        self.seconds += spent
        self._rate = (self.steps - before) / spent

    def _is_stuck(self) -> bool:
        patience, best = self.config.validation.patience, self.best
        return bool(patience and best and len(self.history) - 1 - self.history.index(best) >= patience)

    def _finish(self) -> None:
        if not self.history or self.history[-1]["steps"] < self.steps:
            self._validate(self._display)
        self.model.logger.dump(self.steps)
        self._save()
        self.model.logger.close()

    # --- validation and files ---------------------------------------------------------------------------------------

    def _validate(self, shown: Display) -> None:
        """Judge what there is now; the best is kept."""
        last = self.out / LAST
        save(last, self.average.weights(), self._card({}))
        shown.show("validating", 0.0, self._told())
        verdict = self.validator.judge(last, self._watch_validation(shown))
        before = self.best
        row = {"steps": float(self.steps), **_numbers(verdict), "load": self.load.level}
        row["trained_attainment"] = float(np.mean(self.collector.recent)) if self.collector.recent else 0.0
        self.history.append(row)
        if before is None or verdict.score > before["score"]:
            save(self.out / BEST, self.average.weights(), self._card(self._results(verdict)))
        self._record(verdict)
        self._write_history()
        self._save()
        shown.say(f"{self.steps:>11,} decisions: {self._judged(verdict)}")

    def _results(self, verdict: Verdict) -> dict[str, float]:
        expert = self.validator.judge_expert()
        found = {f"validation_{name}": value for name, value in _numbers(verdict).items()}
        return found | {f"expert_{name}": value for name, value in _numbers(expert).items()}

    def _record(self, verdict: Verdict) -> None:
        logger, best = self.model.logger, self.best
        for name, value in _numbers(verdict).items():
            logger.record(f"validation/{name}", value)
        for name, case in verdict.cases.items():
            logger.record(f"attainment/{name}", case["slo_attainment"])
        logger.record("validation/best", best["score"] if best else verdict.score)
        logger.record("validation/expert", self.validator.judge_expert().score)
        count = self.config.validation.pictures
        if count:
            record_pictures(logger, moments(self.config, self.out / LAST, self.trials[0], count))
        logger.dump(self.steps)

    def _write_history(self) -> None:
        with whole_file(self.out / HISTORY) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.history)

    def _save(self) -> None:
        write_checkpoint(self.out / CHECKPOINT, self.model, self._card({}), self._state())
        self._saved = self.steps

    def _card(self, results: dict[str, float]) -> Card:
        names = [scenario.name for scenario in self.scenarios]
        return make_card(self.config, self.pool.whole, names, self.steps, self.command, results)

    def _state(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "updates": int(self.model._n_updates),
            "seconds": self.seconds,
            "agreement": self.agreement,
            "average": self.average.state(),
            "prices": self.prices.state(),
            "load": self.load.state(),
            "reward": self.model.rewards.sums.tolist(),
            "recent": list(self.collector.recent),
            "history": self.history,
            "expert": self.validator.reference,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.num_timesteps = self._saved = int(state["steps"])
        self.model._n_updates = int(state["updates"])
        self.seconds, self.agreement = float(state["seconds"]), state["agreement"]
        self.average.restore(state["average"])
        self.prices.restore(state["prices"])
        self.load.restore(state["load"])
        self.model.rewards.sums = np.array(state["reward"])
        self.collector.recent.extend(state["recent"])
        self.history = [dict(row) for row in state["history"]]
        self.validator.restore(state["expert"])

    # --- words ------------------------------------------------------------------------------------------------------

    def _told(self) -> str:
        told = [f"{self._rate:,.0f} steps/s"]
        if self.collector.recent:
            told.append(f"attainment {np.mean(self.collector.recent):.2%}")
        if self.best:
            told.append(f"validation {self.history[-1]['score']:.4f}, best {self.best['score']:.4f}")
        return " | ".join(told)

    def _judged(self, verdict: Verdict) -> str:
        """A validation, in a line."""
        told = f"validation {verdict.score:.4f} (the expert {self.validator.judge_expert().score:.4f})"
        told += f", {verdict.attainment:.2%} within their objectives"
        return f"{told}, cost {verdict.cost_ratio:.3f} of the expert's" if self.config.scales else told

    def _watch(self, shown: Display) -> Any:
        def told(what: str, part: float) -> None:
            shown.show(what, part)
            if self._stop.asked:
                raise KeyboardInterrupt(" during the warm start: begin again")

        return told

    def _watch_validation(self, shown: Display) -> Any:
        def told(part: float) -> None:
            shown.show("validating", part, self._told())
            if self._stop.asked:
                self._stop_if_asked()

        return told

    def _stop_if_asked(self) -> None:
        if self._stop.asked:
            self._save()
            self.model.logger.close()
            raise KeyboardInterrupt(f" at {self.steps:,} decisions: go on with --resume --out {self.out}")

    def outcome(self) -> Outcome:
        """What has been reached."""
        best = self.best
        assert best is not None
        expert = self.validator.judge_expert().score
        return Outcome(
            self.out / BEST, self.steps, best["score"], best["attainment"], best["cost_ratio"], expert, self.agreement
        )


def _numbers(verdict: Verdict) -> dict[str, float]:
    return {"score": verdict.score, "attainment": verdict.attainment, "cost_ratio": verdict.cost_ratio}


def train(config: Config, out: Path, *, resume: bool = False, command: str = "") -> Outcome:
    """Train what ``config`` says, in the folder ``out``; see :class:`Run`."""
    if config.stages.placement:
        from aladdin_agents.learned.train.stages import train_in_stages

        return train_in_stages(config, out, resume, command)
    return Run(config, out, command).go(resume)


def begun_with(config: Config, start: Path, hidden: int) -> Config:
    """The same run, begun with a checkpoint whose layers have this width."""
    return replace(config, network=replace(config.network, start=start.as_posix(), hidden=hidden))
