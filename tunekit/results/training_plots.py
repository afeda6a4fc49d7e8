"""The two pictures of a training: losses and metrics over the epochs, and what the labels are like.

In: a run folder's results.csv; the labels of an ImageSource. Out: results.png and labels.jpg in the run
folder. Knows nothing of models or batches.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from tunekit.errors import RunFolderError
from tunekit.results.style import (
    BEST,
    EDGE,
    FAINT,
    HEAD,
    INK,
    MAIN,
    PALE,
    class_colour,
    drawable,
    new_figure,
    plain,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tunekit.data.cache import ImageSource

RESULTS, LABELS = "results.png", "labels.jpg"
PANELS = (
    ("train/box_loss", "train/cls_loss", "train/dfl_loss", "metrics/precision(B)", "metrics/recall(B)"),
    ("val/box_loss", "val/cls_loss", "val/dfl_loss", "metrics/mAP50(B)", "metrics/mAP50-95(B)"),
)
FITNESS = "metrics/mAP50-95(B)"
BLUES = LinearSegmentedColormap.from_list("blues", ["#dbeafe", "#60a5fa", MAIN, "#172554"])
NAMED = 30  # classes that a histogram can name
OUTLINES = 500  # boxes drawn over each other


def write_results_plot(folder: Path) -> None:
    """results.png anew from results.csv, as far as the training has come."""
    path = folder / "results.csv"
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as fault:
        raise RunFolderError(f"cannot read {path}: {fault.strerror or fault}") from fault
    save(results_figure(rows), folder / RESULTS)


def write_labels_plot(folder: Path, source: ImageSource) -> None:
    """labels.jpg: the classes, sizes and places of all boxes of `source`."""
    none = np.zeros((0, 5), np.float32)
    labels = np.concatenate([none, *(source.labels(index) for index in range(len(source)))])
    save(labels_figure(labels, source.names, len(source)), folder / LABELS)


def results_figure(rows: Sequence[Mapping[str, str]]) -> Figure:
    """A panel a column of results.csv: each epoch's value pale, its moving average strong."""
    best = _best_epoch(rows)
    said = f"{len(rows)} epoch{'' if len(rows) == 1 else 's'}"
    if best is not None:
        said += (
            f"; dashed: epoch {best[0]:g} with the best mAP50-95, whose values are written above the panels"
        )
    width, height = 14.0, 6.2
    figure = new_figure(width, height, "Training", said)
    figure.subplots_adjust(
        left=0.035, right=0.985, bottom=0.075, top=1 - (HEAD + 0.25) / height, wspace=0.2, hspace=0.3
    )
    for place, column in enumerate(name for line in PANELS for name in line):
        axes = figure.add_subplot(len(PANELS), len(PANELS[0]), place + 1)
        _curve(axes, column, *_series(rows, column), best)
        axes.set_xlim(0.5, max(len(rows), 1) + 0.5)
        if place >= len(PANELS[0]):
            axes.set_xlabel("epoch", color=FAINT, fontsize=8)
    return figure


