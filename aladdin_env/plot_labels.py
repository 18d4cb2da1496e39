"""Labels beside points without overlaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]
_POINT_RADIUS_PX = 8.0
_RADII_PX = (12.0, 20.0, 32.0, 46.0, 62.0, 80.0, 100.0, 124.0, 150.0, 180.0, 215.0, 255.0, 300.0)
_ANGLES = (
    0,
    180,
    30,
    -30,
    150,
    -150,
    60,
    -60,
    120,
    -120,
    90,
    -90,
    15,
    -15,
    165,
    -165,
    45,
    -45,
    135,
    -135,
    75,
    -75,
    105,
    -105,
)


def place_labels(
    axes: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str], colours: Sequence[str]
) -> None:
    """Write each label near its point, clear of other text and points, with a thin line where it stands apart.

    Greedy: the most crowded points choose last.
    """
    axes.figure.canvas.draw()  # fixes the layout, on which pixels depend
    pixels = [tuple(axes.transData.transform(point)) for point in points]
    inside = axes.get_window_extent()
    frame = (inside.x0, inside.y0, inside.x1, inside.y1)
    taken: list[Box] = [_around(x, y) for x, y in pixels]
    taken += [text.get_window_extent().extents for text in axes.texts]
    for i in sorted(range(len(points)), key=lambda i: _crowd(pixels, i)):
        size = _size(axes, labels[i])
        found = _free_place(pixels[i], size, taken, frame)
        taken.append(found)
        _write(axes, points[i], pixels[i], found, labels[i], colours[i])


def _around(x: float, y: float) -> Box:
    return (x - _POINT_RADIUS_PX, y - _POINT_RADIUS_PX, x + _POINT_RADIUS_PX, y + _POINT_RADIUS_PX)


def _crowd(pixels: Sequence[tuple[float, ...]], i: int) -> int:
    return sum(math.dist(pixels[i], other) < 60 for other in pixels)


def _size(axes: Axes, label: str) -> tuple[float, float]:
    text = axes.text(0, 0, label, fontsize=8)
    extent = text.get_window_extent()
    text.remove()
    return extent.width, extent.height


def _free_place(point: tuple[float, ...], size: tuple[float, float], taken: Sequence[Box], frame: Box) -> Box:
    x, y = point
    best, least = None, math.inf
    for radius in _RADII_PX:
        for angle in _ANGLES:
            box = _box_at(x, y, radius, math.radians(angle), size)
            cost = sum(_overlap(box, other) for other in taken) + 10 * _outside(box, frame)
            if cost == 0:
                return box
            if cost < least:
                best, least = box, cost
    assert best is not None
    return best


def _box_at(x: float, y: float, radius: float, angle: float, size: tuple[float, float]) -> Box:
    """The box whose nearest side faces the point from ``radius`` away."""
    width, height = size
    cx, cy = x + radius * math.cos(angle), y + radius * math.sin(angle)
    left = cx if math.cos(angle) > 0.3 else cx - width if math.cos(angle) < -0.3 else cx - width / 2
    return (left, cy - height / 2, left + width, cy + height / 2)


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Box, frame: Box) -> float:
    return max(0.0, frame[0] - box[0], box[2] - frame[2]) + max(0.0, frame[1] - box[1], box[3] - frame[3])


def _write(axes: Axes, point: tuple[float, float], pixel: tuple[float, ...], box: Box, label: str, colour: str) -> None:
    from matplotlib.patheffects import withStroke  # matplotlib takes a second

    inverse = axes.transData.inverted()
    x, y = inverse.transform((box[0], (box[1] + box[3]) / 2))
    halo = [withStroke(linewidth=2.5, foreground="white")]
    axes.text(x, y, label, fontsize=8, color=colour, va="center", ha="left", zorder=4, path_effects=halo)
    near = (min(max(pixel[0], box[0]), box[2]), min(max(pixel[1], box[1]), box[3]))
    if math.dist(near, pixel) > 18:
        end = inverse.transform(near)
        axes.plot([point[0], end[0]], [point[1], end[1]], color=colour, linewidth=0.5, alpha=0.7, zorder=1)
