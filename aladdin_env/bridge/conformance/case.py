"""What a case is, and how it tells that a router does not do what it asks."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aladdin_env.bridge.conformance.trial import Trial

PASS, FAIL, SKIP = "pass", "fail", "skip"
Run = Callable[["Trial"], Awaitable[None]]


class Failed(Exception):
    """The router does not do what the case asks; the text says in one line what it did instead."""


class NoAnswer(Failed):
    """The router closed the connection without a byte."""


class Skipped(Exception):
    """The case has nothing to say about this router; the text says why."""


@dataclass(frozen=True)
class Case:
    """One thing that a router should do.

    Attributes:
        name: Its key in all results.
        what: What is checked, a sentence.
        why: Whose convention it is, or who suffered from the fault.
        run: Tries it; raises Failed or Skipped.
        theme: Its group in tables.
    """

    name: str
    what: str
    why: str
    run: Run
    theme: str


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        case: Which one.
        verdict: PASS, FAIL or SKIP.
        reason: Why it failed or was skipped; empty where it passed.
        seconds: How long it took.
    """

    case: Case
    verdict: str
    reason: str
    seconds: float


def case(why: str) -> Callable[[Run], Case]:
    """Make a case of an async function: its name is the function's, its docstring says what is checked.

    Args:
        why: The source: a convention, or a fault that some router had.
    """

    def make(run: Run) -> Case:
        name, module = getattr(run, "__name__", ""), getattr(run, "__module__", "")
        what = " ".join((inspect.getdoc(run) or "").split())
        return Case(name, what, why, run, module.rpartition(".")[2].replace("_", " "))

    return make


def check(holds: bool, reason: str) -> None:
    """Raise Failed with the reason unless it holds."""
    if not holds:
        raise Failed(reason)
