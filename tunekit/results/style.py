"""How our plots look: inks, grid, headline, a colour for every class; and how they become files.

In: matplotlib figures and names of classes. Out: PNG or JPEG files, whole at any time. Drawn with
matplotlib's objects on its Agg canvas: no window, no pyplot, no global state. Knows nothing of what is
plotted.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tunekit.atomic import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, GRID, EDGE = "#1f2937", "#6b7280", "#eceff3", "#c9ced6"
MAIN, PALE, BEST = "#1d4ed8", "#b6c2d2", "#f59e0b"
DPI = 130
JPEG_QUALITY = 90
FONT = "DejaVu Sans"  # comes with matplotlib

# The first classes get colours that people can name; later ones follow the golden angle.
FIRST_COLOURS = (
    "#2563eb", "#f97316", "#16a34a", "#dc2626", "#9333ea",
    "#0891b2", "#ec4899", "#ca8a04", "#4d7c0f", "#7c2d12",
)  # fmt: skip
GOLDEN = 0.618034


def class_colour(index: int) -> str:
    """`#rrggbb`, the same for a class in every picture; neighbours differ most."""
    if index < len(FIRST_COLOURS):
        return FIRST_COLOURS[index]
    hue = index * GOLDEN % 1
    lightness = (0.42, 0.58, 0.34)[index % 3]
    saturation = (0.85, 0.65, 0.95)[index // 3 % 3]
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, saturation))
    return f"#{red:02x}{green:02x}{blue:02x}"


def new_figure(width: float, height: float, title: str, subtitle: str) -> Figure:
    """A white figure of so many inches with its headline; the plots begin below `HEAD` inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    figure.text(0.2 / width, 1 - 0.14 / height, title, va="top", fontsize=12, fontweight="bold", color=INK)
    figure.text(0.2 / width, 1 - 0.38 / height, subtitle, va="top", fontsize=8.5, color=FAINT)
    return figure


HEAD = 0.72  # inches that the headline takes


def plain(axes: Axes, grid: bool = True) -> None:
    """Few lines, small grey numbers."""
    axes.set_axisbelow(True)
    if grid:
        axes.grid(color=GRID, linewidth=0.8)
    axes.tick_params(length=0, labelsize=7.5, labelcolor=FAINT, pad=3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(EDGE)


def save(figure: Figure, path: Path) -> None:
    """As PNG or, by the path's suffix, as JPEG."""
    canvas = FigureCanvasAgg(figure)
    if path.suffix == ".png":
        write_atomic(path, lambda file: canvas.print_png(file, metadata={"Software": None}))
        return
    canvas.draw()
    write_jpeg(path, np.asarray(canvas.buffer_rgba())[:, :, :3])


def write_jpeg(path: Path, pixels: np.ndarray) -> None:
    """(h, w, 3) uint8 RGB."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[:, :, ::-1]), quality)
    write_atomic(path, lambda file: file.write(encoded.tobytes()))


def shortened(name: str, letters: int) -> str:
    """One line of at most so many letters."""
    line = " ".join(name.split())
    return line if len(line) <= letters else line[: letters - 1].rstrip() + "…"


def drawable(names: Sequence[str], classes: Iterable[int], letters: int = 24) -> tuple[list[str], list[str]]:
    """Names of classes as matplotlib can draw them, and the font families to draw them with.

    Where no font of this machine has a name's letters, its number stands for it: class 7.
    """
    families, shown = [FONT], []
    for index, name in zip(classes, names, strict=False):
        missing = _missing(name, families)
        if missing and (family := _family_with(missing)):
            families.append(family)
            missing = _missing(name, families)
        text = f"class {index}" if missing else shortened(name, letters)
        shown.append(text.replace("$", r"\$"))  # a pair of dollars would be a formula
    return shown, families


def _missing(text: str, families: Sequence[str]) -> frozenset[int]:
    there = frozenset().union(*(_letters(family) for family in families))
    return frozenset(ord(letter) for letter in text if not letter.isspace()) - there


@functools.cache
def _letters(family: str) -> frozenset[int]:
    """All that an upright font of this machine can draw."""
    paths = [
        entry.fname
        for entry in font_manager.fontManager.ttflist
        if entry.name == family and entry.style == "normal" and entry.weight == 400
    ]
    return frozenset(font_manager.get_font(paths[0]).get_charmap()) if paths else frozenset()


@functools.cache
def _family_with(letters: frozenset[int]) -> str | None:
    """The font of this machine that has most of the letters; Last Resort has a box for each."""
    families = {entry.name for entry in font_manager.fontManager.ttflist if "Last Resort" not in entry.name}
    most, best = max(
        ((len(letters & _letters(family)), family) for family in sorted(families)), default=(0, "")
    )
    return best if most else None
