"""What passes between the compiled core and policies in Python: their answers, checked, and the events they hear of."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aladdin_env.errors import InputError
from aladdin_env.simulator.fleet import scale_type
from aladdin_env.simulator.state import LOG_WORKER_LOST, WORKER_STATUS, World
from aladdin_env.view import ClusterView, RequestView

#: Methods of a policy that are called after the event of the same name, in the order of the core's log entries.
HOOKS = ("on_first_token", "on_finish", "on_worker_lost")


def slot_answered(policy: str, answer: object) -> int:
    """The answer of a placement as an integer; whether the slot may take the request is the core's to say.

    Raises:
        InputError: it is no integer.
    """
    try:
        return operator.index(answer)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"answer of policy {policy!r}", answer, "return a slot, HOLD (-1) or REJECT (-2)") from None


def bad_slot(policy: str, world: World, view: ClusterView) -> InputError:
    """The error for an answer that the core has refused."""
    control = world.control[0]
    slot, r = int(control["error_slot"]), int(control["asked"])
    candidates = view.candidates(RequestView(view.requests, r)).tolist()
    known = 0 <= slot < len(world.workers)
    why = f"it is {WORKER_STATUS[int(world.workers[slot]['status'])]}" if known else "there is no such slot"
    return InputError(
        f"slot from policy {policy!r} for request {r} at {view.now_s:.3f} s",
        slot,
        f"{why}; choose one of {candidates}, HOLD (-1) or REJECT (-2)",
    )


def carry_out_scaling(policy: str, wanted: object, world: World) -> None:
    """Move every worker type toward the wanted number of workers; None changes nothing.

    Raises:
        InputError: it is no list of as many whole numbers as there are worker types.
    """
    if wanted is None:
        return
    types = len(world.types)
    try:
        counts = [operator.index(workers) for workers in wanted]  # type: ignore[attr-defined]
    except TypeError:
        counts = []
    if len(counts) != types:
        mend = f"give {types} whole numbers, one per worker type, or None"
        raise InputError(f"scale decision of policy {policy!r}", wanted, mend)
    for kind, workers in enumerate(counts):
        scale_type(world, kind, max(workers, 0))


def tell(hooks: Mapping[str, Sequence[Callable[..., None]]], world: World, view: ClusterView) -> None:
    """Tell policies what has happened since they were last told, in order. Arguments: view, request or slot, time."""
    control = world.control[0]
    for entry in world.log[: int(control["log_count"])]:
        kind, time_s = int(entry["kind"]), float(entry["time_s"])
        for hook in hooks[HOOKS[kind]]:
            what: Any = int(entry["worker"])
            if kind != LOG_WORKER_LOST:
                what = RequestView(view.requests, int(entry["request"]))
            hook(view, what, time_s)
    control["log_count"] = 0