def smoothed(epochs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A Gaussian moving average, a thirtieth of the training wide; it may reach over missing epochs."""
    width = max(1.0, (epochs[-1] - epochs[0]) / 30) if len(epochs) else 1.0
    weights = np.exp(-((epochs[:, None] - epochs) ** 2) / (2 * width**2))
    return (weights * values).sum(1) / weights.sum(1)


def _series(rows: Sequence[Mapping[str, str]], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values, those that were measured: val=False leaves gaps."""
    pairs = [(float(row["epoch"]), _number(row.get(column))) for row in rows]
    known = np.array([pair for pair in pairs if math.isfinite(pair[1])]).reshape(-1, 2)
    return known[:, 0], known[:, 1]


def _number(text: str | None) -> float:
    return float(text) if text else math.nan


def _best_epoch(rows: Sequence[Mapping[str, str]]) -> tuple[float, float] | None:
    epochs, values = _series(rows, FITNESS)
    if not len(values):
        return None
    return float(epochs[values.argmax()]), float(values.max())


def _curve(
    axes: Axes, column: str, epochs: np.ndarray, values: np.ndarray, best: tuple[float, float] | None
) -> None:
    plain(axes)
    axes.set_title(column, loc="left", fontsize=9.5, fontweight="bold", color=INK, pad=5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if not len(values):
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=FAINT, fontsize=9)
        return
    few = len(values) <= 60
    axes.plot(
        epochs, values, color=PALE, linewidth=1.2,
        marker="o" if few else "", markersize=3 if len(values) > 1 else 6,
    )  # fmt: skip
    if len(values) > 2:
        axes.plot(epochs, smoothed(epochs, values), color=MAIN, linewidth=2)
    if best is not None:
        axes.axvline(best[0], color=BEST, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        there = "".join(f"{value:.4g}" for value in values[epochs == best[0]])
        axes.set_title(there, loc="right", fontsize=8.5, color="#b45309", pad=5)
        if column == FITNESS:
            axes.scatter(*best, s=120, marker="*", color=BEST, edgecolors=INK, linewidths=0.7, zorder=5)


def labels_figure(labels: np.ndarray, names: Sequence[str], images: int) -> Figure:
    """`labels`: (n, 5) class, x, y, w, h as shares of the image."""
    said = (
        f"{len(labels):,} boxes of {len(names):,} class{'' if len(names) == 1 else 'es'} in {images:,} images"
    )
    side = 10.0
    figure = new_figure(side, side, "Labels of the training images", said)
    figure.subplots_adjust(
        left=0.075, right=0.965, bottom=0.06, top=1 - (HEAD + 0.2) / side, wspace=0.22, hspace=0.34
    )
    histogram, outlines, centres, sizes = (figure.add_subplot(2, 2, place + 1) for place in range(4))
    _histogram(histogram, labels[:, 0].astype(np.int64), names)
    _outlines(outlines, labels)
    _density(centres, labels[:, 1], labels[:, 2], "where they are", "x of the centre", "y of the centre")
    centres.invert_yaxis()  # as in the image: y counts downwards
    _density(sizes, labels[:, 3], labels[:, 4], "how large they are", "width", "height")
    return figure


def _histogram(axes: Axes, classes: np.ndarray, names: Sequence[str]) -> None:
    plain(axes)
    _panel_title(axes, "how many of each class")
    counts = np.bincount(classes, minlength=len(names))
    axes.grid(visible=False, axis="x")
    axes.set_ylim(0, max(counts.max(initial=0) * 1.12, 1))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if len(names) <= NAMED:
        shown, fonts = drawable(names, range(len(names)), 16)
        bars = axes.bar(
            range(len(names)), counts, width=0.75, color=[class_colour(i) for i in range(len(names))]
        )
        if len(names) <= 20:
            axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=7, color=FAINT, padding=2)
        turned = 90 if max(map(len, shown)) * len(names) > 50 else 0
        size = 8 if len(names) <= 15 else 7
        axes.set_xticks(range(len(names)), shown, family=fonts, fontsize=size, color=INK, rotation=turned)
        margin = max(0.7, 2 - len(names) / 2)
        axes.set_xlim(-margin, len(names) - 1 + margin)
        return
    order = np.argsort(-counts, kind="stable")
    axes.fill_between(range(len(counts)), counts[order], step="mid", color=MAIN, linewidth=0, alpha=0.85)
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.set_xlabel("classes, the most frequent first", color=FAINT, fontsize=8)
    ends = [*order[:5].tolist(), *order[-5:].tolist()]
    shown, fonts = drawable([names[index] for index in ends], ends, 20)
    lines = [f"{counts[index]:,}  {name}" for index, name in zip(ends, shown, strict=True)]
    axes.text(
        0.97, 0.96, "\n".join([*lines[:5], "…", *lines[5:]]),
        transform=axes.transAxes, ha="right", va="top", fontsize=8, family=fonts, color=INK, linespacing=1.35,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2},
    )  # fmt: skip


def _outlines(axes: Axes, labels: np.ndarray) -> None:
    """Boxes around one centre: their sizes and shapes at a glance."""
    plain(axes, grid=False)
    axes.spines["bottom"].set_visible(False)
    step = max(1, math.ceil(len(labels) / OUTLINES))
    shown = labels[::step]
    some = f"{len(shown)} of them" if step > 1 else "all of them"
    _panel_title(axes, f"their shapes: {some} around one centre")
    half = shown[:, 3:5].astype(float) / 2
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
    axes.add_patch(Rectangle((0, 0), 1, 1, facecolor="none", edgecolor=EDGE, linewidth=0.8))  # the image
    axes.add_collection(
        LineCollection(
            list(0.5 + half[:, None] * corners),
            colors=[class_colour(index) for index in shown[:, 0].astype(int).tolist()],
            linewidths=0.7,
            alpha=0.55,
        )
    )
    axes.set(xlim=(-0.02, 1.02), ylim=(1.02, -0.02), aspect="equal", xticks=[], yticks=[])


def _density(axes: Axes, across: np.ndarray, up: np.ndarray, title: str, xlabel: str, ylabel: str) -> None:
    plain(axes)
    _panel_title(axes, title)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xlabel(f"{xlabel}, share of the image", color=FAINT, fontsize=8)
    axes.set_ylabel(ylabel, color=FAINT, fontsize=8)
    if len(across) <= 300:  # so few are seen one by one
        axes.scatter(across, up, s=9, color=MAIN, alpha=0.6, linewidths=0)
        return
    bins = np.linspace(0, 1, 51 if len(across) > 3000 else 26)
    counts = np.histogram2d(up, across, bins)[0]
    axes.pcolormesh(
        bins, bins, np.ma.masked_equal(counts, 0), cmap=BLUES, norm=LogNorm(1, max(counts.max(), 2)),
        edgecolors="none", rasterized=True,
    )  # fmt: skip


def _panel_title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9.5, fontweight="bold", color=INK, pad=6)
