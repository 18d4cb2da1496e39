"""Split "train": what agents may learn from, over and over; profiles, rates, hours and fleets are then randomised."""

from __future__ import annotations

from aladdin_agents.benchmark import fleets as on
from aladdin_agents.benchmark.fleets import one_type, three_types
from aladdin_agents.benchmark.laws import CHATS, CONVERSATIONS, MIXED_TRAIN, TWO_PEAKS, requests
from aladdin_env.presets import SLOW_COLD_START
from aladdin_env.scenario import Failures
from aladdin_traces import Diurnal, Flood, GammaRenewal, Mmpp, Poisson

_PRICES = (1.8, 3.0, 3.7)

JOINT = (
    one_type(
        "steady", "Chats at a constant rate, Llama-2-13B on A100.",
        requests(Poisson(16.0), CHATS), on.CHAT_13B_A100, 5, 3600.0,
    ),
    one_type(
        "bursty", "Conversations at two levels with bursts of 20 s, Llama-3.1-8B on A100.",
        requests(Mmpp((4.0, 12.0, 30.0), (240.0, 240.0, 20.0)), CONVERSATIONS), on.CHAT_8B_A100, 6, 3600.0,
    ),
    one_type(
        "diurnal", "A day with two peaks in two hours: conversations, Llama-2-13B on A100.",
        requests(Diurnal(7.0, TWO_PEAKS, 0.1, period_s=7200.0), CONVERSATIONS), on.CHAT_13B_A100, 4, 7200.0,
    ),
    one_type(
        "flood", "Six times the rate for two minutes every ten: chats, Llama-2-13B on A100, prefill first.",
        requests(Flood(6.0, 36.0, 600.0, 120.0), CHATS), on.CHAT_13B_A100_WHOLE, 12, 3600.0,
    ),
    one_type(
        "lengths", "Chats and documents in uneven gaps, Llama-2-13B on two A100.",
        requests(GammaRenewal(12.0, 2.0), MIXED_TRAIN), on.CHAT_13B_A100X2, 3, 3600.0,
    ),
    three_types(
        "types", "A day in an hour on A100, H100 and H200: conversations, Llama-2-13B.",
        requests(Diurnal(16.0, noise_sd=0.1, period_s=3600.0), CONVERSATIONS), _PRICES, (1, 2, 1), 3600.0,
    ),
    three_types(
        "types-bursty", "Chats and documents at three levels on A100, H100 and H200, cheap H100: Llama-2-13B.",
        requests(Mmpp((8.0, 20.0, 40.0), (240.0, 240.0, 20.0)), MIXED_TRAIN), (1.8, 2.0, 3.7), (1, 3, 1), 3600.0,
    ),
    three_types(
        "types-flood", "Four times the rate for three minutes every ten on A100, H100 and H200, cheap A100.",
        requests(Flood(10.0, 40.0, 600.0, 180.0), CHATS), (0.8, 3.0, 3.7), (4, 2, 2), 3600.0,
    ),
    one_type(
        "slow-start", "A day in two hours on workers that take minutes to start: Llama-3.1-70B on four A100.",
        requests(Diurnal(7.0, noise_sd=0.1, period_s=7200.0), CONVERSATIONS), on.CHAT_70B_A100X4, 5, 7200.0,
        cold_start=SLOW_COLD_START,
    ),
    one_type(
        "failures", "Workers that fail every 40 minutes: conversations, Llama-2-13B on A100.",
        requests(Diurnal(7.0, noise_sd=0.2), CONVERSATIONS), on.CHAT_13B_A100, 6, 3600.0, failures=Failures(2400.0),
    ),
)  # fmt: skip

PLACEMENT = (
    one_type(
        "steady", "Chats at the rate that the fleet holds, Llama-2-13B on A100.",
        requests(Poisson(34.4), CHATS), on.CHAT_13B_A100, 8, 600.0,
    ),
    one_type(
        "bursty", "Conversations with bursts of seconds, Llama-3.1-8B on A100.",
        requests(Mmpp((20.0, 30.0, 60.0), (20.0, 20.0, 3.0)).with_rate(21.0), CONVERSATIONS), on.CHAT_8B_A100, 8, 900.0,
    ),
    one_type(
        "diurnal", "A day with two peaks in a quarter of an hour: conversations, Llama-2-13B on A100.",
        requests(Diurnal(9.7, TWO_PEAKS, 0.1, period_s=900.0), CONVERSATIONS), on.CHAT_13B_A100, 10, 900.0,
    ),
    one_type(
        "flood", "Twice the rate for half a minute every five: chats, Llama-2-13B on A100, prefill first.",
        requests(Flood(20.0, 40.0, 300.0, 30.0).with_rate(20.1), CHATS), on.CHAT_13B_A100_WHOLE, 8, 900.0,
    ),
    one_type(
        "lengths", "Chats and documents in uneven gaps, Llama-2-13B on two A100.",
        requests(GammaRenewal(32.4, 2.0), MIXED_TRAIN), on.CHAT_13B_A100X2, 6, 600.0,
    ),
    three_types(
        "types", "Conversations on A100, H100 and H200, Llama-2-13B.",
        requests(Poisson(35.2), CONVERSATIONS), _PRICES, (3, 3, 2), 600.0,
    ),
    three_types(
        "types-bursty", "Chats and documents in uneven gaps on A100, H100 and H200, Llama-2-13B.",
        requests(GammaRenewal(30.0, 2.0), MIXED_TRAIN), _PRICES, (4, 2, 1), 600.0,
    ),
    three_types(
        "types-overload", "1.25 times what the fleet holds: chats on A100, H100 and H200, Llama-2-13B.",
        requests(Poisson(1.25 * 67.7), CHATS), _PRICES, (2, 3, 2), 600.0,
    ),
    one_type(
        "slow-start", "Workers that fail every hour and take minutes to start again: Llama-3.1-70B on four A100.",
        requests(Poisson(0.9 * 14.9), CONVERSATIONS), on.CHAT_70B_A100X4, 8, 1200.0,
        cold_start=SLOW_COLD_START, failures=Failures(3600.0),
    ),
    one_type(
        "failures", "Workers that fail every half hour: conversations, Llama-2-13B on A100.",
        requests(Poisson(0.9 * 13.5), CONVERSATIONS), on.CHAT_13B_A100, 8, 900.0, failures=Failures(1800.0),
    ),
    one_type(
        "overload-1.15", "1.15 times what the fleet holds: conversations, Llama-2-13B on A100.",
        requests(Poisson(1.15 * 13.5), CONVERSATIONS), on.CHAT_13B_A100, 8, 900.0,
    ),
    one_type(
        "overload-1.4", "1.4 times what the fleet holds: chats, Llama-2-13B on A100.",
        requests(Poisson(1.4 * 34.4), CHATS), on.CHAT_13B_A100, 8, 600.0,
    ),
)  # fmt: skip
