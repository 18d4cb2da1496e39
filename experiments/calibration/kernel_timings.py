"""Profiles composed from kernel timings beside those measured in a real engine on the same GPU.

``python -m experiments.calibration.kernel_timings`` prints seconds of steps under both, and how much the composed one
is off. What it lacks is the engine: scheduling, launches and sampling, all on the CPU. Measured is what the laws say
that were fitted to the engine's steps; below their floor that is the mean of the CPU's faster and slower moments.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from aladdin_env.latency import LatencyProfile, load_profile

PAIRS = (("llama-3.1-8b-h200-tp1", "llama-3.1-8b-h200-vllm"), ("llama-2-13b-h200-tp1", "llama-2-13b-h200-vllm"))
DECODES = ((1, 1024), (16, 1024), (64, 512), (128, 512), (256, 256))  # batch, context tokens of each
PREFILLS = (64, 512, 2048, 8192)
MIXED = ((256, 16, 512), (256, 128, 512), (2048, 128, 512))  # prompt tokens, batch, context tokens of each


def steps(profile: LatencyProfile) -> dict[str, float]:
    """Seconds of some steps of every kind, by their names."""
    decodes = {f"decode {batch} x {context}": profile.decode_s(batch, batch * context) for batch, context in DECODES}
    prefills = {f"prefill {tokens}": profile.prefill_s(tokens) for tokens in PREFILLS}
    mixed = {
        f"{tokens} with {batch} x {context}": profile.mixed_s(tokens, batch, batch * context)
        for tokens, batch, context in MIXED
    }
    return decodes | prefills | mixed


def main() -> None:
    """Print a table per model."""
    console = Console(width=120)
    for composed, measured in PAIRS:
        table = Table(
            "step", "composed, ms", "fitted to the engine, ms", "off by", title=f"{composed} beside {measured}"
        )
        real = steps(load_profile(measured))
        for name, seconds in steps(load_profile(composed)).items():
            off = seconds / real[name] - 1.0
            table.add_row(name, f"{1e3 * seconds:.2f}", f"{1e3 * real[name]:.2f}", f"{off:+.0%}")
        console.print(table)


if __name__ == "__main__":
    main()
