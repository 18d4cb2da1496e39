"""Two policies of one's own, one in plain Python and one compiled, next to those that ship.

Run it with ``python examples/custom_policy.py``. A policy gets a name of its own on the command line by an entry point:
see ``examples/policy_package``.
"""

from __future__ import annotations

import numpy as np

from aladdin_agents.placements import make_aladdin, make_least_request, make_round_robin
from aladdin_env import SLO, Fleet, Scenario, WorkerType, Workload
from aladdin_env.policy import placement_kernel
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.state import HOLD, Array
from aladdin_env.view import ClusterView, RequestView
from aladdin_traces import LENGTHS, Poisson


class LongPromptsApart:
    """Keeps the first worker for long prompts; everything else joins the shortest queue of the others."""

    name = "long_prompts_apart"

    def __init__(self, long_tokens: int = 2000) -> None:
        self.long_tokens = long_tokens
        self.late = 0

    def place(self, view: ClusterView, request: RequestView) -> int:
        """A slot among the candidates."""
        candidates = view.candidates(request)
        if request.prompt_tokens < self.long_tokens and len(candidates) > 1:
            candidates = candidates[1:]
        else:
            candidates = candidates[:1]
        workers = view.workers[candidates]
        return int(candidates[np.argmin(workers["running"] + workers["waiting"])])

    def on_first_token(self, view: ClusterView, request: RequestView, time_s: float) -> None:
        """An optional hook: count late first tokens."""
        self.late += time_s - request.arrival_s > view.slo[request.klass, 0]


@placement_kernel("least_queued_prompt")
def least_queued_prompt(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """The candidate with the fewest prompt tokens in its queue; the fewest running requests in ties."""
    best = HOLD
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            here = (workers[w].waiting_prefill_tokens, workers[w].running)
            if best == HOLD or here < (workers[best].waiting_prefill_tokens, workers[best].running):
                best = w
    return best


def main() -> None:
    """Compare them on one episode."""
    scenario = Scenario(
        "custom",
        Workload.generated(Poisson(56.0), LENGTHS["azure-conv"]),
        Fleet((WorkerType("h100", "llama-3.1-8b-h100-tp1", initial=3, minimum=3, maximum=3),)),
        slo=SLO(ttft_s=1.0, atgt_s=0.03),
        horizon_s=40.0,
    )
    simulator = Simulator(scenario, seed=1)
    mine = LongPromptsApart()
    made = (make_round_robin(scenario), make_least_request(scenario), make_aladdin(scenario))
    print(f"{'policy':20s} attainment  TTFT p99    ATGT p99")
    for policy in (mine, least_queued_prompt, *made):
        found = simulator.run(policy).summary
        times = f"{found['ttft_p99_s']:7.3f} s  {1000 * found['atgt_p99_s']:7.1f} ms"
        print(f"{policy.name:20s} {found['slo_attainment']:10.3f} {times}")
    print(f"{mine.name} saw {mine.late} late first tokens")


if __name__ == "__main__":
    main()
