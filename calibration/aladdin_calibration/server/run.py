"""A whole calibration of one running server, from its address to a measurement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

from aladdin_calibration.measurement import Measurement, WorkerFacts
from aladdin_calibration.server.client import Client, ServerFault
from aladdin_calibration.server.company import NotAdmitted
from aladdin_calibration.server.facts import explore, go_on, greet, with_limits
from aladdin_calibration.server.metrics import Watch
from aladdin_calibration.server.plan import Configuration, Limits, Plan, configurations, limits
from aladdin_calibration.server.probes import Prober
from aladdin_calibration.server.prompts import Prompts
from aladdin_calibration.server.steps import StepLog
from aladdin_traces.errors import InputError

_LARGEST_PART = 0.2  # of the time budget that one configuration may take
_FAIR_SHARES = 2.0  # equal shares of the budget that one may take before all others had their turn
Progress = Callable[[int, int, str], None]
Approval = Callable[[str], bool]


def measure_server(
    url: str,
    plan: Plan | None = None,
    path: str | Path | None = None,
    *,
    model: str | None = None,
    api_key_env: str | None = None,
    progress: Progress | None = None,
    approve: Approval | None = None,
) -> Measurement:
    """Measure the steps of a running server from outside.

    Ctrl-C, a failing server and strangers on it end the run; with a ``path`` all that is measured is kept there, and
    the same call goes on from it.

    Args:
        url: Address of an OpenAI-compatible server that streams.
        plan: Bounds; :class:`Plan` with its defaults if None.
        path: Parquet file that is written after every configuration; None keeps nothing.
        model: Served model; None takes the first.
        api_key_env: Name of the environment variable with the API key.
        progress: Called with configurations done, their number, and what is measured now.
        approve: Asked before any load, with a sentence that says how much; False ends the run.

    Returns:
        The steps, and the facts of the worker.

    Raises:
        InputError: Address, model, key or file are not usable, or aiohttp is not installed.
        ServerFault: The server failed, cannot be measured, or serves others.
    """
    plan = plan or Plan()
    client = Client(url, model, api_key_env=api_key_env, stall_s=plan.stall_s)
    run = _Run(client, plan, path, progress, approve)
    try:
        return asyncio.run(run())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(run.ended_early) from None


class _Run:
    def __init__(
        self,
        client: Client,
        plan: Plan,
        path: str | Path | None,
        progress: Progress | None,
        approve: Approval | None,
    ) -> None:
        self._client, self._plan, self._approve = client, plan, approve
        self._path = None if path is None else Path(path)
        self._progress = progress or (lambda done, total, message: None)
        if self._path is not None and not self._path.parent.is_dir():
            raise InputError("path", str(path), "give a file in a folder that exists")
        self._kept = Measurement.load(self._path) if self._path is not None and self._path.exists() else None
        self._log = StepLog(plan, None if self._kept is None else self._kept.steps)
        self.ended_early = ""

    async def __call__(self) -> Measurement:
        plan = self._plan
        async with self._client as client:
            prompts = Prompts(client, plan.seed)
            self._progress(0, 1, f"asking {client.url}")
            greeting = await greet(client, prompts, plan)
            facts = greeting.facts
            if self._kept is not None:
                facts = go_on(facts, self._kept.facts, str(self._path))
            self._ask(facts)
            self._progress(0, 1, "looking for the server's limits")
            watch = Watch(client)
            await watch.begin()
            facts, one_step = await explore(client, prompts, plan, facts)
            if self._kept is not None:
                facts = with_limits(facts, self._kept.facts, str(self._path))
            await watch.end()
            bounds = limits(plan, facts, one_step)
            facts = _beyond(facts, bounds)
            prober = Prober(client, prompts, plan, bounds, greeting.clock, self._log)
            await prober.warm_up()
            try:
                facts = await self._measure_all(configurations(plan, bounds), prober, facts)
            except ServerFault as fault:
                raise ServerFault(f"{fault}{self._what_is_kept()}") from fault
            except asyncio.CancelledError:  # Ctrl-C
                self.ended_early = self._what_is_kept()
                raise
        if not len(self._log):
            raise ServerFault(f"no step of {client.url} could be timed within {plan.budget_s:g} s: give more time")
        return Measurement(self._log.frame, facts)

    def _ask(self, facts: WorkerFacts) -> None:
        bounds = limits(self._plan, facts)
        load = (
            f"{self._client.url} ({facts.model}): up to {bounds.batch} requests and {bounds.kv} tokens of context at "
            f"once, for about {max(1, round(self._plan.budget_s / 60))} min"
        )
        if facts.max_num_seqs is None:
            most = int(self._plan.max_batch / self._plan.max_share) + 1
            load += f", and up to {most} tiny requests for a moment to find max_num_seqs (state it to avoid that)"
        if self._approve is not None and not self._approve(load):
            raise ServerFault("nothing was measured: the load was not approved")

    async def _measure_all(self, todo: list[Configuration], prober: Prober, facts: WorkerFacts) -> WorkerFacts:
        """Measure all in rounds, so that no costly or noisy configuration takes from others their first look."""
        plan, deadline = self._plan, time.perf_counter() + self._plan.budget_s
        fair_s, largest_s = _FAIR_SHARES * plan.budget_s / len(todo), _LARGEST_PART * plan.budget_s
        kinds = ((plan.min_repeats, fair_s), (plan.min_repeats, largest_s), (plan.max_repeats, largest_s))
        rounds = [(most, most_s, c) for most, most_s in kinds for c in todo]
        refused: set[Configuration] = set()
        for done, (most, most_s, configuration) in enumerate(rounds):
            self._progress(done, len(rounds), configuration.names[-1])
            if self._log.enough(configuration.names, most):
                continue
            left, cost = deadline - time.perf_counter(), prober.cost_s(configuration)
            if cost > min(left, most_s) or configuration in refused:
                continue
            try:
                async with asyncio.timeout(left):
                    await self._measure(configuration, most, prober)
            except TimeoutError:
                break
            except NotAdmitted as refusal:
                refused.add(configuration)
                facts = facts.with_gap(f"{configuration.names[-1]}: only {refusal}")
            finally:
                self._save(self._final(facts, prober, todo))
        self._progress(len(rounds), len(rounds), "done")
        return self._final(facts, prober, todo)

    async def _measure(self, configuration: Configuration, most: int, prober: Prober) -> None:
        """Measure one configuration; nothing of it counts if strangers were on the server."""
        before, watch = len(self._log), Watch(self._client)
        await watch.begin()
        try:
            await prober.measure(configuration, most)
        except NotAdmitted:
            await watch.end()
            raise
        try:
            await watch.end()
        except ServerFault:
            self._log.drop_after(before)
            raise

    def _save(self, facts: WorkerFacts) -> None:
        if self._path is not None and len(self._log):
            Measurement(self._log.frame, facts).save(self._path)

    def _final(self, facts: WorkerFacts, prober: Prober, todo: list[Configuration]) -> WorkerFacts:
        if prober.overheads_s:
            facts = replace(facts, overhead_s=max(0.0, median(prober.overheads_s)))
        missing = [c.names[-1] for c in todo if not self._log.enough(c.names, self._plan.min_repeats)]
        if missing:
            facts = facts.with_gap(f"not measured, or not often enough: {', '.join(missing)}")
        return facts

    def _what_is_kept(self) -> str:
        if self._path is None or not len(self._log):
            return "; nothing is kept"
        return f"; {len(self._log)} steps are kept in {self._path}: the same command goes on from there"


def _beyond(facts: WorkerFacts, bounds: Limits) -> WorkerFacts:
    """The facts with what the bounds leave out."""
    facts = facts.with_gap(f"batches above {bounds.batch} requests")
    return facts.with_gap(f"prompts above {bounds.prompt} tokens")
