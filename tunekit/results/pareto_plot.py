"""The picture of a search with several objectives: fitness over each of the costs, and the front.

In: the trials. Out: a figure, a panel a cost. Drawn as plots.py draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tunekit.results.pareto import LABELS, front, model_of, weighed
from tunekit.results.style import BEST, FAINT, HEAD, INK, MAIN, PALE, new_figure, plain, save
from tunekit.results.trials import TrialRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOT = "tune_pareto.png"
PANEL, HEIGHT = 6.2, 4.8  # inches
DEFAULTS = 0  # the trial


def write_pareto_plot(run_dir: Path, trials: Sequence[TrialRow]) -> None:
    """Draw it anew, if there is a front."""
    if weighed(trials):
        save(pareto_figure(trials), run_dir / PLOT)


def pareto_figure(trials: Sequence[TrialRow]) -> Figure:
    """Of all trials that trained to their end; there must be some."""
    known, found = weighed(trials), front(trials)
    costs = list(known[0].costs)
    width, inch = PANEL * len(costs), 1 / HEIGHT
    told = (
        f"{len(known)} trials trained to their end; {len(found)} that none beats in all objectives: the front"
    )
    figure = new_figure(width, HEIGHT, f"Fitness against {' and '.join(costs)}", told)
    figure.subplots_adjust(
        left=0.7 / width, right=1 - 0.3 / width, top=1 - (HEAD + 0.25) * inch, bottom=0.55 * inch, wspace=0.16
    )
    for place, cost in enumerate(costs):
        axes = figure.add_subplot(1, len(costs), place + 1)
        _panel(axes, known, found, cost)
        if place == 0:
            axes.set_ylabel("fitness (mAP50-95)", color=FAINT, fontsize=9)
    figure.legend(
        handles=_handles(any(row.number == DEFAULTS for row in known)), loc="upper left", ncols=3,
        bbox_to_anchor=(0.1 / width, 1 - 0.5 * inch), frameon=False, fontsize=8.5, handletextpad=0.3,
        columnspacing=1.4, labelcolor=INK,
    )  # fmt: skip
    return figure


def _panel(axes: Axes, known: Sequence[TrialRow], found: Sequence[TrialRow], cost: str) -> None:
    """The steps are the front of these two objectives; of three, some of the whole front lie off them."""
    plain(axes)
    axes.set_xlabel(LABELS[cost], color=FAINT, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    steps, ups = _points(sorted(front(known, (cost,)), key=lambda row: (row.costs[cost], row.fitness)), cost)
    last = max(row.costs[cost] for row in known)
    axes.step([*steps, last], [*ups, ups[-1]], where="post", color=MAIN, linewidth=1.4, alpha=0.6, zorder=2)
    numbers = {row.number for row in found}
    others = [row for row in known if row.number not in numbers]
    defaults = [row for row in known if row.number == DEFAULTS]
    axes.scatter(*_points(others, cost), s=22, color=PALE, linewidths=0, zorder=3)
    axes.scatter(*_points(found, cost), s=46, color=MAIN, linewidths=0, zorder=4)
    axes.scatter(
        *_points(defaults, cost), s=110, facecolors="none", edgecolors=BEST, linewidths=1.8, zorder=5
    )
    for row, across, up in zip(found, *_points(found, cost), strict=True):
        axes.annotate(
            f"{row.number}  {Path(model_of(row)).stem}", (across, up),
            xytext=(-7, 5) if across == last else (7, 5), ha="right" if across == last else "left",
            textcoords="offset points", fontsize=8, color=INK, zorder=6,
        )  # fmt: skip
    axes.margins(x=0.08, y=0.12)


def _points(trials: Sequence[TrialRow], cost: str) -> tuple[list[float], list[float]]:
    """How far across and up they are."""
    return [row.costs[cost] for row in trials], [row.fitness or 0.0 for row in trials]


def _handles(defaults: bool) -> list[Line2D]:
    handles = [
        Line2D(
            [], [], marker="o", color=MAIN, markersize=6.5, label="on the front, with its trial and model"
        ),
        Line2D([], [], marker="o", color=PALE, markersize=5, linestyle="", label="beaten by another trial"),
    ]
    if defaults:
        handles.append(
            Line2D(
                [], [], marker="o", markerfacecolor="none", markeredgecolor=BEST, markeredgewidth=1.6,
                markersize=9, linestyle="", label="the defaults (trial 0)",
            )
        )  # fmt: skip
    return handles
