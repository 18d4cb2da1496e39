"""Pictures of a cluster: a text table, an image drawn without a display, and a window where there is one."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aladdin_env.errors import InputError
from aladdin_env.simulator.core import ASK, BEAT
from aladdin_env.simulator.state import DRAINING, FAILED, OFF, READY, STARTING, WORKER_STATUS, Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aladdin_env.envs.engine import Engine

COLOURS = {OFF: "#d9dde3", STARTING: "#f0a63c", READY: "#2f7fbf", DRAINING: "#8c6bb1", FAILED: "#c8402f"}
_INK, _PALE, _RATE, _GOOD, _BAD = "#26303a", "#9aa5b1", "#2f7fbf", "#2c8c57", "#c8402f"
_SIZE_INCHES, _DPI = (10.0, 5.6), 100
_BEATS = 32


def _clock(second_of_day: float) -> str:
    minutes, seconds = divmod(int(second_of_day) % 86400, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"


def _decision(engine: Engine, e: int, last_action: int | None) -> tuple[str, str]:
    """What was decided last, and what is to be decided now."""
    last = "-" if last_action is None else f"{engine.actions.name(last_action)} (reward {engine.out.reward[e]:.4f})"
    reason = int(engine.out.reason[e])
    if reason == ASK:
        record = engine.worlds[e].requests[int(engine.worlds[e].control[0]["asked"])]
        now = f"place a prompt of {record['prompt_tokens']} tokens, {record['predicted_tokens']:.0f} predicted"
    else:
        now = "scale the fleet" if reason == BEAT else "nothing: the episode is over"
    return last, now


def _headline(engine: Engine, e: int) -> list[tuple[str, str]]:
    """The cluster in a few figures."""
    cluster = engine.worlds[e].cluster[0]
    finished, arrived = int(cluster["finished"]), int(cluster["arrived"])
    within = f"{cluster['slo_met'] / finished:.1%}" if finished else "-"
    booked = engine.out.booked[e]
    return [
        ("GPUs in use", f"{cluster['gpus']:.0f}"),
        ("cost so far", f"{booked[0]:.2f}"),
        ("arrived / finished", f"{arrived} / {finished}"),
        ("within SLO", within),
        ("late first token / slow", f"{booked[1]:.0f} / {booked[2]:.0f}"),
        ("unserved", f"{booked[3]:.0f}"),
        ("held / in flight", f"{cluster['held']} / {cluster['in_flight']}"),
    ]


def text(engine: Engine, e: int, last_action: int | None) -> str:
    """A compact table: the cluster in a line, then a row per worker that is not OFF."""
    world, scenario = engine.worlds[e], engine.scenarios[e]
    cluster = world.cluster[0]
    last, now = _decision(engine, e, last_action)
    clock = _clock(float(cluster["start_of_day_s"]) + float(cluster["now_s"]))
    figures = ", ".join(f"{name} {value}" for name, value in _headline(engine, e))
    lines = [
        f"{scenario.name}: {float(cluster['now_s']):.2f} s ({clock}), {figures}",
        f"last: {last}; now: {now}",
        f"{'slot':>4} {'type':<12} {'status':<9} {'running':>9} {'waiting':>7} {'to prefill':>10} {'KV':>6}",
    ]
    for slot, worker in enumerate(world.workers):
        if worker["status"] == OFF:
            continue
        kind = scenario.fleet.types[int(worker["type_index"])]
        running = f"{worker['running']}/{worker['max_num_seqs']}"
        kv = worker["kv_used_blocks"] / worker["kv_blocks"]
        status = WORKER_STATUS[int(worker["status"])]
        lines.append(
            f"{slot:>4} {kind.name[:12]:<12} {status:<9} {running:>9} {worker['waiting'] + worker['inbound']:>7}"
            f" {worker['waiting_prefill_tokens']:>10} {kv:>6.1%}"
        )
    off = int(np.count_nonzero(world.workers["status"] == OFF))
    return "\n".join([*lines, f"{off} of {len(world.workers)} slots are off"])


def picture(engine: Engine, e: int, last_action: int | None) -> NDArray[np.uint8]:
    """The cluster as an image, (height, width, 3): load and KV of each slot, rate and attainment over heartbeats."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)  # untyped
    grid = figure.add_gridspec(
        3, 2, width_ratios=(2.6, 1.0), height_ratios=(1.0, 1.0, 1.0), left=0.065, right=0.975, top=0.775, bottom=0.105,
        hspace=0.5, wspace=0.2,
    )  # fmt: skip
    world = engine.worlds[e]
    _titles(figure, engine, e, last_action)
    memory = figure.add_subplot(grid[:2, 0])
    _bars(memory, world.workers, kv=True)
    for kind, limits in zip(engine.scenarios[e].fleet.types, world.types, strict=True):
        memory.text(limits["first_slot"] - 0.38, 0.97, kind.name, fontsize=8, color=_INK, va="top")
    _bars(figure.add_subplot(grid[2, 0]), world.workers, kv=False)
    recent = engine.view(e).recent(_BEATS)
    beat_s = float(world.cluster[0]["heartbeat_s"])
    _spark(figure.add_subplot(grid[0, 1]), recent[:, 0] / beat_s, "arrivals per second", _RATE, None)
    with np.errstate(invalid="ignore", divide="ignore"):
        attainment = recent[:, 3] / recent[:, 2]
    _spark(figure.add_subplot(grid[1, 1]), attainment, "within SLO", _GOOD, 1.0)
    _figures(figure.add_subplot(grid[2, 1]), _headline(engine, e))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _titles(figure: Any, engine: Engine, e: int, last_action: int | None) -> None:
    cluster = engine.worlds[e].cluster[0]
    last, now = _decision(engine, e, last_action)
    clock = _clock(float(cluster["start_of_day_s"]) + float(cluster["now_s"]))
    name = engine.scenarios[e].name
    figure.text(0.065, 0.945, name, fontsize=15, fontweight="bold", color=_INK, va="center")
    time = f"{clock}   t = {float(cluster['now_s']):.2f} s"
    figure.text(0.975, 0.945, time, fontsize=12, color=_INK, ha="right", va="center")
    figure.text(0.065, 0.895, f"last: {last}     now: {now}", fontsize=9.5, color=_INK, va="center")
    for i, (status, colour) in enumerate(COLOURS.items()):
        figure.text(0.065 + 0.09 * i, 0.845, "\u25a0", fontsize=12, color=colour, va="center")
        figure.text(0.082 + 0.09 * i, 0.848, WORKER_STATUS[status], fontsize=9, color=_INK, va="center")


