"""The simulator's arrays filled from live traffic, so that a policy runs on real workers unchanged.

What a client can see of a worker is what it has sent there and the tokens that came back. From them follow the counts
that policies compare. Where that is less than the simulator knows, the arrays say what an engine that admits at once
would: a request waits until its first token and decodes from then on; preemptions are not seen.
"""

from __future__ import annotations

import numpy as np

from aladdin_env.compiled import compiled
from aladdin_env.errors import InputError
from aladdin_env.policy import Combined
from aladdin_env.scenario import Scenario
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.answers import slot_answered
from aladdin_env.simulator.batch import kv_overhead, refresh_slack
from aladdin_env.simulator.lists import run_append, run_remove, wait_append, wait_remove
from aladdin_env.simulator.predictor import observe_length
from aladdin_env.simulator.requests import end_unserved
from aladdin_env.simulator.router import arrive
from aladdin_env.simulator.setup import Draws, Room, load, one, shape_of, write_static
from aladdin_env.simulator.state import FINISHED, LOST, REJECTED, RUNNING, WAITING, World, allocate
from aladdin_env.view import ClusterView, RequestView


class LiveCluster:
    """A fleet that runs elsewhere, as a policy sees it.

    Args:
        scenario: The fleet as it is: types, limits, profiles, SLO; all its first workers are taken to be READY.
        draws: The requests to come, known by their index. Of an output only what has come back is ever used.
        policy: Places the requests.
    """

    def __init__(self, scenario: Scenario, draws: Draws, policy: Combined) -> None:
        self.policy = policy
        memory = policy.kernel.memory if policy.kernel else np.zeros(0)
        self.world: World = one(allocate(1, shape_of(scenario, Room.of(scenario, draws), len(memory), log=False)), 0)
        write_static(self.world, scenario)
        load(self.world, scenario, draws, memory)
        self.world.truth["output_tokens"] = 0  # nobody can read what nobody may know
        self.view = ClusterView(self.world, scenario)
        for hook in policy.hooks("reset"):
            hook(scenario)

    @classmethod
    def warm_up(cls, scenario: Scenario, draws: Draws, policy: Combined) -> None:
        """Compile everything that will be called, on a cluster of its own: the first call of anything takes seconds."""
        cluster = cls(scenario, draws, policy)
        cluster.arrive(0, 0.0)
        if cluster.place(0, 0.0) >= 0:
            cluster.token(0, 0.0, count=2)
            cluster.finish(0, 0.0)
        else:
            cluster.reject(0, 0.0)

    def arrive(self, r: int, now_s: float) -> None:
        """Request ``r`` has arrived, ``now_s`` seconds after the start."""
        self.world.cluster[0]["now_s"] = now_s
        _arrive(self.world, r)

    def place(self, r: int, now_s: float) -> int:
        """Ask the policy where ``r`` goes, note the answer, and return it: a slot, HOLD (ask again) or REJECT.

        Raises:
            InputError: The policy named a slot that cannot take the request.
        """
        self.world.cluster[0]["now_s"] = now_s
        request = RequestView(self.view.requests, r)
        answer = slot_answered(self.policy.placement.name, self.policy.place(self.view, request))
        if answer >= 0:
            if not self.view.can_place(answer, request):
                raise InputError("policy", self.policy.name, f"it placed a request on slot {answer}, which cannot")
            _send(self.world, r, answer)
        return answer

    def token(self, r: int, now_s: float, count: int = 1) -> None:
        """``count`` more tokens of ``r`` have come back."""
        self.world.cluster[0]["now_s"] = now_s
        for _ in range(count):
            _token(self.world, r, now_s)

    def finish(self, r: int, now_s: float) -> None:
        """``r`` has its last token."""
        self._leave(r, now_s, served=True)

    def lose(self, r: int, now_s: float) -> None:
        """``r`` failed on its worker; nothing is learnt from its length."""
        self._leave(r, now_s, served=False)

    def reject(self, r: int, now_s: float) -> None:
        """``r`` was never placed and never will be."""
        self.world.cluster[0]["now_s"] = now_s
        _reject(self.world, r, now_s)

    def _leave(self, r: int, now_s: float, served: bool) -> None:
        self.world.cluster[0]["now_s"] = now_s
        _leave(self.world, r, now_s, served)


