"""What a fit to a request log gives: coefficients with intervals, KV room, errors out of sample, a latency profile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from aladdin_calibration.request_log.judged import UNQUEUED
from aladdin_calibration.request_log.log import EngineLimits
from aladdin_calibration.request_log.parameters import Laws
from aladdin_env.latency import LIMITS, LatencyProfile, Provenance


class Estimate(NamedTuple):
    """A number with its standard error and 95 % interval, in its own unit."""

    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class KvRoom:
    """KV capacity of the worker, tokens.

    Attributes:
        tokens: the capacity; where it is not ``identified``, the most that the log ever needed.
        low: lower end of the 95 % interval.
        high: upper end; infinite where it is not identified.
        identified: whether memory ran short in the log, which alone shows how much there is (or it was given).
    """

    tokens: int
    low: float
    high: float
    identified: bool


@dataclass(frozen=True)
class LogFit:
    """Laws and KV room whose simulation reproduces a request log.

    Attributes:
        limits: the server's limits.
        form: name of the prefill law's form, chosen by cross-validation (see `parameters.FORMS`).
        laws: the laws of time.
        coefficients: the laws' numbers with their uncertainty, by the names of `parameters.NAMES`.
        kv: KV capacity.
        held_out: errors on requests whose outcomes the laws did not see (`judged.figures`); empty without any.
        in_sample: the same on those that they were fitted to, with these laws.
        train_requests: requests whose outcomes were fitted.
        test_requests: requests that were judged.
        refitted: whether the laws were fitted once more to all requests, after ``held_out`` had been found.
        simulations: runs of the simulator.
        seconds: time that the fit took.
        seed: seed of everything random in it.
    """

    limits: EngineLimits
    form: str
    laws: Laws
    coefficients: dict[str, Estimate]
    kv: KvRoom
    held_out: dict[str, float]
    in_sample: dict[str, float]
    train_requests: int
    test_requests: int
    refitted: bool
    simulations: int
    seconds: float = field(compare=False)
    seed: int

    def to_profile(
        self,
        name: str,
        *,
        model: str,
        gpu: str,
        kv_bytes_per_token: float,
        tensor_parallel: int = 1,
        engine: str = "vLLM",
        engine_version: str = "",
        date: str = "",
        source: str = "",
    ) -> LatencyProfile:
        """A profile for the simulator; its provenance carries the errors out of sample, as absolute values.

        Those of hardly queued requests are in sample, and called so, where none of these was held out.

        Args:
            name: short name of the profile.
            model: model name.
            gpu: device name.
            kv_bytes_per_token: KV memory of a token, bytes (2 x layers x KV heads x head size x bytes per number): no
                request log shows it.
            tensor_parallel: GPUs that the model is split over.
            engine: serving engine.
            engine_version: its version.
            date: when the log was recorded (ISO).
            source: where the log is from.
        """
        room = "KV capacity fitted" if self.kv.identified else "KV capacity: a lower bound, memory never ran short"
        method = (
            f"fitted by simulation to the outcomes of {self.train_requests} requests of a served log "
            f"(prefill {self.form}; {room}), judged on {self.test_requests} others"
        )
        if self.refitted:
            method += f", then fitted to all {self.train_requests + self.test_requests}"
        errors = {key: round(abs(value), 4) for key, value in self._told_errors().items()}
        limits = {known: getattr(self.limits, known) for known in LIMITS}
        provenance = Provenance(
            model, gpu, tensor_parallel, engine, engine_version, date, method, source, errors, limits
        )
        return LatencyProfile(
            name,
            self.laws.prefill,
            self.laws.decode,
            mixed_overlap_s=self.laws.mixed_overlap_s,
            overhead_s=self.laws.overhead_s,
            kv_bytes_per_token=kv_bytes_per_token,
            kv_bytes_per_request=0.0,
            kv_capacity_tokens=self.kv.tokens,
            gpus=tensor_parallel,
            provenance=provenance,
        )

    def _told_errors(self) -> dict[str, float]:
        """Those out of sample; of hardly queued requests, where all of them were fitted, the ones in sample.

        A log under load has such requests at its beginning alone, before a queue has built up.
        """
        if f"{UNQUEUED}_mean" in self.held_out:
            return self.held_out
        inside = {key: value for key, value in self.in_sample.items() if key.startswith(UNQUEUED)}
        return self.held_out | {key.replace(UNQUEUED, f"{UNQUEUED}_in_sample"): v for key, v in inside.items()}