def _frame(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_PALE)
    axes.tick_params(colors=_INK, labelsize=8, color=_PALE)


def _bars(axes: Axes, workers: Array, kv: bool) -> None:
    """A bar per slot: KV in use, or requests (running, and lighter the waiting ones on top)."""
    slots = np.arange(len(workers))
    colours = [COLOURS[int(status)] for status in workers["status"]]
    width = 0.8 if len(slots) <= 64 else 1.0
    if kv:
        axes.bar(slots, np.ones(len(slots)), width, color="#f2f4f6")
        used = np.where(workers["status"] == OFF, 0.0, workers["kv_used_blocks"] / workers["kv_blocks"])
        axes.bar(slots, used, width, color=colours)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.set_title("KV memory in use", loc="left", fontsize=9, color=_INK)
    else:
        running, waiting = workers["running"], workers["waiting"] + workers["inbound"]
        axes.bar(slots, running, width, color=colours)
        axes.bar(slots, waiting, width, bottom=running, color=_BAD, alpha=0.55)
        axes.set_ylim(0, max(8, 1.15 * float((running + waiting).max(initial=0))))
        axes.set_title("requests: running, and waiting on top in red", loc="left", fontsize=9, color=_INK)
        axes.set_xlabel("worker slot", fontsize=8, color=_INK, labelpad=1)
    # what a bar of height 0 would hide: the state of every slot as a strip below the axis
    axes.bar(slots, -0.03 * axes.get_ylim()[1], width, color=colours, clip_on=False)
    axes.set_xlim(-0.6, len(slots) - 0.4)
    axes.set_xticks(slots if len(slots) <= 32 else slots[:: max(1, len(slots) // 16)])
    _frame(axes)


def _spark(axes: Axes, values: Array, title: str, colour: str, top: float | None) -> None:
    """The last heartbeats as a line, newest at the right, its value written out."""
    x = np.arange(-len(values) + 1, 1)
    axes.plot(x, values, color=colour, linewidth=1.6)
    known = np.flatnonzero(np.isfinite(values))
    if known.size:
        at = int(known[-1])
        axes.plot(x[at], values[at], "o", color=colour, markersize=4)
        shown = f"{values[at]:.0%}" if top is not None else f"{values[at]:.1f}"
        axes.set_title(shown, loc="right", fontsize=11, color=colour, fontweight="bold")
        low = 0.0 if top is None else min(0.9, float(np.nanmin(values)) - 0.02)
        axes.set_ylim(low, 1.02 * top if top else max(1.0, 1.15 * float(np.nanmax(values))))
    axes.set_title(title, loc="left", fontsize=9, color=_INK)
    axes.set_xlim(-_BEATS + 0.5, 0.8)
    axes.set_xticks([-30, -20, -10, 0], ["-30 beats", "-20", "-10", "now"])
    _frame(axes)


def _figures(axes: Axes, rows: list[tuple[str, str]]) -> None:
    axes.axis("off")
    for i, (name, value) in enumerate(rows):
        y = 1.12 - 0.185 * i
        axes.text(-0.1, y, name, fontsize=9, color=_INK, transform=axes.transAxes, va="center")
        bold: dict[str, Any] = {"ha": "right", "fontweight": "bold"}
        axes.text(1.0, y, value, fontsize=9, color=_INK, transform=axes.transAxes, va="center", **bold)


def has_display() -> bool:
    """Whether a window can be opened here, as far as that can be told without trying."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def require_display() -> None:
    """Refuse the mode "human" where no window can be had.

    Raises:
        InputError: no display, or no matplotlib backend that opens windows.
    """
    mend = "there is no display here: use 'rgb_array' or 'ansi'"
    if has_display():
        from matplotlib import pyplot

        if pyplot.get_backend().lower() != "agg":
            return
        mend = "matplotlib has no backend that opens windows: install PyQt6 or tkinter, or use 'rgb_array'"
    raise InputError("render_mode", "human", mend)


class Window:
    """A window that shows one picture after the other."""

    def __init__(self, title: str) -> None:
        from matplotlib import pyplot

        self._pyplot = pyplot
        self._figure = pyplot.figure(title, figsize=_SIZE_INCHES, dpi=_DPI)
        self._axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._axes.axis("off")
        self._image: Any = None

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show ``picture`` at once."""
        if self._image is None:
            self._image = self._axes.imshow(picture, aspect="auto")
            self._raise()
        self._image.set_data(picture)
        self._figure.canvas.draw_idle()
        self._figure.canvas.flush_events()

    def _raise(self) -> None:
        self._figure.show()

    def close(self) -> None:
        """Close it."""
        self._pyplot.close(self._figure)
