"""A run that searches: what steers Aladdin is found by CMA-ES, which judges candidates by whole episodes.

Gradients of single decisions say little about a scaler, whose mistakes show minutes later and whose savings drown in
the noise of arrivals; and whoever tries at random breaks promises first. Here each candidate drives whole episodes of
all training scenarios, all candidates of a generation the same ones, and the loss of an episode is that of validation,

    cost / the expert's + max(0, needed - attainment) / (1 - target),    at most 4,

with ``needed`` the target, or what the expert attains there where that is less. Placement: what is lost in attainment
against the expert, over 1 - target.
"""

from __future__ import annotations

import json
import math
import time
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cma
import numpy as np
from stable_baselines3.common.logger import Logger

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import FAULTS, load, same_network
from aladdin_agents.learned.train.callbacks import make_logger, record_settings
from aladdin_agents.learned.train.cards import make_card
from aladdin_agents.learned.train.config import Config, flat, write_config
from aladdin_agents.learned.train.display import Display, Interruption, display
from aladdin_agents.learned.train.episodes import Tried, length_of, play, vector_from, weights_from
from aladdin_agents.learned.train.folder import CHECKPOINT, CONFIG, opened
from aladdin_agents.learned.train.keeper import METRICS, Keeper, Outcome
from aladdin_agents.learned.train.lock import locked
from aladdin_agents.learned.train.pool import Frame
from aladdin_agents.learned.train.sources import single_sources
from aladdin_env.compare.work import Progress, team, usable_cpus
from aladdin_env.errors import InputError
from aladdin_traces.files import whole_file

_MOST = 4.0  # an episode that went wrong altogether says no more than that
_STATE = "search.json"
_VERSION = 1

Play = Callable[[Sequence[Tried], Progress], list[tuple[float, float]]]


