"""Routers side by side: rounds in which each is measured in turn, so that a busy machine is busy for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import Any

from aladdin_env.bench.bridge import load, mock
from aladdin_env.bridge.conformance.launch import RouterProcess, arguments, filled, free_port
from aladdin_env.errors import InputError, OutsideFault

WORKERS = 8
_MOCKS = 2
CONNECTIONS = 32
_READY_S = 120.0
_LOOK_EVERY_S = 0.2
Remark = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How long is measured.

    Attributes:
        rounds: How often each is measured; the median counts.
        one_s: Seconds with one connection.
        many_s: Seconds with many.
        warm_s: Seconds with many before the first round.
    """

    rounds: int = 5
    one_s: float = 1.0
    many_s: float = 1.5
    warm_s: float = 1.0


def measure_bridge(
    templates: Mapping[str, str], effort: Effort, progress: Callable[[float], None], remark: Remark
) -> dict[str, float]:
    """Latency and throughput of routers, and of the mock itself as ``direct``.

    Args:
        templates: Command lines by key, see :func:`aladdin_env.bridge.conformance.launch.filled`.
        effort: How long.
        progress: Told how many rounds are done.
        remark: Told which routers do not start, and why; they are left out.
    """
    with ExitStack() as stack:
        ports = [port for _ in range(_MOCKS) for port in stack.enter_context(_mock(WORKERS // _MOCKS))]
        caller = stack.enter_context(_caller())
        found = {"direct": ports[0]}
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        for key, template in templates.items():
            try:
                found[key] = _started(stack, caller, template, urls)
            except (InputError, OutsideFault) as error:
                remark(f"{key} is left out: {error}")
        for port in found.values():
            _do(caller, load.Job(port, CONNECTIONS, effort.warm_s))
        rounds = []
        for number in range(effort.rounds):
            rounds.append(_round(caller, found, effort, number))
            progress(number + 1)
    return _summary(rounds)


def _round(caller: Connection, ports: Mapping[str, int], effort: Effort, number: int) -> dict[str, float]:
    keys = list(ports)
    turn = number % len(keys)
    figures: dict[str, float] = {}
    for key in keys[turn:] + keys[:turn]:
        one = _do(caller, load.Job(ports[key], 1, effort.one_s))
        many = _do(caller, load.Job(ports[key], CONNECTIONS, effort.many_s))
        if one.failed or many.failed:
            raise OutsideFault(f"{key}: {one.failed + many.failed} requests got no 200")
        figures |= {f"{key}_p50_us": one.p50_us, f"{key}_rps_{CONNECTIONS}": many.rps}
    return figures


def _summary(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the rounds; ratios are taken within a round, before the median."""
    keys = [name.removesuffix("_p50_us") for name in rounds[0] if name.endswith("_p50_us")]
    found = {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}
    if "bridge" in keys:
        found["bridge_added_us"] = statistics.median(f["bridge_p50_us"] - f["direct_p50_us"] for f in rounds)
        for other in keys:
            if other != "bridge":
                for what in ("p50_us", f"rps_{CONNECTIONS}"):
                    ratios = (figures[f"bridge_{what}"] / figures[f"{other}_{what}"] for figures in rounds)
                    found[f"bridge_over_{other}_{what.partition('_')[0]}"] = statistics.median(ratios)
    return found


def _started(stack: ExitStack, caller: Connection, template: str, urls: list[str]) -> int:
    """Port of a router that serves.

    Raises:
        InputError: There is no such program.
        OutsideFault: It ends, or does not serve in time.
    """
    port = free_port()
    process = stack.enter_context(RouterProcess(arguments(filled(template, port, urls)), port))
    end_s = time.monotonic() + _READY_S
    while time.monotonic() < end_s:
        process.check_alive()
        if _do(caller, load.Job(port, 1, 0.05)).failed == 0:
            return port
        time.sleep(_LOOK_EVERY_S)
    raise OutsideFault(f"it does not serve within {_READY_S:g} s: {process.last_words()}")


def _do(caller: Connection, job: load.Job) -> load.Result:
    caller.send(job)
    result: load.Result = caller.recv()
    return result


@contextmanager
def _mock(count: int) -> Iterator[list[int]]:
    """A process with mock backends; their ports."""
    with _child(mock.serve, count) as told:
        yield told.recv()


@contextmanager
def _caller() -> Iterator[Connection]:
    """A process that makes the load."""
    with _child(load.serve) as jobs:
        yield jobs


@contextmanager
def _child(target: Callable[..., None], *given: Any) -> Iterator[Connection]:
    here, there = Pipe()
    process = get_context("spawn").Process(target=target, args=(*given, there), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.terminate()
        process.join()
        here.close()
