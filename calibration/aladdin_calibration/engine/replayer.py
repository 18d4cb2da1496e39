"""Replay an open-loop trace inside a vLLM engine and write one JSON line per request.

``python -m aladdin_calibration.engine.replayer --trace FILE --out FILE --model FOLDER ...``; like the recorder it needs
nothing but vLLM and the standard library. Requests join the engine when the clock has reached their arrival, at the
next step's beginning, as a server would let them.

Five clocks. ``wall`` is what it says. ``steps`` is the sum of the steps' wall times, jumping to the next arrival when
nothing is left to do: what we do between two steps, which a server does in another process, does not count. ``cpu`` is
the same of CPU times: what the engine does is the same, and other processes on the machine stretch its steps less. That
is honest where a step's work is done by one CPU thread, and only there. ``reference`` takes out the machine's faster
and slower moments as well: CPU times are over that of a fixed job beside each step, times ``--reference-s``. ``asked``
tells every step on standard output and reads its seconds from standard input: with laws behind it, the engine's
decisions are compared with a simulator's to the last bit, whatever the machine does.

What is served so far is written once a minute, and when the process is terminated (SIGTERM): such a file says that it
is not complete.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aladdin_calibration.engine.plan import Prompts
from aladdin_calibration.engine.recorder import run
from aladdin_calibration.engine.timed import Engine, add_engine_arguments, leave, options, tell

_REPORT_EVERY_S = 1.0
_SAVE_EVERY_S = 60.0
_STEP_S = 1e-4  # shortest sleep while nothing is there to do
_LOOK_S = 0.2  # longest: whoever terminates us does not wait for the next arrival
_TERMINATED = 128 + signal.SIGTERM  # exit status, as a shell has it


class WallClock:
    """Seconds since the start, as they pass."""

    def __init__(self) -> None:
        """Start."""
        self._start = time.perf_counter()

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def step(self, figures: dict[str, float]) -> None:
        """A step was taken; time passed by itself."""

    def until(self, time_s: float) -> None:
        """Wait for the next arrival, or a part of the time."""
        time.sleep(min(_LOOK_S, max(_STEP_S, time_s - self.now_s)))


class CpuClock:
    """The CPU time of all steps, and the pauses between them."""

    def __init__(self) -> None:
        """Start."""
        self.now_s = 0.0

    def step(self, figures: dict[str, float]) -> None:
        """A step was taken: its CPU time passes."""
        self.now_s += figures["cpu_s"]

    def until(self, time_s: float) -> None:
        """Go to the next arrival."""
        self.now_s = max(self.now_s, time_s)


class StepsClock(CpuClock):
    """The wall time of all steps, and the pauses between them."""

    def step(self, figures: dict[str, float]) -> None:
        """A step was taken: its time passes."""
        self.now_s += figures["wall_s"]


class ReferenceClock(CpuClock):
    """The steps' CPU times at a pace of the machine at which the fixed job takes ``nominal_s``."""

    def __init__(self, nominal_s: float) -> None:
        """Start."""
        super().__init__()
        self._nominal_s = nominal_s

    def step(self, figures: dict[str, float]) -> None:
        """A step was taken."""
        self.now_s += figures["cpu_s"] * self._nominal_s / figures["reference_s"]


class AskedClock(CpuClock):
    """As long as whoever started us says."""

    def step(self, figures: dict[str, float]) -> None:
        """A step was taken: ask."""
        tell(step={name: figures[name] for name in ("prefill_tokens", "sum_squares", "batch", "context_tokens")})
        self.now_s += float(sys.stdin.readline())


_PLAIN_CLOCKS: dict[str, type[WallClock] | type[CpuClock]] = {
    "wall": WallClock,
    "steps": StepsClock,
    "cpu": CpuClock,
    "asked": AskedClock,
}
CLOCKS = (*_PLAIN_CLOCKS, "reference")


def clock_of(arguments: argparse.Namespace, engine: Engine) -> WallClock | CpuClock:
    """The clock that was asked for, and the engine as it needs it."""
    if arguments.clock == "reference":
        return ReferenceClock(arguments.reference_s)
    engine.alone()
    return _PLAIN_CLOCKS[arguments.clock]()


