"""Run a sweep inside a vLLM engine and write one JSON line per engine step.

``python -m aladdin_calibration.engine.recorder --out FILE --model FOLDER ...`` under the interpreter that has vLLM;
nothing but vLLM and the standard library is needed there. The first line holds the facts of the engine, every other
line a step or the mark that a configuration is complete. Lines are on disk before the next configuration begins, and
the same command goes on where an earlier one stopped. On standard output it reports its progress as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aladdin_calibration.engine.plan import (
    TRAFFIC_STEPS,
    Configuration,
    Hold,
    Limits,
    Prompts,
    Traffic,
    configurations,
)
from aladdin_calibration.engine.timed import Engine, add_engine_arguments, leave, options, tell

FORMAT = 1
SHARE_OF_BUDGET = 0.1  # one configuration may take so much of the time there is
SKIPPED = "too slow for the time budget"
_SAME_KV = 0.02  # vLLM sizes the KV by the memory that is free at its start: a restart differs by some blocks


def _are_of_one_engine(kept: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether facts are the same, the KV capacity nearly so."""
    before, after = kept.get("kv_capacity_tokens"), now.get("kv_capacity_tokens")
    if before is not None and after is not None and abs(after - before) <= _SAME_KV * before:
        now = {**now, "kv_capacity_tokens": before}
    return kept == now


class Recording:
    """The file of an earlier or a new run, to which complete configurations are added."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        """Open it; a file with other facts is refused, one with some KV blocks more or fewer keeps its own."""
        self.done: set[tuple[str, int]] = set()
        self._began = time.time()
        if path.exists():
            self._continue(path, facts)
        self._path = path
        if not path.exists() or path.stat().st_size == 0:
            self._write([{"format": FORMAT, "began": self._began, "facts": facts}])

    def _continue(self, path: Path, facts: dict[str, Any]) -> None:
        """Take over what is complete and cut off the rest: a line or a configuration that an end left half done."""
        whole, length = 0, 0
        with path.open("rb") as file:
            for line in file:
                length += len(line)
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if "facts" in row and not _are_of_one_engine(row["facts"], facts):
                    raise SystemExit(f"{path} is of another engine ({row['facts']}): give another name")
                self._began = row.get("began", self._began)
                if "done" in row:
                    self.done.add((row["done"], row["repeat"]))
                if "done" in row or "facts" in row:
                    whole = length
        os.truncate(path, whole)

    def add(self, name: str, repeat: int, steps: list[dict[str, Any]]) -> None:
        """Put a complete configuration on disk."""
        self._write([*steps, {"done": name, "repeat": repeat}])
        self.done.add((name, repeat))

    def lack(self, gap: str) -> None:
        """Note what was not measured; a later run on the same file drops the note and says anew."""
        self._write([{"gap": gap}])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())

    @property
    def age_s(self) -> float:
        """Seconds since the first run on this file began."""
        return time.time() - self._began


def run(engine: Engine, configuration: Configuration, limits: Limits) -> Iterator[tuple[str, dict[str, float]]]:
    """Run one configuration; yield the name and the figures of every step."""
    if isinstance(configuration, Prompts):
        for _ in range(configuration.count):
            engine.ask(configuration.tokens, 1)
        while engine.is_busy:
            yield configuration.name, engine.step()
    elif isinstance(configuration, Traffic):
        yield from _come_and_go(engine, configuration)
    else:
        yield from _hold(engine, configuration, limits)


def _come_and_go(engine: Engine, traffic: Traffic) -> Iterator[tuple[str, dict[str, float]]]:
    rng = random.Random(traffic.name)  # the same in every pass: equal steps tell the noise
    here: set[str] = set()
    for _ in range(TRAFFIC_STEPS):
        while len(here) < traffic.running:
            here.add(engine.ask(*traffic.lengths(rng)))
        yield traffic.name, engine.step()
        here -= engine.ended()
    engine.drop(sorted(here))
    while engine.is_busy:
        engine.step()


def _hold(engine: Engine, hold: Hold, limits: Limits) -> Iterator[tuple[str, dict[str, float]]]:
    held = [engine.ask(hold.context, limits.max_model_len - hold.context) for _ in range(hold.levels[0].batch)]
    while True:
        step = engine.step()  # the prompts first: the steps that fill the contexts are worth keeping as well
        if step["prefill_tokens"] == 0:
            break
        yield f"{hold.name}-fill", step
    for level in hold.levels:
        engine.drop(held[level.batch :])
        held = held[: level.batch]
        engine.step()  # lets the dropped ones go; its time would count that
        for _ in range(limits.decode_steps):
            yield hold.level_name(level), engine.step()
        for chunk in level.chunks:
            engine.ask(chunk, 1)
            yield hold.level_name(level, chunk), engine.step()
    engine.drop(held)
    while engine.is_busy:
        engine.step()


class Pace:
    """How long prompts and steps take here, to tell what would not fit into the time there is."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        """Warm the engine up; kernels are chosen and compiled at the first use of a shape."""
        self.prefill_s_per_token = 0.0
        for tokens in (16, 256, min(1024, limits.longest_prompt_tokens)):
            steps = [step for _, step in run(engine, Prompts(1, tokens), limits)]
            self.prefill_s_per_token = sum(step["wall_s"] for step in steps) / tokens

    def fitting(self, configuration: Configuration, seconds: float) -> Configuration | None:
        """The configuration, or what of it takes no more than so many seconds of prompts; None if nothing does."""
        if isinstance(configuration, Hold):
            return configuration.within(seconds / self.prefill_s_per_token)
        return configuration if self.seconds(configuration) <= seconds else None

    def seconds(self, configuration: Configuration) -> float:
        """A guess, for a configuration's prompts alone."""
        return configuration.work_tokens * self.prefill_s_per_token


