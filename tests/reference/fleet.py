"""The workers of a scenario: cold starts, scale decisions, costs. Contract: docs/simulator.md, "Workers"."""

from __future__ import annotations

from .model import DRAINING, FAILED, OFF, READY, STARTING, RefScenario, RefWorker


class Fleet:
    """All slots, OFF ones included, types in the order of the scenario."""

    def __init__(self, scenario: RefScenario) -> None:
        self.scenario = scenario
        self.workers: list[RefWorker] = []
        for type_index, kind in enumerate(scenario.types):
            for k in range(kind.count):
                worker = RefWorker(len(self.workers), type_index, kind)
                if kind.keeps_prefixes:
                    assert scenario.prefix_block_tokens % kind.block_size == 0
                    worker.prefix_block_tokens = scenario.prefix_block_tokens
                if k < kind.initial:
                    worker.turn_on(0.0, READY)
                self.workers.append(worker)
        self.starts = [0] * len(scenario.types)  # so far, per type

    def start(self, worker: RefWorker, now: float) -> None:
        """A cold start, numbered among those of the worker's type."""
        colds = worker.type.cold_starts_s
        worker.turn_on(now, STARTING)
        worker.until_s = now + colds[self.starts[worker.type_index] % len(colds)]
        self.starts[worker.type_index] += 1

    def scale(self, wanted: list[int], now: float) -> None:
        """A scale decision: the wanted workers of each type, still to be clipped."""
        assert len(wanted) == len(self.scenario.types)
        for type_index, kind in enumerate(self.scenario.types):
            self.scale_type(type_index, max(kind.minimum, min(kind.count, int(wanted[type_index]))), now)

    def scale_type(self, type_index: int, wanted: int, now: float) -> None:
        mine = [worker for worker in self.workers if worker.type_index == type_index]
        current = sum(worker.status in (STARTING, READY, FAILED) for worker in mine)
        # Too few.
        for worker in mine:
            if current < wanted and worker.status == DRAINING:
                worker.status = READY
                current += 1
        for worker in mine:
            gpus_on = sum(other.type.gpus for other in self.workers if other.status != OFF)
            if current < wanted and worker.status == OFF and gpus_on + worker.type.gpus <= self.scenario.max_gpus:
                self.start(worker, now)
                current += 1
        # Too many.
        for worker in reversed(mine):
            if current > wanted and worker.status in (STARTING, FAILED):
                worker.turn_off(now)
                current -= 1
        while current > wanted:
            ready = [worker for worker in mine if worker.status == READY]
            worker = min(ready, key=lambda w: (len(w.running) + len(w.waiting) + len(w.inbound), -w.slot))
            worker.status = DRAINING
            if worker.empty:
                worker.turn_off(now)
            current -= 1

    def seconds(self, end: float) -> list[float]:
        """Seconds from 0 to `end` that each slot was not OFF."""
        return [w.not_off_s + (0.0 if w.on_since_s is None else end - w.on_since_s) for w in self.workers]
