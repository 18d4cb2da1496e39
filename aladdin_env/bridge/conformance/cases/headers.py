"""Headers: which go through, which must not, and which are the router's own business."""

from __future__ import annotations

from aladdin_env.bridge.conformance.backend import JSON, Exchange
from aladdin_env.bridge.conformance.case import case, check
from aladdin_env.bridge.conformance.scripts import whole
from aladdin_env.bridge.conformance.trial import CHAT, Trial

_SECRET = "Bearer sk-conformance-5e7d1c"
_TRACE = "0af7651916cd43dd8448eb211c80319c"
_SLO = (
    {"x-llm-d-slo-ttft-ms": "500", "x-llm-d-slo-tpot-ms": "40", "x-session-id": "session-1"},
    {"x-slo-ttft-ms": "500", "x-slo-tpot-ms": "40"},
    {"x-llm-d-slo-ttft-ms": "soon", "x-llm-d-slo-tpot-ms": "-1", "x-session-id": "\u00e9" * 300},
)


@case("convention: one id follows a request through all logs")
async def request_id_kept(trial: Trial) -> None:
    """X-Request-Id of the client reaches the backend and comes back to the client."""
    answer = await trial.ask(trial.chat(), headers={"X-Request-Id": "my-own-id-1"})
    seen = await trial.sole()
    arrived, echoed = seen.headers.get("X-Request-Id", "none"), answer.header("X-Request-Id") or "none"
    check((arrived, echoed) == ("my-own-id-1",) * 2, f"the backend sees {arrived}, the client {echoed}")


@case("convention: one id follows a request through all logs")
async def request_id_created(trial: Trial) -> None:
    """A request without X-Request-Id gets one, which backend and client both see."""
    answer = await trial.ask(trial.chat())
    seen = await trial.sole()
    arrived, echoed = seen.headers.get("X-Request-Id", "none"), answer.header("X-Request-Id") or "none"
    check(arrived == echoed != "none", f"the backend sees {arrived}, the client {echoed}")


@case("W3C Trace Context: a router on the way keeps the trace")
async def trace_kept(trial: Trial) -> None:
    """Traceparent reaches the backend with the same trace id."""
    await trial.ask(trial.chat(), headers={"traceparent": f"00-{_TRACE}-b7ad6b7169203331-01"})
    seen = await trial.sole()
    found = seen.headers.get("traceparent", "none")
    check(_TRACE in found, f"the backend sees {found}")


@case("convention: forwarded, for vLLM checks the key itself (--api-key)")
async def authorization_forwarded(trial: Trial) -> None:
    """Authorization reaches the backend unchanged."""
    await trial.ask(trial.chat(), headers={"Authorization": _SECRET})
    found = (await trial.sole()).headers.get("Authorization", "none")
    check(found == _SECRET, f"the backend sees {found}")


@case("convention: never log a key")
async def authorization_not_logged(trial: Trial) -> None:
    """What the router prints does not contain the Authorization header, not even after a failure."""
    process = trial.process

    async def fail(exchange: Exchange) -> None:
        exchange.die()

    await trial.ask(trial.chat(), headers={"Authorization": _SECRET})
    trial.script = fail
    await trial.ask(trial.chat(stream=True), headers={"Authorization": _SECRET})
    await trial.ask(b"{", headers={"Authorization": _SECRET})
    check(_SECRET.split()[1] not in process.output(), "the key stands in its log")


@case("RFC 9110, 7.6.1: what belongs to one connection ends with it")
async def hop_by_hop_removed(trial: Trial) -> None:
    """Headers of the client's connection are not forwarded, nor those that Connection names."""
    hops = {"Connection": "keep-alive, X-Hop", "X-Hop": "1", "Keep-Alive": "timeout=7", "TE": "trailers"}
    hops |= {"Proxy-Connection": "keep-alive"}
    await trial.ask(trial.chat(), headers=hops)
    seen = await trial.sole()
    passed = [name for name in hops if name != "Connection" and name in seen.headers]
    check(not passed, f"forwarded: {', '.join(passed)}")


@case("convention: SLO and session headers of llm-d; a mistake in one must not cost the request")
async def slo_headers_accepted(trial: Trial) -> None:
    """Requests with SLO and session headers are served; with nonsense in them they get an answer of 2xx or 4xx."""
    for headers in _SLO:
        answer = await trial.ask(trial.chat(), headers=headers)
        sound = answer.status == 200 or (headers is _SLO[-1] and 400 <= answer.status < 500)
        check(sound, f"{', '.join(headers)}: it answers {answer.status}")


@case("RFC 9110: a proxy forwards header fields that it does not know")
async def other_headers_pass(trial: Trial) -> None:
    """Unknown headers pass in both directions."""

    async def answer_with(exchange: Exchange) -> None:
        await exchange.reply(200, whole(CHAT), JSON | {"X-Backend-Says": "hello"})

    trial.script = answer_with
    answer = await trial.ask(trial.chat(), headers={"X-Client-Says": "hi"})
    seen = await trial.sole()
    check(seen.headers.get("X-Client-Says") == "hi", "the client's header does not reach the backend")
    check(answer.header("X-Backend-Says") == "hello", "the backend's header does not reach the client")


@case("convention: off by default, for it tells strangers the addresses inside")
async def backend_not_revealed(trial: Trial) -> None:
    """The answer's headers do not name the backend's address."""
    answer = await trial.ask(trial.chat())
    named = [name for name, value in answer.headers.items() for b in trial.grid.backends if f":{b.port}" in value]
    check(not named, f"{', '.join(named)} does")
