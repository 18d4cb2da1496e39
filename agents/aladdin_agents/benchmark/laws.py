"""Lengths and hours of the benchmark's loads that no shipped workload has; all of them are ours, no trace's."""

from __future__ import annotations

from dataclasses import replace

from aladdin_traces import (
    WORKLOADS,
    ArrivalProcess,
    Clients,
    CopulaLengths,
    LengthLaw,
    LognormalMixture,
    Sessions,
    Workload,
)


def requests(arrivals: ArrivalProcess, lengths: LengthLaw | str) -> Workload:
    """Requests of these lengths at these times."""
    return Workload.generated(arrivals, lengths)


#: Chats with a third of them over documents, answers short or long: training.
MIXED_TRAIN = CopulaLengths(
    LognormalMixture((0.7, 0.3), (4.2, 7.4), (0.8, 0.6), 4, 6000),
    LognormalMixture((0.5, 0.5), (3.6, 6.0), (0.6, 0.5), 2, 1600),
    0.2,
)
#: Half documents with short answers, half questions with long ones: validation.
MIXED_VALIDATE = CopulaLengths(
    LognormalMixture((0.5, 0.5), (5.0, 7.6), (0.7, 0.5), 4, 6000),
    LognormalMixture((0.6, 0.4), (4.2, 6.4), (0.6, 0.5), 2, 2000),
    -0.2,
)
#: A few very long prompts among many short ones, long answers to long prompts: test.
MIXED_TEST = CopulaLengths(
    LognormalMixture((0.85, 0.15), (5.2, 8.0), (1.0, 0.4), 4, 8000),
    LognormalMixture((0.3, 0.7), (3.0, 6.2), (0.6, 0.6), 2, 2400),
    0.4,
)


def _clients(name: str) -> Clients:
    law = WORKLOADS[name].requests
    assert isinstance(law, Clients)
    return law


def _rag() -> LengthLaw:
    law = WORKLOADS["ragpulse"].requests
    assert isinstance(law, Sessions)
    return law.first


RAG = _rag()
CODE = "azure-code"
CONVERSATIONS = "azure-conv"
CHATS = "sharegpt"
LANGUAGE = _clients("servegen-language").lengths


def language_clients(rate_rps: float) -> Workload:
    """Many clients of a language model, other ones than those of the shipped workload."""
    return Workload.from_law(replace(_clients("servegen-language"), rate_rps=rate_rps, population=1, off_mean_s=600.0))


def reasoning_clients(rate_rps: float) -> Workload:
    """Many clients of a model that reasons: answers of thousands of tokens."""
    return Workload.from_law(replace(_clients("servegen-reasoning"), rate_rps=rate_rps))


#: A day of our own with two peaks, relative rates of twelve equal parts: training.
TWO_PEAKS = (1.0, 1.0, 2.0, 6.0, 9.0, 7.0, 5.0, 8.0, 10.0, 6.0, 3.0, 1.0)
