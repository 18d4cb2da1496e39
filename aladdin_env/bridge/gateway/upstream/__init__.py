"""HTTP to workers, as lean as a router needs it: kept connections, bytes as they come, nothing decoded."""

from aladdin_env.bridge.gateway.upstream.answer import Answer
from aladdin_env.bridge.gateway.upstream.connection import Unanswered
from aladdin_env.bridge.gateway.upstream.pool import Upstream

__all__ = ["Answer", "Unanswered", "Upstream"]
