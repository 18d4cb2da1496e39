"""Start a real vLLM server on this machine's CPU: random weights of a given shape, as fast as trained ones.

``.venv-vllm`` holds it (``make .venv-vllm``): vLLM for CPU brings its own torch, so it has an environment of its own.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
SHAPES = Path(__file__).parent / "shapes"
# One thread per server: its time is then the CPU time of one core. Some virtual machines announce AMX and trap on it;
# float32 and this limit keep vLLM's kernels away from it.
ENVIRONMENT = {
    "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
}
_START_S = 180.0
_STOP_S = 20.0


@dataclass(frozen=True)
class ServerSettings:
    """Limits of a server, as vLLM names them; sizes in tokens."""

    shape: str = "llama-24m"
    max_model_len: int = 2048
    max_num_seqs: int = 32
    max_num_batched_tokens: int = 1024
    block_size: int = 32
    kv_cache_memory_bytes: int = 512 * 2**20
    more: tuple[str, ...] = ()

    def command(self) -> str:
        """The server's whole command line, ``{port}`` in it, as ``aladdin serve --local`` takes one."""
        return shlex.join([str(PYTHON), *self.arguments("{port}")]).replace("'{port}'", "{port}")

    def arguments(self, port: int | str) -> list[str]:
        """The server's command line after ``python``."""
        return [
            *("-m", "vllm.entrypoints.openai.api_server", "--model", str(SHAPES / self.shape)),
            *("--served-model-name", self.shape, "--load-format", "dummy", "--skip-tokenizer-init"),
            *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"),
            *("--distributed-executor-backend", "uni", "--block-size", str(self.block_size)),
            *("--max-model-len", str(self.max_model_len), "--max-num-seqs", str(self.max_num_seqs)),
            *("--max-num-batched-tokens", str(self.max_num_batched_tokens)),
            *("--kv-cache-memory-bytes", str(self.kv_cache_memory_bytes)),
            *("--disable-uvicorn-access-log", "--enable-per-request-metrics", *self.more),
        ]


class LocalServers:
    """Real servers, started together; a context manager that gives their addresses and ends them."""

    def __init__(self, settings: Sequence[ServerSettings]) -> None:
        self._settings = settings
        self._running: list[tuple[subprocess.Popen[bytes], str, Path]] = []
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> list[str]:
        if not PYTHON.exists():
            raise RuntimeError(f"{PYTHON} is missing: make .venv-vllm")
        try:
            for number, settings in enumerate(self._settings):
                self._start(settings, Path(self._folder.name) / f"server{number}.log")
            for process, url, log in self._running:
                _wait(process, url, log)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return [url for _, url, _ in self._running]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, _, _ in self._running:
            process.terminate()
        for process, _, _ in self._running:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        self._folder.cleanup()

    def _start(self, settings: ServerSettings, log: Path) -> None:
        port = _free_port()
        with log.open("wb") as file:
            process = subprocess.Popen(
                [str(PYTHON), *settings.arguments(port)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,
            )
        self._running.append((process, f"http://127.0.0.1:{port}", log))

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """The servers' processes, in order."""
        return [process for process, _, _ in self._running]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return when the server answers; its last words if it does not."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"the server did not start; it said:\n{log.read_text(errors='replace')[-3000:]}")
