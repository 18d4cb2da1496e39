"""From a measurement to a latency profile: laws, errors out of sample, memory, and what stands in for the unknown.

A profile has a number for everything; a measurement may lack some. What it lacks gets a stand-in that is named in
:func:`gaps`, in the profile's provenance and in the report, so that nobody takes it for measured.
"""

from __future__ import annotations

from aladdin_calibration.fits import FittedLaws, error_figures, fit_laws, held_out_errors
from aladdin_calibration.measurement import Measurement
from aladdin_calibration.repeats import pace, scatter_figures
from aladdin_calibration.steps import of_kind
from aladdin_env.latency import LIMITS, LatencyProfile, Provenance

FOLDS = 10
KV_BYTES_PER_TOKEN = 131_072.0  # Llama-3.1-8B in bf16: 2 x 32 layers x 8 heads x 128 numbers x 2 bytes
OVERHEAD_S = 0.0


def _largest_kv(measurement: Measurement) -> int:
    """Tokens of KV that some observed step held: the worker has room for at least these."""
    steps = measurement.steps
    return max(1, int((steps["prefill_tokens"] + steps["context_tokens"]).max()))


def gaps(measurement: Measurement) -> tuple[str, ...]:
    """What a profile of this measurement does not cover, a short sentence each: its facts' own, then the stand-ins."""
    facts = measurement.facts
    stand_ins = []
    if facts.kv_capacity_tokens is None:
        stand_ins.append(f"KV capacity unknown: the largest step's {_largest_kv(measurement):,} tokens stand in")
    if facts.kv_bytes_per_token is None:
        stand_ins.append(f"KV bytes per token unknown: {KV_BYTES_PER_TOKEN:,.0f} (an 8B model in bf16) stand in")
    if facts.overhead_s is None:
        stand_ins.append("front-end overhead not measured: 0 s stand in")
    if of_kind(measurement.steps, "mixed").empty:
        stand_ins.append("mixed steps not measured: prefill and decode time are added, nothing overlaps")
    return (*facts.not_covered, *stand_ins)


def _mixed_form(fitted: FittedLaws) -> str:
    floor = fitted.prefill.floor_tokens
    return f"hides in launches to {floor:.0f} tokens, sum over one constant" if floor else "sum over one constant"


def profile_of(measurement: Measurement, name: str, *, method: str = "", source: str = "") -> LatencyProfile:
    """Fit the laws of a measured worker and say how far they are off.

    Args:
        measurement: Steps of prefill and of decode, at several sizes; better also mixed ones.
        name: Name of the profile.
        method: How the steps were timed, a sentence; by default the clock of the facts.
        source: Where the measurement is from, with licence.

    Returns:
        The profile. ``provenance.errors`` holds the figures of :func:`aladdin_calibration.fits.error_figures` out of
        sample, those of :func:`aladdin_calibration.repeats.scatter_figures` (the noise that no law can undercut), and
        ``pace_spread`` where the machine's pace drifted; ``provenance.method`` names forms and gaps.

    Raises:
        InputError: There are too few steps for a law, or times that stay the same or fall as steps get larger.
    """
    steps, facts = measurement.steps, measurement.facts
    fitted = fit_laws(steps)
    errors = error_figures(held_out_errors(steps, FOLDS)) | scatter_figures(steps)
    drift = pace(steps)
    if drift.spread > 0.0:
        errors["pace_spread"] = round(drift.spread, 4)
    told = [
        method or f"{len(steps):,} steps, clock: {facts.clock}",
        "Fitted by robust relative least squares, forms chosen by cross-validation: "
        f"prefill {fitted.prefill_form}; decode {fitted.decode_form}; mixed {_mixed_form(fitted)}",
    ]
    missing = gaps(measurement)
    if missing:
        told.append(f"Not covered: {'; '.join(missing)}")
    return LatencyProfile(
        name=name,
        prefill=fitted.prefill,
        decode=fitted.decode,
        mixed_overlap_s=fitted.mixed_overlap_s,
        overhead_s=OVERHEAD_S if facts.overhead_s is None else facts.overhead_s,
        kv_bytes_per_token=facts.kv_bytes_per_token or KV_BYTES_PER_TOKEN,
        kv_bytes_per_request=0.0,
        kv_capacity_tokens=facts.kv_capacity_tokens or _largest_kv(measurement),
        gpus=facts.tensor_parallel,
        provenance=Provenance(
            model=facts.model,
            gpu=facts.gpu,
            tensor_parallel=facts.tensor_parallel,
            engine=facts.engine,
            engine_version=facts.engine_version,
            date=facts.date,
            method=". ".join(told),
            source=source,
            errors=errors,
            limits={name: told for name in LIMITS if (told := getattr(facts, name)) is not None},
        ),
    )
