"""Packing up to a cap: AIBrix's routing policy ``slo-pack-load`` over our laws, compiled.

What AIBrix runs (vllm-project/aibrix: ``pkg/plugins/gateway/algorithms/pack_load.go`` and ``slo.go``,
``pkg/cache/pending_load_provider.go``, its issue 642) and what stands for it here:

- A profile says how many requests per second a GPU serves within the SLO, by their input and output tokens, and how
  long each takes. By Little's law the product is how many such requests it may have at once; each of them takes the
  inverse of that from the worker. A worker's utilisation is the sum over its requests, the newcomer included.
- Of the workers whose utilisation stays within the cap, 1, the one with the highest takes the request. If there is
  none, the request waits at the gateway.

Reconstruction: shares come from the latency laws, not from a table of measurements, see :func:`full_share`, and from
sums over a worker's requests, all taken at their mean lengths. An idle worker takes any request: one that no worker
could serve within the SLO would wait forever. AIBrix gives a request of a size that its profile calls hopeless no
share at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aladdin_agents.constraints import strictest_pace
from aladdin_agents.predictions import (
    batch_after,
    computed_share,
    own_prefill,
    own_squares,
    prefill_backlog,
    prefill_cost,
)
from aladdin_agents.tunable import TunableKernel
from aladdin_env.compiled import inlined
from aladdin_env.policy import placement_kernel
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.state import DECODE_ROLE, HOLD, PREFILL_ROLE, Array

#: ``cap`` is AIBrix's. The others say when a worker is full: shares of what its pace allows (``pace``; ``decode`` where
#: no prefill disturbs it), of the KV memory, of its time for prefill where it decodes too, of TTFT that may queue on a
#: prefill worker. The first two were chosen on presets under tuning seeds, the largest with which fleets that are large
#: enough hold 99 %: our laws give means, where AIBrix's profile holds its objectives at a percentile. The last three
#: are those of the scalers that react (``full_batch``).
PARAMETERS: Mapping[str, float] = {"cap": 1.0, "pace": 0.4, "decode": 0.8, "kv": 0.9, "prefill": 0.7, "queue": 0.25}
_CAP, _PACE, _DECODE, _KV, _PREFILL, _QUEUE = range(6)


@inlined
def pace_share(
    workers: Array,
    requests: Array,
    cluster: Array,
    types: Array,
    laws: Array,
    slo: Array,
    memory: Array,
    w: int,
    r: int,
) -> float:
    """What the requests of ``w`` and ``r`` take of what its pace allows.

    ``(tau(b) - tau(0)) / (p (ATGT - tau(0)))``, ``tau(b) = decode(b, b L) + b prefill(s) / m``; p is ``pace`` or
    ``decode`` of :data:`PARAMETERS`. In the paper's linear laws each request takes ``(k2 L + c2 + prefill(s) / m) /
    (p (ATGT - c3))``, whatever the others are. Also 1 where prefill takes the share ``prefill`` of the time.
    """
    kind, batch = workers[w].type_index, batch_after(workers, w)
    prompts = float(workers[w].member_prompt_tokens + requests[r].prompt_tokens)
    outputs = float(workers[w].member_predicted_tokens + requests[r].predicted_tokens)
    decoded = max(1.0, outputs / batch - 1.0)
    decode_s = law.decode_time(laws, kind, batch, prompts + 0.5 * outputs)
    stalled_s = batch * prefill_cost(types, laws, kind, prompts / batch * computed_share(cluster), decode_s) / decoded
    pace_s = decode_s + stalled_s
    empty_s = law.decode_time(laws, kind, 0, 0.0)
    used = memory[_DECODE if workers[w].role == DECODE_ROLE else _PACE]
    room_s = used * (strictest_pace(workers, requests, slo, w, r) - empty_s)
    share = (pace_s - empty_s) / room_s if room_s > 0.0 else np.inf
    return float(max(share, stalled_s / (memory[_PREFILL] * pace_s)))


@inlined
def full_share(
    workers: Array,
    requests: Array,
    cluster: Array,
    types: Array,
    laws: Array,
    slo: Array,
    memory: Array,
    w: int,
    r: int,
) -> float:
    """Utilisation of ``w`` with ``r``: the largest share of pace, of places, of KV memory; 1 is full.

    KV: every request at the mean of its first and its last size, with the law's own overhead. On a prefill worker only
    the queue counts, seconds of prefill over the share ``queue`` of TTFT.
    """
    worker, kind = workers[w], workers[w].type_index
    if worker.role == PREFILL_ROLE:
        own = own_prefill(workers, requests, w, r)
        backlog_s = prefill_backlog(workers, cluster, types, laws, w, own, own_squares(workers, requests, w, r))
        return float(backlog_s / (memory[_QUEUE] * slo[requests[r].klass, 0]))
    batch = batch_after(workers, w)
    tokens = worker.member_prompt_tokens + requests[r].prompt_tokens + batch * laws[kind, law.KV_OVERHEAD]
    tokens += 0.5 * (worker.member_predicted_tokens + requests[r].predicted_tokens)
    share = max(batch / worker.max_num_seqs, tokens / (memory[_KV] * worker.kv_blocks * worker.block_size))
    return float(max(share, pace_share(workers, requests, cluster, types, laws, slo, memory, w, r)))


@placement_kernel("pack_to_cap")
def pack_to_cap(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """The fullest worker that stays within the cap, else an idle one, else HOLD; the lowest slot in ties."""
    best = idle = HOLD
    most = 0.0
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            share = full_share(workers, requests, cluster, types, laws, slo, memory, w, r)
            if most < share <= memory[_CAP]:
                most, best = share, w
            if workers[w].members == 0 and idle == HOLD:
                idle = w
    return idle if best == HOLD else best


def make() -> TunableKernel:
    """The kernel with AIBrix's cap."""
    return TunableKernel.of(pack_to_cap, PARAMETERS)
