"""Request logs that the simulator made itself, of servers whose laws are known."""

from __future__ import annotations

import numpy as np

from aladdin_calibration.request_log import EngineLimits, RequestLog
from aladdin_calibration.request_log.parameters import Laws
from aladdin_env.simulator.replay import Replay
from aladdin_traces import Poisson, Trace, Workload

#: About Llama-3.1-8B on an A100.
LAWS = Laws(5.1e-5, 9.7e-3, 0.0, 0.0, 8.3e-8, 3.8e-5, 11.4e-3, 8e-3, 15e-3)
LIMITS = EngineLimits(max_num_seqs=64, max_num_batched_tokens=2048)
AMPLE = 400_000


def workload(requests: int, rate_rps: float, seed: int = 0) -> Trace:
    drawn = Workload.generated(Poisson(rate_rps), "sharegpt").sample(
        np.random.default_rng(seed), 3 * requests / rate_rps
    )
    columns = (drawn.arrival_s, drawn.prompt_tokens, drawn.output_tokens)
    return Trace.from_arrays(*(column[:requests] for column in columns))


def served(trace: Trace, kv_tokens: int, laws: Laws = LAWS, noise: float = 0.01, seed: int = 0) -> RequestLog:
    """What a server with these laws logs, every span off by a factor around 1."""
    out = Replay(trace, LIMITS.worker()).run(laws.row(LIMITS.max_num_seqs), kv_tokens // LIMITS.block_size)
    factor = np.exp(np.random.default_rng(seed).normal(0.0, noise, (2, len(trace))))
    first = trace.arrival_s + (out.first_token_s - trace.arrival_s) * factor[0]
    last = first + (out.finish_s - out.first_token_s) * factor[1]
    return RequestLog.from_arrays(trace.arrival_s, first, last, trace.prompt_tokens, trace.output_tokens)
