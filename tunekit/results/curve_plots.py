"""The four curves of a validation: precision over recall, and F1, precision, recall over the confidence.

In: frozen Curves. Out: BoxPR_curve.png, BoxF1_curve.png, BoxP_curve.png, BoxR_curve.png, the names that YOLO
users know. Up to twenty classes have a line each; of more, the legend names the best and the worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from tunekit.evaluation.curves import Curves
from tunekit.results.style import (
    BEST,
    FAINT,
    HEAD,
    INK,
    PALE,
    class_colour,
    drawable,
    new_figure,
    plain,
    save,
)

FILES = ("BoxPR_curve.png", "BoxF1_curve.png", "BoxP_curve.png", "BoxR_curve.png")
NAMED = 20  # classes that have a colour and a line in the legend
ENDS = 6  # of more classes, so many of the best and of the worst have
WIDTH, HEIGHT, LEGEND = 9.6, 5.6, 2.5  # inches


@dataclass(frozen=True)
class _Plot:
    """One family of curves over a common axis."""

    title: str
    across: str
    up: str
    x: np.ndarray  # (points,)
    y: np.ndarray  # (C, points)
    rank: np.ndarray  # (C,) by which classes are sorted, and what the legend says of each


def write_curves(folder: Path, curves: Curves) -> None:
    """Draw all four anew."""
    figures = (pr_figure(curves), f1_figure(curves), precision_figure(curves), recall_figure(curves))
    for name, figure in zip(FILES, figures, strict=True):
        save(figure, folder / name)


def pr_figure(curves: Curves) -> Figure:
    plot = _Plot("Precision over recall", "recall", "precision", curves.recalls, curves.envelope, curves.ap50)
    return _figure(plot, curves, f"{_mean(curves.ap50):.3f}  mAP50 of all", marked=False)


def f1_figure(curves: Curves) -> Figure:
    return _by_confidence("F1", curves, curves.f1)


def precision_figure(curves: Curves) -> Figure:
    return _by_confidence("precision", curves, curves.precision)


def recall_figure(curves: Curves) -> Figure:
    return _by_confidence("recall", curves, curves.recall)


def _by_confidence(what: str, curves: Curves, y: np.ndarray) -> Figure:
    at = y[:, int(np.argmin(abs(curves.confidences - curves.best)))]
    title = f"{what[0].upper()}{what[1:]} over confidence"
    plot = _Plot(title, "confidence", what, curves.confidences, y, at)
    return _figure(plot, curves, f"{_mean(at):.3f}  mean of all", marked=True)


def _figure(plot: _Plot, curves: Curves, mean: str, marked: bool) -> Figure:
    """`marked`: with the confidence of the best F1, where the legend's values are read."""
    count = len(plot.y)
    said = f"{count:,} class{'' if count == 1 else 'es'} at overlap .5"
    if marked:
        said += (
            f"; dashed: confidence {curves.best:.3f}, which has the best mean F1; the values are read there"
        )
    elif count:
        said += "; the values are the areas below the curves (AP50)"
    figure = new_figure(WIDTH, HEIGHT, plot.title, said if count else "no class has a true box")
    figure.subplots_adjust(left=0.07, right=1 - LEGEND / WIDTH, bottom=0.1, top=1 - (HEAD + 0.1) / HEIGHT)
    axes = figure.add_subplot()
    plain(axes)
    axes.set(xlim=(0, 1), ylim=(0, 1.005))
    axes.set_xlabel(plot.across, color=FAINT, fontsize=9)
    axes.set_ylabel(plot.up, color=FAINT, fontsize=9)
    axes.xaxis.set_major_locator(MultipleLocator(0.1))
    axes.yaxis.set_major_locator(MultipleLocator(0.1))
    if not count:
        return figure
    named = _named(plot.rank)
    if len(named) < count:
        # Paler the more there are, so that a thousand lines still show where most of them run.
        rest = [np.column_stack((plot.x, plot.y[row])) for row in range(count) if row not in set(named)]
        alpha = float(np.clip(20 / count, 0.03, 0.5))
        axes.add_collection(LineCollection(rest, colors=FAINT, linewidths=0.8, alpha=alpha))
    # A class's own colour where all are named; else colours that differ among the few that are.
    colours = [class_colour(curves.classes[row] if len(named) == count else k) for k, row in enumerate(named)]
    for row, colour in zip(named, colours, strict=True):
        axes.plot(plot.x, plot.y[row], color=colour, linewidth=1.3, alpha=0.9)
    if marked:
        axes.axvline(curves.best, color=BEST, linewidth=1.2, linestyle=(0, (4, 3)), zorder=3)
    if count > 1:
        axes.plot(plot.x, plot.y.mean(0), color=INK, linewidth=3, zorder=4)
    _legend(figure, plot, curves, named, colours, mean)
    return figure


def _named(rank: np.ndarray) -> list[int]:
    """Rows that the legend names, the best first."""
    order = np.argsort(-rank, kind="stable").tolist()
    return order if len(order) <= NAMED else [*order[:ENDS], *order[-ENDS:]]


def _legend(
    figure: Figure, plot: _Plot, curves: Curves, named: Sequence[int], colours: Sequence[str], mean: str
) -> None:
    shown, fonts = drawable(curves.names, curves.classes, 20)
    lines = [
        Line2D([], [], color=colour, linewidth=2, label=f"{plot.rank[row]:.3f}  {shown[row]}")
        for row, colour in zip(named, colours, strict=True)
    ]
    if len(named) < len(plot.y):
        others = f"{len(plot.y) - len(named):,} others"
        lines.insert(ENDS, Line2D([], [], color=PALE, linewidth=1.5, label=others))
    if len(plot.y) > 1:
        lines.insert(0, Line2D([], [], color=INK, linewidth=3, label=mean))
    corner = 1 - (LEGEND - 0.1) / WIDTH, 1 - (HEAD + 0.05) / HEIGHT
    figure.legend(
        handles=lines, loc="upper left", bbox_to_anchor=corner,
        frameon=False, prop={"family": fonts, "size": 8.5}, labelcolor=INK, handlelength=1.4,
    )  # fmt: skip


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
