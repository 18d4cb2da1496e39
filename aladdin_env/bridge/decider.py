"""Who decides: the policy that is served, the one it is compared with, and those that step in when it fails.

``active``: the policy decides. ``canary``: it decides for a share of the requests, drawn by their coins, and the
baseline for the others. ``shadow``: the baseline decides, and the policy is asked what it would have done. Whenever the
policy raises, names a worker that cannot take the request, or takes longer than its deadline, the next one of the
fallbacks decides, and it is counted why. A policy that is too slow three times in a row is left out for a while: a
deadline that is found to have passed has passed already.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.errors import InputError
from aladdin_env.policy import HOLD, Combined, make_policy
from aladdin_env.scenario import Scenario

SHADOW, CANARY, ACTIVE = "shadow", "canary", "active"
MODES = (SHADOW, CANARY, ACTIVE)
#: What steps in, in this order.
FALLBACKS = ("aladdin", "least_request")
_DEADLINE_S = 0.002
_SLOW_IN_A_ROW, _LEFT_OUT_S = 3, 10.0
_log = logging.getLogger(__name__)


class Decision(NamedTuple):
    """What is to be done with a request.

    Attributes:
        answer: A slot, HOLD or REJECT.
        by: Name of the policy that decided.
        shadow: What the policy that does not act would have done; None: it was not asked, or failed.
        seconds: How long it took, all policies asked included.
    """

    answer: int
    by: str
    shadow: int | None
    seconds: float


class Decider:
    """Asks policies about a live cluster.

    Args:
        cluster: Whose requests are to be placed.
        policy: The policy that is served.
        baseline: Who decides in its place under ``shadow`` and for most requests under ``canary``.
        fell_back: Told why each time that somebody else had to decide.
        mode: Of :data:`MODES`.
        canary: Share of the requests that the policy decides under ``canary``, 0 to 1.
        deadline_s: Longest decision, seconds.
        clock: Seconds.
    """

    def __init__(
        self,
        cluster: LiveCluster,
        policy: Combined,
        baseline: Combined,
        fell_back: Callable[[str], None],
        *,
        mode: str = ACTIVE,
        canary: float = 0.1,
        deadline_s: float = _DEADLINE_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._cluster = cluster
        self._scenario = cluster.view.scenario
        self._fell_back = fell_back
        self._clock = clock
        self._slow = 0
        self._left_out_until_s = -float("inf")
        self.deadline_s = deadline_s
        self.baseline = baseline
        self.fallbacks = fallbacks(self._scenario)
        self.policy = policy
        self.mode, self.canary = mode, canary
        self.set_mode(mode, canary)

    def set_mode(self, mode: str, canary: float | None = None) -> None:
        """Change who decides.

        Raises:
            InputError: there is no such mode, or no such share.
        """
        if mode not in MODES:
            raise InputError("mode", mode, f"choose one of {', '.join(MODES)}")
        if canary is not None and not 0.0 <= canary <= 1.0:
            raise InputError("canary", canary, "give a share of the requests, 0 to 1")
        self.mode = mode
        self.canary = self.canary if canary is None else canary

    def exchange(self, policy: Combined) -> None:
        """Serve another policy from now on."""
        for hook in policy.hooks("reset"):
            hook(self._scenario)
        self.policy = policy
        self._slow = 0
        self._left_out_until_s = -float("inf")

    def decide(self, row: int, coin: float, now_s: float, avoid: Sequence[int] = ()) -> Decision:
        """Where a request goes; nothing is carried out.

        Args:
            row: The request.
            coin: Its uniform number.
            now_s: Seconds since the bridge began.
            avoid: Slots that have failed it; only where there is no other they are candidates.
        """
        if not avoid:
            return self._decide(row, coin, now_s)
        with self._cluster.without(avoid):
            return self._decide(row, coin, now_s)

    def _decide(self, row: int, coin: float, now_s: float) -> Decision:
        start = self._clock()
        if not self._cluster.accepts(row):
            return Decision(HOLD, "no worker", None, self._clock() - start)
        if self.mode == ACTIVE or (self.mode == CANARY and coin < self.canary):
            answer, by = self._by_policy(row, now_s)
            return Decision(answer, by, None, self._clock() - start)
        answer, by = self._first_of((self.baseline, *self.fallbacks), row, now_s)
        shadow = self._asked_quietly(row, now_s) if self.mode == SHADOW else None
        return Decision(answer, by, shadow, self._clock() - start)

    def _by_policy(self, row: int, now_s: float) -> tuple[int, str]:
        start = self._clock()
        if start < self._left_out_until_s:
            self._fell_back("slow")
            return self._first_of(self.fallbacks, row, now_s)
        try:
            answer = self._cluster.ask(self.policy, row, now_s)
        except Exception as error:
            self._report(self.policy, error)
            return self._first_of(self.fallbacks, row, now_s)
        if self._was_in_time(start):
            return answer, self.policy.name
        self._fell_back("deadline")
        return self._first_of(self.fallbacks, row, now_s)

    def _was_in_time(self, start: float) -> bool:
        """Whether the policy's answer has come within its deadline; it is left out after too many that have not."""
        if self._clock() - start <= self.deadline_s:
            self._slow = 0
            return True
        self._slow += 1
        if self._slow >= _SLOW_IN_A_ROW:
            self._slow = 0
            self._left_out_until_s = self._clock() + _LEFT_OUT_S
        return False

    def _first_of(self, policies: Sequence[Combined], row: int, now_s: float) -> tuple[int, str]:
        """The answer of the first that has one; HOLD where none has."""
        for policy in policies:
            try:
                return self._cluster.ask(policy, row, now_s), policy.name
            except Exception as error:
                self._report(policy, error)
        return HOLD, "nobody"

    def _asked_quietly(self, row: int, now_s: float) -> int | None:
        """What the policy would do; None where it fails, or is left out as too slow: requests wait for it here, too."""
        start = self._clock()
        if start < self._left_out_until_s:
            return None
        try:
            answer = self._cluster.ask(self.policy, row, now_s)
        except Exception as error:
            self._report(self.policy, error)
            return None
        self._was_in_time(start)
        return answer

    def _report(self, policy: Combined, error: Exception) -> None:
        self._fell_back("bad answer" if isinstance(error, InputError) else "exception")
        _log.warning("policy %s failed: %s: %s", policy.name, type(error).__name__, error)


def fallbacks(scenario: Scenario) -> tuple[Combined, ...]:
    """Those that step in, as far as they are installed."""
    found = []
    for name in FALLBACKS:
        try:
            found.append(make_policy(name, scenario))
        except InputError:
            _log.info("no policy %s to fall back on", name)
    return tuple(found)
