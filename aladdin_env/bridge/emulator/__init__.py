"""A worker that costs no GPU: vLLM's HTTP interface with the timing of the simulator.

``async with EmulatedServer(EmulatorSettings(kind)) as server`` serves the worker type ``kind`` on a free port of this
machine until the block ends; ``aladdin worker`` does the same as a program. Requests are real and tokens stream, but
what an answer says is made up, and when it comes is what the simulator's scheduler and the latency profile say.
"""

from __future__ import annotations

from aladdin_env.errors import InputError

try:
    from aladdin_env.bridge.emulator.server import EmulatedServer, run
    from aladdin_env.bridge.emulator.settings import EmulatorSettings, Faults
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("aiohttp", "prometheus_client"):
        raise
    raise InputError(str(error.name), None, "it is missing: pip install 'aladdin-env[serve]'") from None

__all__ = ["EmulatedServer", "EmulatorSettings", "Faults", "run"]
