"""Split "validate": to choose between agents and to stop their training; other loads than those of the training."""

from __future__ import annotations

from aladdin_agents.benchmark import fleets as on
from aladdin_agents.benchmark.fleets import MANY_SLOTS, one_type, three_types
from aladdin_agents.benchmark.laws import CODE, CONVERSATIONS, LANGUAGE, MIXED_VALIDATE, language_clients, requests
from aladdin_env.presets import SLOW_COLD_START
from aladdin_env.scenario import Failures
from aladdin_traces import Diurnal, Flood, GammaRenewal, OnOff, Poisson

_PRICES = (1.0, 3.4, 3.7)
_CODE_DAY = "azure-code-weekday"

JOINT = (
    one_type(
        "steady", "Code completion at a constant rate, Llama-3.1-8B on A100.",
        requests(Poisson(16.0), CODE), on.CODE_8B_A100, 4, 3600.0,
    ),
    one_type(
        "bursty", "Minutes of load, minutes of silence: long and short prompts, Llama-3.1-8B on A100.",
        requests(OnOff(90.0, 60.0, 16.0, 2.0), MIXED_VALIDATE), on.CHAT_8B_A100, 7, 3600.0,
    ),
    one_type(
        "diurnal", "A programmers' day from midnight in two hours: conversations, Llama-2-13B on A100.",
        requests(Diurnal(7.0, _CODE_DAY, 0.1, period_s=7200.0), CONVERSATIONS), on.CHAT_13B_A100, 4, 7200.0,
    ),
    one_type(
        "flood", "Five times the rate for three minutes every fifteen: Llama-3.1-8B on A100.",
        requests(Flood(5.0, 25.0, 900.0, 180.0), LANGUAGE), on.DOCUMENTS_8B_A100, 9, 3600.0,
    ),
    one_type(
        "lengths", "Clients with lengths and rhythms of their own, Llama-3.1-8B on A100.",
        language_clients(10.0), on.DOCUMENTS_8B_A100, 4, 3600.0,
    ),
    three_types(
        "types", "A programmers' day in 100 minutes on A100, H100 and H200, cheap A100: Llama-2-13B.",
        requests(Diurnal(12.0, _CODE_DAY, 0.1, period_s=6000.0), CONVERSATIONS), _PRICES, (2, 1, 1), 6000.0,
    ),
    one_type(
        "slow-start", "A programmers' day from noon in two hours, slow to start: Llama-2-70B on two H200.",
        requests(Diurnal(10.0, _CODE_DAY, 0.1, start_s=3600.0, period_s=7200.0), MIXED_VALIDATE), on.CHAT_70B_H200X2,
        6, 7200.0, cold_start=SLOW_COLD_START,
    ),
    one_type(
        "failures", "Workers that fail every half hour: code completion, Llama-3.1-8B on A100.",
        requests(Diurnal(14.0, noise_sd=0.3, start_s=9 * 3600.0), CODE), on.CODE_8B_A100, 5, 3600.0,
        failures=Failures(1800.0),
    ),
    one_type(
        "large", "Up to 64 workers, a programmers' day in an hour: conversations, Llama-2-13B on A100.",
        requests(Diurnal(24.0, _CODE_DAY, 0.1, period_s=3600.0), CONVERSATIONS), on.CHAT_13B_A100, 12, 3600.0,
        slots=MANY_SLOTS,
    ),
)  # fmt: skip

PLACEMENT = (
    one_type(
        "steady", "Code completion at the rate that the fleet holds, Llama-3.1-8B on A100.",
        requests(Poisson(31.6), CODE), on.CODE_8B_A100, 8, 600.0,
    ),
    one_type(
        "bursty", "Bursts of seconds: long and short prompts, Llama-3.1-8B on A100.",
        requests(OnOff(20.0, 10.0, 30.0, 2.0).with_rate(19.4), MIXED_VALIDATE), on.CHAT_8B_A100, 8, 900.0,
    ),
    one_type(
        "diurnal", "A programmers' day in a quarter of an hour: conversations, Llama-2-13B on A100.",
        requests(Diurnal(7.6, _CODE_DAY, 0.1, period_s=900.0), CONVERSATIONS), on.CHAT_13B_A100, 10, 900.0,
    ),
    one_type(
        "flood", "Twice the rate for 40 s every four minutes: Llama-3.1-8B on A100.",
        requests(Flood(16.0, 32.0, 240.0, 40.0).with_rate(23.3), LANGUAGE), on.DOCUMENTS_8B_A100, 8, 900.0,
    ),
    one_type(
        "lengths", "Clients with lengths and rhythms of their own, Llama-3.1-8B on A100.",
        language_clients(21.8), on.DOCUMENTS_8B_A100, 8, 900.0,
    ),
    three_types(
        "types", "Conversations in uneven gaps on A100, H100 and H200, Llama-2-13B.",
        requests(GammaRenewal(23.0, 1.5), CONVERSATIONS), _PRICES, (4, 2, 1), 600.0,
    ),
    one_type(
        "slow-start", "Workers that fail every hour and take minutes to start again: Llama-2-70B on two H200.",
        requests(Poisson(0.9 * 33.6), MIXED_VALIDATE), on.CHAT_70B_H200X2, 8, 900.0,
        cold_start=SLOW_COLD_START, failures=Failures(3600.0),
    ),
    one_type(
        "failures", "Workers that fail every 20 minutes: code completion, Llama-3.1-8B on A100.",
        requests(Poisson(0.9 * 31.6), CODE), on.CODE_8B_A100, 8, 900.0, failures=Failures(1200.0),
    ),
    one_type(
        "overload-1.15", "1.15 times what the fleet holds: long and short prompts, Llama-3.1-8B on A100.",
        requests(Poisson(1.15 * 30.5), MIXED_VALIDATE), on.CHAT_8B_A100, 8, 600.0,
    ),
    one_type(
        "overload-1.4", "1.4 times what the fleet holds: code completion, Llama-3.1-8B on A100.",
        requests(Poisson(1.4 * 31.6), CODE), on.CODE_8B_A100, 8, 600.0,
    ),
    one_type(
        "large", "64 workers at the rate that they hold: conversations, Llama-2-13B on A100.",
        requests(Poisson(120.0), CONVERSATIONS), on.CHAT_13B_A100, MANY_SLOTS, 240.0, slots=MANY_SLOTS,
    ),
)  # fmt: skip