def sweep(engine: Engine, recording: Recording, arguments: argparse.Namespace) -> None:
    """Run every configuration, pass after pass, until the passes or the time end."""
    limits = engine.limits(arguments.decode_steps)
    pace, ends = Pace(engine, limits), time.perf_counter() + arguments.budget_s
    for repeat in range(arguments.passes):
        wanted = configurations(limits, random.Random(f"{arguments.seed} {repeat}"))
        for number, whole in enumerate(wanted):
            if (whole.name, repeat) in recording.done:
                continue
            configuration = pace.fitting(whole, SHARE_OF_BUDGET * arguments.budget_s)
            if configuration is None:
                tell(skipped=whole.name, why=SKIPPED)
                recording.lack(f"{whole.name}: {SKIPPED}")
                continue
            if time.perf_counter() + pace.seconds(configuration) > ends:
                tell(ended="the time budget")
                missing = [c.name for c in wanted if (c.name, 0) not in recording.done]
                if missing:
                    recording.lack(f"not measured for lack of time: {', '.join(missing)}")
                return
            tell(done=repeat * len(wanted) + number, of=arguments.passes * len(wanted), now=configuration.name)
            at_s = recording.age_s
            steps = [
                {"config": name, "repeat": repeat, "at_s": round(at_s, 3), **step}
                for name, step in run(engine, configuration, limits)
            ]
            recording.add(configuration.name, repeat, steps)
    tell(ended="all passes")


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of :func:`sweep`."""
    parser.add_argument("--budget-s", type=float, default=480.0, help="seconds of measuring, after the start")
    parser.add_argument("--passes", type=int, default=3, help="how often every configuration is measured at most")
    parser.add_argument("--decode-steps", type=int, default=8, help="decode steps at every batch size")
    parser.add_argument("--seed", type=int, default=0, help="of the order")


def main() -> None:
    """Measure until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_engine_arguments(parser)
    add_sweep_arguments(parser)
    arguments = parser.parse_args()
    tell(starting=arguments.model)
    engine = Engine(arguments.model, options(arguments))
    recording = Recording(arguments.out, engine.facts(arguments.name or arguments.model))
    sweep(engine, recording, arguments)
    leave()


if __name__ == "__main__":
    main()
