"""Split "test": to report, never to choose or to tune by."""

from __future__ import annotations

from aladdin_agents.benchmark import fleets as on
from aladdin_agents.benchmark.fleets import MANY_SLOTS, one_type, three_types
from aladdin_agents.benchmark.laws import CHATS, CODE, CONVERSATIONS, MIXED_TEST, RAG, reasoning_clients, requests
from aladdin_env.presets import SLOW_COLD_START
from aladdin_env.scenario import Failures
from aladdin_traces import WORKLOADS, Diurnal, Flood, Mmpp, OnOff, Poisson

_PRICES = (0.8, 2.4, 4.4)
_CODE_DAY = "azure-code-weekday"
_CONVERSATION_BURSTS = WORKLOADS["azure-conv"].with_rate(18.2)

JOINT = (
    one_type(
        "steady", "Answers from retrieved passages at a constant rate, Llama-3.1-8B on A100.",
        requests(Poisson(14.0), RAG), on.CODE_8B_A100, 4, 3600.0,
    ),
    one_type(
        "bursty", "Code completion in bursts, as in Azure's trace: Llama-3.1-8B on A100.",
        requests(OnOff(on_rate_rps=20.0, on_cv=2.0), CODE), on.CODE_8B_A100, 10, 3600.0,
    ),
    one_type(
        "diurnal", "A programmers' day from noon, with spikes, in 90 minutes: passages, Llama-2-13B on two A100.",
        requests(Diurnal(8.0, _CODE_DAY, 0.1, start_s=2700.0, period_s=5400.0, spike_share=0.02), RAG),
        on.CHAT_13B_A100X2, 6, 5400.0,
    ),
    one_type(
        "flood", "Eight times the rate for 100 s every 20 minutes: conversations, Llama-3.1-8B on A100.",
        requests(Flood(5.0, 40.0, 1200.0, 100.0), CONVERSATIONS), on.CHAT_8B_A100, 12, 4800.0,
    ),
    one_type(
        "lengths", "Clients of a model that reasons, answers of thousands of tokens: Llama-3.1-8B on H100.",
        reasoning_clients(6.0), on.REASONING_8B_H100, 5, 3600.0,
    ),
    three_types(
        "types", "A day of conversations from 6 a.m. in 80 minutes on A100, H100 and H200, dear H200: Llama-2-13B.",
        requests(Diurnal(12.0, noise_sd=0.15, start_s=1200.0, period_s=4800.0), MIXED_TEST), _PRICES, (2, 2, 2), 4800.0,
    ),
    one_type(
        "slow-start", "A working day in two hours on workers that take minutes to start: Llama-3.1-70B on four A100.",
        requests(Diurnal(5.0, _CODE_DAY, 0.15, start_s=2100.0, period_s=7200.0), CONVERSATIONS), on.CHAT_70B_A100X4,
        4, 7200.0, cold_start=SLOW_COLD_START,
    ),
    one_type(
        "failures", "Workers that fail every 20 minutes: passages, Llama-3.1-8B on A100.",
        requests(Diurnal(12.0, noise_sd=0.2, start_s=18 * 3600.0), RAG), on.CODE_8B_A100, 5, 3600.0,
        failures=Failures(1200.0),
    ),
    one_type(
        "large", "Up to 64 workers, a day of conversations from noon in an hour: passages, Llama-2-13B on A100.",
        requests(Diurnal(18.0, noise_sd=0.15, start_s=1800.0, period_s=3600.0), RAG), on.CHAT_13B_A100, 24, 3600.0,
        slots=MANY_SLOTS,
    ),
)  # fmt: skip

PLACEMENT = (
    one_type(
        "steady", "Answers from retrieved passages at the rate that the fleet holds, Llama-3.1-8B on A100.",
        requests(Poisson(33.8), RAG), on.CODE_8B_A100, 8, 600.0,
    ),
    one_type(
        "bursty", "Conversations with the bursts of Azure's trace, Llama-2-13B on A100.",
        _CONVERSATION_BURSTS, on.CHAT_13B_A100, 12, 900.0,
    ),
    one_type(
        "diurnal", "A day of conversations from 6 a.m. in 15 minutes: passages, Llama-2-13B on two A100.",
        requests(Diurnal(14.3, noise_sd=0.15, start_s=225.0, period_s=900.0), RAG), on.CHAT_13B_A100X2, 9, 900.0,
    ),
    one_type(
        "flood", "Three times the rate for 20 s every five minutes: conversations, Llama-3.1-8B on A100.",
        requests(Flood(20.0, 60.0, 300.0, 20.0).with_rate(15.4), CONVERSATIONS), on.CHAT_8B_A100, 8, 900.0,
    ),
    one_type(
        "lengths", "Few very long prompts among short ones, in bursts: Llama-2-13B on two A100.",
        requests(Mmpp((10.0, 20.0, 40.0), (60.0, 60.0, 5.0)).with_rate(14.2), MIXED_TEST), on.CHAT_13B_A100X2, 7, 900.0,
    ),
    three_types(
        "types", "Few very long prompts among short ones on A100, H100 and H200, Llama-2-13B.",
        requests(Poisson(24.3), MIXED_TEST), _PRICES, (2, 3, 3), 600.0,
    ),
    one_type(
        "slow-start", "Workers that fail every 40 minutes and take minutes to start again: Llama-3.1-70B on four A100.",
        requests(Poisson(0.9 * 13.1), RAG), on.CHAT_70B_A100X4, 10, 1200.0,
        cold_start=SLOW_COLD_START, failures=Failures(2400.0),
    ),
    one_type(
        "failures", "Workers that fail every quarter of an hour: chats, Llama-2-13B on A100.",
        requests(Poisson(0.9 * 39.3), CHATS), on.CHAT_13B_A100, 9, 900.0, failures=Failures(900.0),
    ),
    one_type(
        "overload-1.15", "1.15 times what the fleet holds: passages, Llama-3.1-8B on A100.",
        requests(Poisson(1.15 * 33.8), RAG), on.CODE_8B_A100, 8, 600.0,
    ),
    one_type(
        "overload-1.4", "1.4 times what the fleet holds: few very long prompts among short ones, 13B on two A100.",
        requests(Poisson(1.4 * 20.3), MIXED_TEST), on.CHAT_13B_A100X2, 7, 600.0,
    ),
    one_type(
        "large", "64 workers at the rate that they hold: chats, Llama-2-13B on A100.",
        requests(Poisson(298.0), CHATS), on.CHAT_13B_A100, MANY_SLOTS, 120.0, slots=MANY_SLOTS,
    ),
)  # fmt: skip
