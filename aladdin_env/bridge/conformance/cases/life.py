"""Whether the router lives, and how it leaves. The last case ends the router: it stays the last."""

from __future__ import annotations

import asyncio

from aladdin_env.bridge.conformance.backend import Exchange
from aladdin_env.bridge.conformance.case import Skipped, case, check
from aladdin_env.bridge.conformance.scripts import DONE, piece
from aladdin_env.bridge.conformance.trial import CHAT, Trial

_WORDS = 5
_MADE_UP = 10


@case("convention: what load balancers and Kubernetes ask")
async def health(trial: Trial) -> None:
    """GET and HEAD /health answer 200, the latter without a body."""
    for method in ("GET", "HEAD"):
        answer = await trial.ask(b"", "/health", method=method)
        check(answer.status == 200, f"{method} answers {answer.status}")
        check(method == "GET" or not answer.body, "HEAD has a body")


async def _metrics(trial: Trial) -> str:
    """The router's own metrics; Skipped where it has none on its port."""
    answer = await trial.ask(b"", "/metrics", method="GET")
    if answer.status != 200:
        raise Skipped(f"it has no /metrics on its port ({answer.status})")
    return answer.body.decode(errors="replace")


def _of_engines(metrics: str) -> list[str]:
    return [line.partition("{")[0] for line in metrics.splitlines() if line.startswith("vllm:")]


@case("convention: series called vllm: are an engine's; from a router they count an engine twice, or only one of many")
async def metrics_are_its_own(trial: Trial) -> None:
    """GET /metrics of the router holds no series called vllm:."""
    await trial.ask(trial.chat())
    found = _of_engines(await _metrics(trial))
    check(not found, f"it gives {', '.join(found[:2])}")


@case("convention: capped label cardinality; a label that clients choose fills the memory of all that scrape")
async def metrics_stay_small(trial: Trial) -> None:
    """Models, sessions and paths that clients make up do not become labels of the router's metrics."""
    if _of_engines(await _metrics(trial)):
        raise Skipped("its /metrics are those of a backend")
    marks = [trial.mark() for _ in range(_MADE_UP)]
    for mark in marks:
        await trial.ask(trial.chat(mark, model=f"model-{mark}"), headers={"x-session-id": f"session-{mark}"})
        await trial.ask(b"", f"/path/{mark}", method="GET")
    text = await _metrics(trial)
    found = [line for line in text.splitlines() if any(mark in line for mark in marks)]
    check(not found, f"{len(found)} series for {_MADE_UP} made-up names, such as {found[0][:80] if found else ''}")


@case("known fault: no drain, so that each update of the router cuts off its streams")
async def shutdown_drains(trial: Trial) -> None:
    """On SIGTERM the router completes a stream that runs, then it ends."""
    process = trial.process
    go_on = trial.gate()

    async def stream_on(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(piece(CHAT, "first"))
        await go_on.wait()
        for _ in range(_WORDS):
            await exchange.send(piece(CHAT, "word"))
            await asyncio.sleep(0.1)
        await exchange.send(DONE)

    trial.script = stream_on
    wire = await trial.open(trial.chat(stream=True))
    await wire.until(b"first", trial.bounds.answer_s)
    process.terminate()
    await asyncio.sleep(0.5)
    go_on.set()
    answer = await wire.answer(trial.bounds.answer_s)
    check(answer.body.endswith(DONE) and not answer.broken, "the stream was cut off")
    check(answer.body.count(b"word") == _WORDS, "the stream lacks some of its chunks")
    left = await trial.waited(lambda: not process.is_alive, trial.bounds.recovery_s)
    check(left, f"it still runs {trial.bounds.recovery_s:g} s later")
