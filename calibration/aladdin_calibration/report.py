"""The report of a calibration: one page of Markdown, and one picture (:mod:`aladdin_calibration.report_figure`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from aladdin_calibration.fits import error_figures, step_errors
from aladdin_calibration.forms import predict
from aladdin_calibration.measurement import Measurement, WorkerFacts
from aladdin_calibration.pages import places, title
from aladdin_calibration.profiles import gaps
from aladdin_calibration.repeats import pace
from aladdin_calibration.report_figure import draw_report
from aladdin_calibration.steps import KINDS, of_kind
from aladdin_env.latency import LatencyProfile
from aladdin_traces.files import whole_file

_UNITS = {
    "kv_capacity_tokens": "tokens",
    "block_size": "tokens",
    "max_num_seqs": "requests",
    "max_num_batched_tokens": "tokens per step",
    "max_model_len": "tokens",
    "kv_bytes_per_token": "bytes",
    "overhead_s": "s",
}
_CASES = (
    ("", "a step, as measured"),
    ("paced_", "a step, at the machine's pace"),
    ("configuration_", "a configuration's median step, as measured"),
    ("configuration_paced_", "a configuration's median step, at the machine's pace"),
)


def write_report(measurement: Measurement, profile: LatencyProfile, stem: str | Path) -> tuple[Path, Path]:
    """Write ``stem.md`` and ``stem.png``: measured points, fitted laws with 95 % prediction intervals, errors, gaps.

    Args:
        measurement: What the profile was fitted to.
        profile: Of :func:`aladdin_calibration.profiles.profile_of`.
        stem: Path without an ending; its folder exists.

    Returns:
        The paths of the page and of the picture.

    Raises:
        InputError: A file cannot be written, or is there and no report.
    """
    page, picture = places(stem)
    with whole_file(picture) as file:
        draw_report(measurement, profile).savefig(file, dpi=130, format="png")
    with whole_file(page) as file:
        file.write_text(markdown(measurement, profile, picture.name), encoding="utf-8")
    return page, picture


def markdown(measurement: Measurement, profile: LatencyProfile, picture: str) -> str:
    """The page, with a link to the picture of this file name."""
    steps, p = measurement.steps, profile.provenance
    counts = ", ".join(f"{len(of_kind(steps, kind)):,} {kind}" for kind in KINDS)
    parts = [
        title(profile.name),
        f"{p.model} on {p.gpu}, {p.engine} {p.engine_version}, {p.date}. {len(steps):,} steps ({counts}) of "
        f"{steps['config'].nunique():,} configurations.",
        f"![Measured steps, fitted laws, residuals]({picture})",
        "## Errors",
        _errors(measurement, profile),
        "## Worker",
        _table(("fact", "value"), _facts(measurement.facts)),
        "## Laws",
        _table(("law", "seconds"), _laws(profile)),
        "## Not covered",
        "\n".join(f"- {sentence}" for sentence in gaps(measurement)) or "Nothing is known to be missing.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(figures: dict[str, float], key: str) -> str:
    if f"{key}median" not in figures:
        return "-"
    return f"{figures[f'{key}median']:.1%} / {figures[f'{key}p95']:.1%}"


def _errors(measurement: Measurement, profile: LatencyProfile) -> str:
    steps, outside = measurement.steps, profile.provenance.errors
    predicted = predict(steps, profile.prefill, profile.decode, profile.mixed_overlap_s)
    inside = error_figures(step_errors(steps, predicted, pace(steps)))
    rows = []
    for kind in KINDS:
        for case, words in _CASES:
            if f"{kind}_{case}median" in inside:
                rows.append((kind, words, *(_percent(f, f"{kind}_{case}") for f in (inside, outside))))
        if f"{kind}_repeat_median" in outside:
            rows.append((kind, "equal steps against their mean: noise", _percent(outside, f"{kind}_repeat_"), "-"))
    told = [
        "Relative errors, median / 95th percentile. Out of sample: predicted by laws that were chosen and fitted "
        "without the whole configuration that a step belongs to.",
        _table(("law", "error of", "in sample", "out of sample"), rows),
    ]
    if "pace_spread" in outside:
        told.append(
            f"The machine's own pace varied by {outside['pace_spread']:.1%} (standard deviation) while it was measured."
        )
    return "\n\n".join(told)


def _facts(facts: WorkerFacts) -> Iterable[tuple[str, str]]:
    for field in fields(facts):
        value = getattr(facts, field.name)
        if field.name != "not_covered":
            unit = _UNITS.get(field.name, "")
            yield field.name, "unknown" if value is None else f"{_shown(value)} {unit}".strip()


def _shown(value: object) -> str:
    """A fact as people read it: no more digits than it can mean."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100.0 else f"{value:.4g}"


def _laws(profile: LatencyProfile) -> Iterable[tuple[str, str]]:
    prefill, decode = profile.prefill, profile.decode
    knots = zip(prefill.knots_tokens, prefill.knots_s, strict=True)
    told = ", ".join(f"{tokens:g}: {seconds:.4g}" for tokens, seconds in knots)
    yield "prefill at tokens, the last being the most measured", told
    if prefill.floor_tokens:
        yield "decodes hide in the launches of a prefill up to tokens", f"{prefill.floor_tokens:.0f}"
    yield "prefill per token^2 (attention)", f"{prefill.attention_s_per_token2:.4g}"
    yield "decode alpha at batch", _listed(decode.batch, decode.alpha_s)
    yield "decode beta at batch, per context token", _listed(decode.batch, decode.beta_s_per_token)
    yield "saved by a mixed step", f"{profile.mixed_overlap_s:.4g}"


def _listed(sizes: tuple[int, ...], values: tuple[float, ...]) -> str:
    return ", ".join(f"{size}: {value:.4g}" for size, value in zip(sizes, values, strict=True))
