"""A small server that looks like vLLM from outside, for tests: started as a script, or in the test's own loop.

``POST /be`` with JSON changes how it behaves while it runs (see :class:`Behaviour`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, fields

from aiohttp import web


@dataclass
class Behaviour:
    model: str = "m"
    health: int = 200
    models: int = 200  # status of /v1/models
    body: str = ""  # of /v1/models, instead of the right one
    metrics: int = 200
    max_model_len: int = 4096
    running: int = 3
    api_key: str = ""


class FakeWorker:
    """Serves ``behaviour``; counts what it is asked in ``asked``."""

    def __init__(self, **behaviour: object) -> None:
        self.behaviour = Behaviour(**behaviour)
        self.asked: dict[str, int] = {}
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> FakeWorker:
        await self.listen(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def listen(self, port: int, host: str = "127.0.0.1") -> None:
        app = web.Application(middlewares=[self.count])
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/environment", self.environment)
        app.router.add_post("/be", self.be)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def count(self, request: web.Request, handler) -> web.StreamResponse:
        self.asked[request.path] = self.asked.get(request.path, 0) + 1
        return await handler(request)

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(status=self.behaviour.health)

    async def models(self, request: web.Request) -> web.Response:
        said = self.behaviour
        if said.api_key and request.headers.get("Authorization") != f"Bearer {said.api_key}":
            return web.Response(status=401)
        entry = {"id": said.model, "object": "model", "owned_by": "vllm", "max_model_len": said.max_model_len}
        adapter = {**entry, "id": "adapter", "parent": said.model}
        right = json.dumps({"object": "list", "data": [adapter, entry]})
        return web.Response(status=said.models, text=said.body or right, content_type="application/json")

    async def metrics(self, request: web.Request) -> web.Response:
        lines = [
            f'vllm:num_requests_running{{engine="0",model_name="m"}} {self.behaviour.running}',
            'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25',
            'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="101"} 1.0',
        ]
        return web.Response(status=self.behaviour.metrics, text="\n".join(lines) + "\n")

    async def environment(self, request: web.Request) -> web.Response:
        return web.json_response({"argv": sys.argv[1:], "pid": os.getpid(), **os.environ})

    async def be(self, request: web.Request) -> web.Response:
        wish = await request.json()
        if "exit" in wish:
            os._exit(wish["exit"])
        if "stop" in wish:  # hang: nothing is answered any more
            os.kill(os.getpid(), signal.SIGSTOP)
        for name in {field.name for field in fields(Behaviour)} & set(wish):
            setattr(self.behaviour, name, wish[name])
        return web.Response()


async def main(options: argparse.Namespace) -> None:
    print("loading weights", flush=True)
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.child:  # one that leaves the group, as a daemon does, and outlives us if it can
        sleeper = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
        print(f"child {sleeper.pid}", flush=True)
    if options.refuse:
        print("ValueError: no such model", file=sys.stderr, flush=True)
        sys.exit(3)
    await asyncio.sleep(options.slow)
    await FakeWorker(model=options.model).listen(options.port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--gpu", default="")
    parser.add_argument("--model", default="m")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--refuse", action="store_true")
    asyncio.run(main(parser.parse_args()))
