"""A mock of vLLM's completion server: its scheduler (V1, chunked prefill), its HTTP answers and its metrics.

Steps last as known laws say, in real time; the per-request metrics tell that time exactly, as the engine's own clock
does. It imitates vLLM 0.32 as seen over HTTP: prompts as token ids, ``ignore_eos``, ``return_token_ids``, the last
event with usage and metrics, 400 for a prompt that it does not take, a request that ends when its client hangs up,
and ``/metrics`` whose counters leave aborted requests out.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from aladdin_env.latency import DecodeLaw, PrefillLaw, law_row
from aladdin_env.simulator import laws

PREFILL = PrefillLaw.linear(1e-4, 5e-3)
DECODE = DecodeLaw.linear(4e-6, 5e-4, 8e-3)
OVERLAP_S = 0.003
_ROW = law_row(PREFILL, DECODE, OVERLAP_S, 256).reshape(1, -1)


@dataclass
class Settings:
    """How the mock behaves; ``fault`` is one of none, status, json, garbage, broken, hang, error, redirect."""

    budget: int = 256
    max_num_seqs: int = 8
    kv_tokens: int = 16384
    max_model_len: int = 1024
    per_request_metrics: bool = True
    metrics: bool = True
    token_prompts: bool = True
    extras: bool = True
    prefix_label: bool = True
    engines: int = 1
    api_key: str = ""
    model: str = "m"
    fault: str = "none"
    fault_after: int = 0  # completions that are served well before
    status: int = 503
    pace: float = 1.0  # times the laws' seconds
    strangers: int = 0  # requests of others that end with each of ours
    early_hang_ups: int = 0  # requests of others that come with each of ours and hang up before their first token
    hang_ups: int = 0  # requests of others that begin with each of ours and hang up on their first token


@dataclass(eq=False)
class Running:
    """A request in the engine."""

    prompt: int
    max_tokens: int
    done: int = 0  # prompt tokens computed
    made: int = 0
    queued: float = 0.0
    scheduled: float = -1.0
    first: float = 0.0
    last: float = 0.0
    tokens: asyncio.Queue[int] = field(default_factory=asyncio.Queue)


class MockVllm:
    """The server; ``settings`` may change while it runs, ``steps`` holds every step that it took."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = ""
        self.steps: list[tuple[float, float, int, float, float]] = []
        self.bodies: list[dict[str, object]] = []
        self.headers: list[dict[str, str]] = []
        self.waiting: deque[Running] = deque()
        self.running: list[Running] = []
        self.clock = 0.0
        self.asked = 0
        self.begun = 0
        self.finished = 0
        self.prefill_s = 0.0
        self.seen: set[str] = set()
        self.hits = 0
        self.work = asyncio.Event()

    async def engine(self) -> None:
        while True:
            if not self.waiting and not self.running:
                self.work.clear()
                await self.work.wait()
                await asyncio.sleep(0)
            await self.step()

    async def step(self) -> None:
        left = self.settings.budget
        chunks: list[tuple[Running, int]] = []
        for request in self.running:
            chunk = min(request.prompt - request.done, left) if request.done < request.prompt else min(1, left)
            chunks.append((request, chunk))
            left -= chunk
        while self.waiting and left > 0 and self.fits(self.waiting[0]):
            request = self.waiting.popleft()
            request.scheduled = self.clock
            self.running.append(request)
            chunks.append((request, min(request.prompt, left)))
            left -= chunks[-1][1]
        seconds = self.duration(chunks)
        await asyncio.sleep(seconds)
        self.clock += seconds
        for request, chunk in chunks:
            self.advance(request, chunk)

    def fits(self, request: Running) -> bool:
        held = sum(other.prompt + other.made for other in self.running)
        return len(self.running) < self.settings.max_num_seqs and held + request.prompt <= self.settings.kv_tokens

    def duration(self, chunks: list[tuple[Running, int]]) -> float:
        prompts = [(r.done, n) for r, n in chunks if r.done < r.prompt]
        decodes = [r for r, n in chunks if r.done >= r.prompt and n]
        tokens, squares = sum(n for _, n in prompts), float(sum(n * (2 * past + n) for past, n in prompts))
        batch, context = len(decodes), float(sum(r.prompt + r.made for r in decodes))
        if not decodes:
            seconds = laws.prefill_time(_ROW, 0, tokens, squares)
        elif not prompts:
            seconds = laws.decode_time(_ROW, 0, batch, context)
        else:
            seconds = laws.mixed_time(_ROW, 0, tokens, squares, batch, context)
        self.steps.append((tokens, squares, batch, context, seconds))
        return seconds * self.settings.pace

    def advance(self, request: Running, chunk: int) -> None:
        if request.done < request.prompt:
            request.done += chunk
            if request.done < request.prompt:
                return
        request.made += 1
        if request.made == 1:
            request.first = self.clock
            self.begun += 1 + self.settings.strangers + self.settings.hang_ups
        request.last = self.clock
        request.tokens.put_nowait(request.made)
        if request.made == request.max_tokens:
            self.end(request)
            self.finished += 1 + self.settings.strangers
            self.prefill_s += request.first - request.scheduled

    def end(self, request: Running) -> None:
        if request in self.running:
            self.running.remove(request)
        if request in self.waiting:
            self.waiting.remove(request)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.asked += 1 + self.settings.strangers + self.settings.hang_ups + self.settings.early_hang_ups
        self.headers.append(dict(request.headers))
        fault = self.settings.fault if len(self.bodies) > self.settings.fault_after else "none"
        refused = self.refusal(body, fault)
        if refused is not None:
            return refused
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        if fault == "garbage":
            await response.write(b"data: <html>\n\n")
            return response
        if fault == "error":
            await response.write(b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n')
            return response
        await self.stream(body, response, fault)
        return response

    def refusal(self, body: dict[str, object], fault: str) -> web.Response | None:
        settings, prompt = self.settings, body["prompt"]
        if fault == "status":
            return said(settings.status, "overloaded")
        if fault == "redirect":
            return web.Response(status=307, headers={"Location": self.url + "/elsewhere"})
        if fault == "json":
            return web.json_response({"choices": [{"text": "hello"}]})
        if isinstance(prompt, list) and not settings.token_prompts:
            return said(400, "prompt must be a string")
        if "ignore_eos" in body and not settings.extras:
            return said(422, "extra fields not permitted")
        if body["model"] != settings.model:
            return said(404, f"The model {body['model']} does not exist")
        return None

    async def stream(self, body: dict[str, object], response: web.StreamResponse, fault: str) -> None:
        prompt, most = body["prompt"], int(str(body["max_tokens"]))
        tokens = len(prompt) if isinstance(prompt, list) else len(str(prompt).split())
        known = json.dumps(prompt)
        self.hits += tokens if known in self.seen else 0
        self.seen.add(known)
        running = Running(tokens, most, queued=self.clock)
        self.waiting.append(running)
        self.work.set()
        try:
            for number in range(most):
                await running.tokens.get()
                if number and fault == "broken":
                    return
                if number and fault == "hang":
                    await asyncio.sleep(60)
                choice = {"index": 0, "text": "x", "finish_reason": "length" if number + 1 == most else None}
                if self.settings.extras:
                    choice["token_ids"] = [7]
                await event(response, {"choices": [choice]})
            usage = {"prompt_tokens": tokens, "completion_tokens": most, "total_tokens": tokens + most}
            await event(response, {"choices": [], "usage": usage, **self.metrics_of(running)})
            await response.write(b"data: [DONE]\n\n")
        finally:
            self.end(running)

    def metrics_of(self, request: Running) -> dict[str, object]:
        if not self.settings.per_request_metrics:
            return {}
        generation = request.last - request.first
        times = {
            "time_to_first_token_ms": 1e3 * (request.first - request.scheduled),
            "generation_time_ms": 1e3 * generation,
            "queue_time_ms": 1e3 * (request.scheduled - request.queued),
            "mean_itl_ms": 1e3 * generation / (request.made - 1) if request.made > 1 else None,
        }
        return {"metrics": times}

    async def models(self, request: web.Request) -> web.Response:
        if self.settings.api_key and request.headers.get("Authorization") != f"Bearer {self.settings.api_key}":
            return said(401, "Unauthorized")
        entry = {"id": self.settings.model, "owned_by": "vllm", "max_model_len": self.settings.max_model_len}
        return web.json_response({"object": "list", "data": [entry]})

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.32.0"})

    async def metrics(self, request: web.Request) -> web.Response:
        if not self.settings.metrics:
            raise web.HTTPNotFound
        cache = f'block_size="16",num_gpu_blocks="{self.settings.kv_tokens // 16 + 1}"'  # with the null block
        if self.settings.prefix_label:
            cache += ',enable_prefix_caching="False"'
        lines = [
            f'vllm:num_requests_running{{engine="0"}} {len(self.running)}',
            f'vllm:num_requests_waiting{{engine="0"}} {len(self.waiting)}',
            f'http_requests_total{{handler="/v1/completions",method="POST",status="2xx"}} {self.asked}',
            'http_requests_total{handler="/metrics",method="GET",status="2xx"} 1000',
            "# TYPE vllm:time_to_first_token_seconds histogram",
            f'vllm:time_to_first_token_seconds_count{{engine="0"}} {self.begun}',
            f'vllm:request_success_total{{engine="0",finished_reason="length"}} {self.finished}',
            f'vllm:prefix_cache_hits_total{{engine="0"}} {self.hits}',
            "# TYPE vllm:request_prefill_time_seconds histogram",
            f'vllm:request_prefill_time_seconds_count{{engine="0"}} {self.finished}',
            f'vllm:request_prefill_time_seconds_sum{{engine="0"}} {self.prefill_s}',
            f'vllm:cache_config_info{{engine="0",{cache}}} 1.0',
        ]
        lines += [f'vllm:num_requests_running{{engine="{number}"}} 0' for number in range(1, self.settings.engines)]
        return web.Response(text="\n".join(lines) + "\n")

    async def serve(self, up: threading.Event, down: asyncio.Event) -> None:
        app = web.Application()
        app.router.add_post("/v1/completions", self.completions)
        for path, answer in (("/v1/models", self.models), ("/version", self.version), ("/metrics", self.metrics)):
            app.router.add_get(path, answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        engine = asyncio.create_task(self.engine())
        up.set()
        await down.wait()
        engine.cancel()
        await runner.cleanup()


async def event(response: web.StreamResponse, data: dict[str, object]) -> None:
    await response.write(b"data: " + json.dumps(data).encode() + b"\n\n")


def said(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


@contextmanager
def serving(**settings: object) -> Iterator[MockVllm]:
    """The mock on a free port of this machine, in a thread of its own."""
    mock, up = MockVllm(Settings(**settings)), threading.Event()
    loop, down = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(mock.serve(up, down)))
    thread.start()
    try:
        assert up.wait(10)
        yield mock
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join(10)
        loop.close()
