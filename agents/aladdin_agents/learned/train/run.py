"""A training run: warm start, PPO, prices and load, validation, checkpoints; begun or resumed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import load, same_network
from aladdin_agents.learned.networks import load_weights, sharpen
from aladdin_agents.learned.train.average import Average
from aladdin_agents.learned.train.callbacks import Collector, make_logger, record_settings
from aladdin_agents.learned.train.cards import make_card
from aladdin_agents.learned.train.config import Config, flat, write_config
from aladdin_agents.learned.train.curriculum import Load
from aladdin_agents.learned.train.display import Display, Interruption, display
from aladdin_agents.learned.train.folder import CHECKPOINT, CONFIG, opened
from aladdin_agents.learned.train.imitation import Imitator
from aladdin_agents.learned.train.keeper import METRICS, Keeper, Outcome
from aladdin_agents.learned.train.lagrangian import Prices
from aladdin_agents.learned.train.learner import learn_once, make_learner, rate_at
from aladdin_agents.learned.train.lock import locked
from aladdin_agents.learned.train.sources import make_pool, sources_of
from aladdin_agents.learned.train.state import read_checkpoint, write_checkpoint
from aladdin_env.errors import InputError

# Phases that draw episodes of their own.
_IMITATION, _TRAINING, _RESUMED = 1, 2, 3


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
        self.keeper = Keeper(config, out, self._card)
        self.collector = Collector(config.decides, self.pool.whole.slots)
        self.agreement: float | None = None
        self.seconds = 0.0
        self._saved = 0
        self._rate = 0.0

    @property
    def steps(self) -> int:
        """Decisions learned from."""
        return int(self.model.num_timesteps)

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
            record_settings(self.model.logger, flat(self.config), dict.fromkeys(METRICS, 0.0))
            self._train(self._display)
            self._finish()
        return self.keeper.outcome(self.steps, self.agreement)

    def _open(self, resume: bool) -> bool:
        """Prepare the folder; whether there is something to go on from."""
        resumed = opened(self.config, self.out, resume)
        if resumed:
            self._restore(read_checkpoint(self.out / CHECKPOINT, self.model))
        write_config(self.config, self.out / CONFIG)
        self._begin(_RESUMED + self.steps if self.steps else _TRAINING)
        return resumed

    def _begin(self, phase: int) -> None:
        """New episodes, other ones in each phase."""
        self.pool.seed(self.config.seed + (phase << 32))

    def _warm_up(self, shown: Display) -> None:
        """Imitation, or the weights of a checkpoint; then the value."""
        chosen = self.config.imitation
        if self.config.network.start:
            self._take(Path(self.config.network.start))
        elif self.config.network.adviser:
            pass  # it begins as its adviser
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
        if not same_network(card, mine):
            mend = f"it is {card.network} {card.hidden} for {card.kind}, with other actions or layers than this run"
            raise InputError("network.start", str(path), mend)
        load_weights(self.model.cluster_policy.net, weights)

    def _train(self, shown: Display) -> None:
        while True:
            history = self.keeper.history
            if not history or self.steps - history[-1]["steps"] >= self.config.validation.every:
                self._validate(shown)
            if self.steps >= self.config.steps or self.keeper.is_stuck:
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

    def _finish(self) -> None:
        history = self.keeper.history
        if not history or history[-1]["steps"] < self.steps:
            self._validate(self._display)
        self.model.logger.dump(self.steps)
        self._save()
        self.model.logger.close()

    # --- validation and files ---------------------------------------------------------------------------------------

    def _validate(self, shown: Display) -> None:
        """Judge what there is now; the best is kept."""
        shown.show("validating", 0.0, self._told())
        recent = self.collector.recent
        more = {"load": self.load.level, "trained_attainment": float(np.mean(recent)) if recent else 0.0}
        verdict = self.keeper.judge(
            self.average.weights(), self.steps, more, self.model.logger, self._watch_validation(shown)
        )
        self._save()
        shown.say(f"{self.steps:>11,} decisions: {self.keeper.judged(verdict)}")

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
            "history": self.keeper.history,
            "expert": self.keeper.validator.reference,
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
        self.keeper.history = [dict(row) for row in state["history"]]
        self.keeper.validator.restore(state["expert"])

    # --- words ------------------------------------------------------------------------------------------------------

    def _told(self) -> str:
        told = [f"{self._rate:,.0f} steps/s"]
        if self.collector.recent:
            told.append(f"attainment {np.mean(self.collector.recent):.2%}")
        if self.keeper.history:
            told.append(self.keeper.told())
        return " | ".join(told)

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


def train(config: Config, out: Path, *, resume: bool = False, command: str = "") -> Outcome:
    """Train what ``config`` says, in the folder ``out``; see :class:`Run`."""
    if config.stages.placement:
        from aladdin_agents.learned.train.stages import train_in_stages

        return train_in_stages(config, out, resume, command)
    if config.network.kind == "steered":
        from aladdin_agents.learned.train.search import Search

        return Search(config, out, command).go(resume)
    return Run(config, out, command).go(resume)


def begun_with(config: Config, start: Path, hidden: int) -> Config:
    """The same run, begun with a checkpoint whose layers have this width (0: it has none)."""
    width = hidden or config.network.hidden
    return replace(config, network=replace(config.network, start=start.as_posix(), hidden=width))