@dataclass
class Served:
    """One request of the trace as it went; seconds from the start."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_token_s: float | None = None
    finish_s: float | None = None
    seen_tokens: int = 0

    def row(self) -> dict[str, Any]:
        """What is written."""
        keys = ("arrival_s", "prompt_tokens", "output_tokens", "first_token_s", "finish_s")
        return {key: getattr(self, key) for key in keys}


@dataclass
class Replayer:
    """A replay under way; ``save`` is called once a minute meanwhile."""

    engine: Engine
    requests: list[Served]
    clock: WallClock | CpuClock
    save: Callable[[], None]
    stopped: bool = False
    _asked: dict[str, Served] = field(default_factory=dict)
    _next: int = 0

    def stop(self, *_: object) -> None:
        """End with the step under way; a signal handler."""
        self.stopped = True

    def run(self) -> None:
        """Serve them all, or until it is stopped."""
        told_s, saved_s = 0.0, time.monotonic()
        while not self.stopped and (self._next < len(self.requests) or self.engine.is_busy):
            self._admit()
            if not self.engine.is_busy:
                self.clock.until(self.requests[self._next].arrival_s)
                continue
            self.clock.step(self.engine.step())
            self._note(self.clock.now_s)
            if time.monotonic() - told_s > _REPORT_EVERY_S:
                told_s = time.monotonic()
                tell(done=sum(r.finish_s is not None for r in self.requests), of=len(self.requests), now="replay")
            if time.monotonic() - saved_s > _SAVE_EVERY_S:
                self.save()
                saved_s = time.monotonic()

    def _admit(self) -> None:
        while self._next < len(self.requests) and self.requests[self._next].arrival_s <= self.clock.now_s:
            request = self.requests[self._next]
            self._asked[self.engine.ask(request.prompt_tokens, request.output_tokens)] = request
            self._next += 1

    def _note(self, now_s: float) -> None:
        for name, tokens in self.engine.new_tokens():
            request = self._asked[name]
            request.seen_tokens += tokens
            if request.first_token_s is None and tokens:
                request.first_token_s = now_s
            if request.seen_tokens >= request.output_tokens:
                request.finish_s = now_s


def read_trace(path: Path) -> list[Served]:
    """The requests of a trace: JSON lines with arrival_s, prompt_tokens, output_tokens."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return [Served(row["arrival_s"], row["prompt_tokens"], row["output_tokens"]) for row in lines]


def kept(path: Path, requests: list[Served]) -> list[Served] | None:
    """What an earlier run made of these very requests; None unless that is there, and complete."""
    try:
        head, *rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        found = [Served(**row) for row in rows]
    except (OSError, ValueError, TypeError):
        return None
    same = [_asked_of(request) for request in found] == [_asked_of(request) for request in requests]
    return found if same and is_complete(head) else None


def is_complete(head: dict[str, Any]) -> bool:
    """Whether a file with this first line holds a whole replay; files without the mark were written at the end."""
    return bool(head.get("complete", True))


def _asked_of(request: Served) -> tuple[float, int, int]:
    return request.arrival_s, request.prompt_tokens, request.output_tokens


def write_served(path: Path, head: dict[str, Any], requests: list[Served]) -> None:
    """The engine and its clock in the first line, then a line per request; the whole file or none of it."""
    text = "".join(json.dumps(row) + "\n" for row in [head, *(request.row() for request in requests)])
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def serve(
    engine: Engine, facts: dict[str, Any], requests: list[Served], arguments: argparse.Namespace, path: Path
) -> None:
    """Replay requests and write what came of them; if we are terminated, what came of them so far, and leave."""
    engine.preemptions = 0

    def save(complete: bool = False) -> None:
        preemptions = engine.preemptions if engine.counts_preemptions else None
        head = {"clock": arguments.clock, "complete": complete, "preemptions": preemptions, "facts": facts}
        write_served(path, head, requests)

    replayer = Replayer(engine, requests, clock_of(arguments, engine), save)
    signal.signal(signal.SIGTERM, replayer.stop)
    replayer.run()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    save(complete=not replayer.stopped)
    if replayer.stopped:
        tell(ended="terminated")
        leave(_TERMINATED)


def main() -> None:
    """Replay one trace."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_engine_arguments(parser)
    parser.add_argument("--trace", type=Path, required=True, help="JSON lines: arrival_s, prompt_tokens, output_tokens")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--reference-s", type=float, help="seconds of the fixed job, for the clock reference")
    arguments = parser.parse_args()
    requests = read_trace(arguments.trace)
    tell(starting=arguments.model)
    engine = Engine(arguments.model, options(arguments))
    for tokens in (16, 64, 256):  # kernels are chosen and compiled at the first use of a shape
        list(run(engine, Prompts(4, tokens), engine.limits(1)))
    serve(engine, engine.facts(arguments.name or arguments.model), requests, arguments, arguments.out)
    tell(ended="the trace")
    leave()


if __name__ == "__main__":
    main()