class Search:
    """A search in a folder of its own.

    Args:
        config: What to search for.
        out: The folder.
        command: What was typed, for the card.

    Raises:
        InputError: scenarios or policies that there are not.
    """

    def __init__(self, config: Config, out: Path, command: str) -> None:
        self.config, self.out, self.command = config, out, command
        self.sources = single_sources(config)
        self.keeper = Keeper(config, out, self._card)
        self.losses: list[list[float]] = []
        self._steps_before = 0  # of the checkpoint that it begins with
        self.seconds = 0.0
        self._references: dict[int, list[tuple[float, float]]] = {}
        self._evolution = self._begun()
        self._average = np.array(self._evolution.x0, dtype=np.float64)

    @property
    def steps(self) -> int:
        """Episodes simulated by candidates."""
        return sum(map(len, self.losses)) * len(self.sources)

    def go(self, resume: bool) -> Outcome:
        """Begin, or go on where the last generation ended.

        Raises:
            KeyboardInterrupt: it was interrupted; all generations that have ended are kept.
            InputError: there is a run already and it is not to be resumed, or it is another one.
        """
        with locked(self.out), Interruption() as self._stop, display() as shown:
            if opened(self.config, self.out, resume):
                self._restore()
            write_config(self.config, self.out / CONFIG)
            logger = make_logger(self.out / "tb", self.steps)
            record_settings(logger, flat(self.config), dict.fromkeys(METRICS, 0.0))
            with team(partial(play, self.config, self._card({})), self.config.search.processes or usable_cpus()) as do:
                self._search(do, logger, shown)
            self._save()
            logger.close()
        return self.keeper.outcome(self.steps)

    # --- the course of a search -------------------------------------------------------------------------------------

    def _begun(self) -> Any:
        """The evolution at its beginning; its numbers come from a generator of its own."""
        shape, chosen = self._card({}).shape, self.config.search
        begin = np.zeros(length_of(shape))
        if self.config.network.start:
            weights, card = load(self.config.network.start)
            if not same_network(card, self._card({})):
                mend = f"it is {card.network} for {card.kind}: give a steered one for {self.config.task}"
                raise InputError("network.start", self.config.network.start, mend)
            begin = vector_from(weights, shape)
            self._steps_before = card.steps
        rng = np.random.default_rng([self.config.seed, 4])
        population = chosen.population or 4 + int(3 * math.log(len(begin)))
        options = {
            "popsize": population, "seed": np.nan, "randn": lambda *size: rng.standard_normal(size), "verbose": -9,
        }  # fmt: skip
        return cma.CMAEvolutionStrategy(begin, chosen.sigma, options)

    def _search(self, do: Play, logger: Logger, shown: Display) -> None:
        history = self.keeper.history
        while True:
            is_last = self.steps >= self.config.steps
            if not history or is_last > (history[-1]["steps"] == self.steps) or self._is_due():
                self._validate(logger, shown)
            if is_last or self.keeper.is_stuck:
                return
            self._generation(do, logger, shown)
            self._save()

    def _is_due(self) -> bool:
        return self.steps - self.keeper.history[-1]["steps"] >= self.config.validation.every

    def _generation(self, do: Play, logger: Logger, shown: Display) -> None:
        start = time.perf_counter()
        number = len(self.losses) % self.config.search.sets
        part = min(1.0, self.steps / max(1, self.config.steps))
        watch = self._watch(shown, "training", part)
        reference = self._reference(number, do, watch)
        candidates = self._evolution.ask()
        tried = [
            Tried(number, source, tuple(candidate.tolist()))
            for candidate in candidates
            for source in range(len(self.sources))
        ]
        found = do(tried, watch)
        each = len(self.sources)
        losses = [self._loss(found[k * each : (k + 1) * each], reference) for k in range(len(candidates))]
        self._tell(candidates, losses)
        self.losses.append(losses)
        self.seconds += time.perf_counter() - start
        self._record(losses, found, logger)

    def _tell(self, candidates: Any, losses: Sequence[float]) -> None:
        self._evolution.tell(candidates, losses)
        kept, mean = self.config.search.average, np.asarray(self._evolution.result.xfavorite, dtype=np.float64)
        self._average = kept * self._average + (1.0 - kept) * mean

    def _reference(self, number: int, do: Play, watch: Progress) -> list[tuple[float, float]]:
        """What the expert does in a set of episodes."""
        if number not in self._references:
            tried = [Tried(number, source, None) for source in range(len(self.sources))]
            self._references[number] = do(tried, watch)
        return self._references[number]

    def _loss(self, found: Sequence[tuple[float, float]], reference: Sequence[tuple[float, float]]) -> float:
        target = self.config.search.target
        losses = []
        for (attained, cost), (before, paid) in zip(found, reference, strict=True):
            if self.config.scales:
                missed = max(0.0, min(target, before) - attained)
                losses.append(min(_MOST, cost / paid + missed / (1.0 - target)))
            else:
                losses.append(min(_MOST, (before - attained) / (1.0 - target)))
        return float(np.mean(losses))

    def _record(self, losses: Sequence[float], found: Sequence[tuple[float, float]], logger: Logger) -> None:
        logger.record("search/best", min(losses))
        logger.record("search/mean", float(np.mean(losses)))
        logger.record("search/sigma", float(self._evolution.sigma))
        logger.record("serving/slo_attainment", float(np.mean([attained for attained, _ in found])))
        logger.dump(self.steps)

    def _validate(self, logger: Logger, shown: Display) -> None:
        weights = weights_from(self._average, self._card({}).shape)
        recent = self.losses[-1] if self.losses else [0.0]
        more = {"loss": float(np.mean(recent)), "sigma": float(self._evolution.sigma)}
        progress = self._watch(shown, "validating", None)
        verdict = self.keeper.judge(weights, self.steps, more, logger, progress)
        self._save()
        shown.say(f"{self.steps:>11,} episodes: {self.keeper.judged(verdict)}")

    # --- files ------------------------------------------------------------------------------------------------------

    def _card(self, results: dict[str, float]) -> Card:
        scenarios = [scenario for source in self.sources for scenario in source.scenarios]
        frames = [Frame.of(scenario) for scenario in scenarios]
        whole = Frame(max(frame.slots for frame in frames), max(frame.types for frame in frames))
        names = [scenario.name for scenario in scenarios]
        steps = self._steps_before + self.steps
        return make_card(self.config, whole, names, steps, self.command, results)

    def _save(self) -> None:
        """The losses so far: with the seed they say all that the evolution has done."""
        state = {
            "version": _VERSION,
            "losses": self.losses,
            "seconds": self.seconds,
            "history": self.keeper.history,
            "expert": self.keeper.validator.reference,
        }
        with whole_file(self.out / CHECKPOINT) as temporary, zipfile.ZipFile(temporary, "w") as file:
            file.writestr(_STATE, json.dumps(state))

    def _restore(self) -> None:
        path = self.out / CHECKPOINT
        try:
            with zipfile.ZipFile(path) as file:
                state = json.loads(file.read(_STATE))
            if state["version"] != _VERSION:
                raise ValueError(f"version {state['version']}")
            for losses in state["losses"]:
                self._tell(self._evolution.ask(), losses)
            self.losses, self.seconds = state["losses"], float(state["seconds"])
            self.keeper.history = [dict(row) for row in state["history"]]
            self.keeper.validator.restore(state["expert"])
            self._check_restored()
        except (*FAULTS, AttributeError) as error:
            why = " ".join(str(error).split())[:200]
            mend = f"it cannot be resumed ({why}): begin in another folder"
            raise InputError("checkpoint", str(path), mend) from None

    def _check_restored(self) -> None:
        """Refuse what this code has not written."""
        rows = self.keeper.history
        numbers = [x for losses in self.losses for x in losses] + [x for row in rows for x in row.values()]
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
            raise ValueError("numbers that are none")
        if any({"steps", "score", "attainment", "cost_ratio"} - row.keys() for row in rows):
            raise ValueError("a validation without its results")

    # --- words ------------------------------------------------------------------------------------------------------

    def _watch(self, shown: Display, what: str, part: float | None) -> Progress:
        """Shows how far it is, and stops where that was asked for."""
        told = f"generation {len(self.losses) + 1} | {self.keeper.told()}"

        def watch(done: float) -> None:
            shown.show(what, done if part is None else part, told)
            if self._stop.asked:
                raise KeyboardInterrupt(f" at {self.steps:,} episodes: go on with --resume --out {self.out}")

        return watch
