"""Whether a router does what users of vLLM need: cases that run against any router.

The suite brings the backends, and so sees both sides: what a client gets, and what the router makes of it. Needs
``aladdin-env[serve]``.
"""

from __future__ import annotations

from aladdin_env.errors import InputError

try:
    from aladdin_env.bridge.conformance.case import FAIL, PASS, SKIP, Case, Outcome
    from aladdin_env.bridge.conformance.cases import CASES
    from aladdin_env.bridge.conformance.launch import PRESETS
    from aladdin_env.bridge.conformance.suite import Suite, chosen
    from aladdin_env.bridge.conformance.trial import Bounds
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("aiohttp", "multidict"):
        raise
    raise InputError(str(error.name), None, "it is missing: pip install 'aladdin-env[serve]'") from None

__all__ = ["CASES", "FAIL", "PASS", "PRESETS", "SKIP", "Bounds", "Case", "Outcome", "Suite", "chosen"]
