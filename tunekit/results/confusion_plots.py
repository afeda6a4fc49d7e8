"""The confusion matrix, as counts and as shares of what is there, and as a table.

In: a ConfusionMatrix. Out: confusion_matrix.png, confusion_matrix_normalized.png and the counts in
confusion_matrix.csv. Up to thirty classes have their numbers in the cells; of more, the most frequent
mistakes are told beside the picture, because no eye finds them among thousands of cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure

from tunekit.atomic import write_text
from tunekit.evaluation.confusion import BACKGROUND, CONFIDENCE, OVERLAP, ConfusionMatrix
from tunekit.results.style import EDGE, FAINT, HEAD, INK, MAIN, drawable, new_figure, plain, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNTS, SHARES, TABLE = "confusion_matrix.png", "confusion_matrix_normalized.png", "confusion_matrix.csv"
BLUES = LinearSegmentedColormap.from_list("blues", ["#ffffff", "#dbeafe", "#60a5fa", MAIN, "#172554"])
NUMBERED = 30  # classes with a number in each cell
NAMED = 100  # classes with a name at each row
LETTERS = 20  # of a name
CELLS = 400  # of a side that are drawn; of a larger matrix each shows the highest of several
LIST = 3.6  # inches


def write_confusion(folder: Path, matrix: ConfusionMatrix) -> None:
    """Draw both anew, and write the table."""
    save(confusion_figure(matrix, normalized=False), folder / COUNTS)
    save(confusion_figure(matrix, normalized=True), folder / SHARES)
    write_text(folder / TABLE, matrix.csv())


def confusion_figure(matrix: ConfusionMatrix, *, normalized: bool) -> Figure:
    """Predicted classes down, true ones across; `normalized`: every column sums to 1."""
    count = len(matrix.names)
    side = min(max(0.52 * (count + 1), 4.4), 10.0)  # inches of the matrix itself
    shown, fonts = drawable([*matrix.names, BACKGROUND], range(count + 1), LETTERS)
    size = min(9.0, 58 * side / (count + 1))  # points of the names
    margin = 0.45 + size / 72 * 0.62 * max(map(len, shown)) if count <= NAMED else 0.75
    width = margin + side + (LIST if count > NUMBERED else 0.25)
    height = HEAD + 0.2 + side + margin
    what = "shares of the true objects of each class" if normalized else "counts"
    said = f"{what}; detections above confidence {CONFIDENCE:g}, overlap above {OVERLAP:g}"
    figure = new_figure(width, height, "Confusion matrix" + (", normalized" if normalized else ""), said)
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    values = matrix.normalized() if normalized else matrix.counts
    _cells(axes, values, normalized)
    _ticks(axes, shown, fonts, size, side)
    if count > NUMBERED:
        _mistakes(figure, matrix, (margin + side + 0.25) / width, 1 - (HEAD + 0.2) / height)
    else:
        _numbers(axes, values, normalized)
    return figure


def _cells(axes: Axes, values: np.ndarray, normalized: bool) -> None:
    plain(axes, grid=False)
    # A square root: single mistakes are seen beside a class that is right a thousand times.
    top = 1.0 if normalized else max(float(values.max()), 1.0)
    axes.imshow(
        _coarse(values), cmap=BLUES, norm=PowerNorm(0.5, 0, top), interpolation="none", aspect="auto",
        extent=(-0.5, len(values) - 0.5, len(values) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_xlabel("true", color=FAINT, fontsize=10)
    axes.set_ylabel("predicted", color=FAINT, fontsize=10)
    for spine in axes.spines.values():
        spine.set(visible=True, color=EDGE)
    for line in (axes.axvline, axes.axhline):  # background stands apart
        line(len(values) - 1.5, color=EDGE, linewidth=0.8)


def _coarse(values: np.ndarray) -> np.ndarray:
    """At most CELLS a side: each shows the highest of its block, so that no rare mistake is lost."""
    block = math.ceil(len(values) / CELLS)
    if block == 1:
        return values
    starts = np.arange(0, len(values), block)
    highest: np.ndarray = np.maximum.reduceat(np.maximum.reduceat(values, starts, 0), starts, 1)
    return highest


def _ticks(axes: Axes, shown: Sequence[str], fonts: Sequence[str], size: float, side: float) -> None:
    if len(shown) > NAMED + 1:
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("true class, by number", color=FAINT, fontsize=10)
        axes.set_ylabel("predicted class, by number", color=FAINT, fontsize=10)
        return
    axes.set_xticks(range(len(shown)), shown, family=fonts, fontsize=size, color=INK)
    axes.set_yticks(range(len(shown)), shown, family=fonts, fontsize=size, color=INK)
    fitting = side / len(shown) * 72 / (0.65 * size)  # letters beside each other in a cell's width
    for name, label in zip(shown, axes.get_xticklabels(), strict=True):
        label.set_rotation(90 if len(name) > fitting else 0)


def _numbers(axes: Axes, values: np.ndarray, normalized: bool) -> None:
    top = 1.0 if normalized else max(float(values.max()), 1.0)
    size = 9 if len(values) <= 12 else 7 if len(values) <= 20 else 6
    for row, column in np.argwhere(values > (0.005 if normalized else 0)).tolist():
        value = values[row, column]
        text = f"{value:.2f}".removeprefix("0") if normalized else _short(int(value))
        colour = "white" if (value / top) ** 0.5 > 0.55 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


def _short(count: int) -> str:
    return f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"


def _mistakes(figure: Figure, matrix: ConfusionMatrix, left: float, top: float) -> None:
    """The highest cells beside the diagonal, in words; each with its share of the true objects."""
    counts, totals = matrix.counts, np.maximum(matrix.counts.sum(0), 1)
    between = counts[:-1, :-1] * (1 - np.eye(len(counts) - 1, dtype=np.int64))
    cells = [(int(cell) // len(between), int(cell) % len(between)) for cell in _highest(between.ravel(), 14)]
    missed, invented = _highest(counts[-1, :-1], 8), _highest(counts[:-1, -1], 8)
    classes = sorted({*missed, *invented, *(end for cell in cells for end in cell)})
    shown, fonts = drawable([matrix.names[index] for index in classes], classes, 16)
    name = dict(zip(classes, shown, strict=True))
    parts = {
        "taken for another": [
            f"{counts[said, true]:,}  {name[true]} → {name[said]}  ({counts[said, true] / totals[true]:.0%})"
            for said, true in cells
        ],
        "missed": [
            f"{counts[-1, true]:,}  {name[true]}  ({counts[-1, true] / totals[true]:.0%})" for true in missed
        ],
        "found where nothing is": [f"{counts[said, -1]:,}  {name[said]}" for said in invented],
    }
    line = 0.175 / figure.get_figheight()
    for title, lines in parts.items():
        figure.text(left, top, title, va="top", fontsize=9.5, fontweight="bold", color=INK)
        for number, text in enumerate(lines or ["never"]):
            figure.text(
                left, top - (1.4 + number) * line, text, va="top", fontsize=8, family=fonts, color=INK
            )
        top -= (max(len(lines), 1) + 2.8) * line


def _highest(counts: np.ndarray, most: int) -> list[int]:
    """Where the highest are, the highest first; zeros are not among them."""
    order = np.argsort(-counts, kind="stable")[:most]
    return [int(index) for index in order if counts[index]]