@compiled
def _arrive(world: World, r: int) -> None:
    arrive(world, r)


@compiled
def _reject(world: World, r: int, now_s: float) -> None:
    end_unserved(world, r, REJECTED, now_s)


@compiled
def _send(world: World, r: int, w: int) -> None:
    """``r`` is on its way to the queue of ``w``."""
    worker = world.workers[w]
    request = world.requests[r]
    request.worker = w
    request.status = WAITING
    worker.members += 1
    worker.member_prompt_tokens += request.prompt_tokens
    worker.member_predicted_tokens += request.predicted_tokens
    worker.waiting_prefill_tokens += request.prompt_tokens
    wait_append(world.workers, world.requests, w, r)


@compiled
def _token(world: World, r: int, now_s: float) -> None:
    """One more token of ``r``: the first ends its prefill; a later one may show a decode step not seen before."""
    request = world.requests[r]
    w = request.worker
    worker = world.workers[w]
    request.generated += 1
    if request.status == WAITING:
        _begin_decode(world, w, r, now_s)
    elif worker.decode_steps - request.joined_step < request.generated:
        worker.decode_steps += 1
        worker.context_tokens += worker.decoding
    _count_kv(world, w)


@compiled
def _begin_decode(world: World, w: int, r: int, now_s: float) -> None:
    worker = world.workers[w]
    request = world.requests[r]
    wait_remove(world.workers, world.requests, w, r)
    run_append(world.workers, world.requests, w, r)
    request.status = RUNNING
    request.admitted_s = now_s
    request.first_token_s = now_s
    request.decoding = 1
    request.computed = request.prompt_tokens
    request.joined_step = worker.decode_steps - 1
    worker.waiting_prefill_tokens -= request.prompt_tokens
    worker.decoding += 1
    worker.context_tokens += request.prompt_tokens + 1
    key = now_s - world.laws[worker.type_index, law.OVERHEAD] - world.slo[request.klass, 1] * request.joined_step
    if key < worker.slack_key_s[request.klass]:
        worker.slack_key_s[request.klass] = key
        worker.slack_owner[request.klass] = r


@compiled
def _count_kv(world: World, w: int) -> None:
    """Blocks of the running requests: each holds its prompt and all tokens but the last."""
    worker = world.workers[w]
    size = worker.block_size
    blocks = 0
    r = worker.run_head
    while r >= 0:
        request = world.requests[r]
        held = request.prompt_tokens + request.generated - 1 + kv_overhead(world, w)
        blocks += (held + size - 1) // size
        r = request.next
    worker.kv_used_blocks = blocks


@compiled
def _leave(world: World, r: int, now_s: float, served: bool) -> None:
    """``r`` leaves its worker, with its last token or without."""
    request = world.requests[r]
    cluster = world.cluster[0]
    w = request.worker
    worker = world.workers[w]
    worker.members -= 1
    worker.member_prompt_tokens -= request.prompt_tokens
    worker.member_predicted_tokens -= request.predicted_tokens
    cluster.in_flight -= 1
    if request.status == WAITING:
        wait_remove(world.workers, world.requests, w, r)
        worker.waiting_prefill_tokens -= request.prompt_tokens
    else:
        run_remove(world.workers, world.requests, w, r)
        worker.decoding -= 1
        worker.context_tokens -= request.prompt_tokens + worker.decode_steps - request.joined_step
        request.decoding = 0
        if worker.slack_owner[request.klass] == r:
            refresh_slack(world.workers, world.requests, world.laws, world.slo, w, request.klass)
        _count_kv(world, w)
    request.status = FINISHED if served else LOST
    request.finish_s = now_s
    if served:
        worker.finished += 1
        cluster.finished += 1
        observe_length(world.lengths, request.prompt_tokens, request.generated)
