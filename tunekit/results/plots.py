"""The pictures of a run: fitness against each hyperparameter, and fitness over the trials.

In: the trials and the search space. Out: tune_scatter_plots.png and tune_fitness.png in the run folder; with
several objectives tune_pareto.png, too (pareto_plot.py).
Drawn with matplotlib's objects on its Agg canvas: no window, no pyplot, no global state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter, NullLocator

from tunekit.results.pareto_plot import write_pareto_plot
from tunekit.results.style import BEST, DPI, FAINT, INK, MAIN, PALE, plain, save
from tunekit.results.trials import TrialRow, best_trial
from tunekit.search.space import Parameter, Space, load_space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPLETE, STOPPED, FAILED = MAIN, PALE, "#dc2626"
DENSITY = LinearSegmentedColormap.from_list("density", ["#60a5fa", "#1d4ed8", "#172554"])
PANEL = (2.35, 1.95)  # inches
HEAD = 0.85  # above the panels: title, counts, legend


def write_plots(run_dir: Path, trials: Sequence[TrialRow]) -> None:
    """Draw all pictures anew. The space is read from <run>/space.yaml."""
    space = load_space(str(run_dir / "space.yaml"))
    save(scatter_figure(trials, space), run_dir / "tune_scatter_plots.png")
    save(fitness_figure(trials), run_dir / "tune_fitness.png")
    write_pareto_plot(run_dir, trials)


def scatter_figure(trials: Sequence[TrialRow], space: Space) -> Figure:
    """A panel a hyperparameter: its value across, in its scale, and the fitness up.

    Full trials are darker where they crowd; stopped ones are pale, and sit on the lower edge when they
    stopped below all full ones; failed and running ones are absent.
    """
    shown = [row for row in trials if row.fitness is not None and row.state in ("COMPLETE", "PRUNED")]
    rows, columns = _grid(len(space.parameters))
    height = rows * PANEL[1] + HEAD
    figure = Figure(figsize=(columns * PANEL[0] + 0.5, height), dpi=DPI, facecolor="white")
    top, bottom = 1 - (HEAD + 0.15) / height, 0.32 / height
    figure.subplots_adjust(
        left=0.62 / (columns * PANEL[0] + 0.5), right=0.985, top=top, bottom=bottom, wspace=0.12, hspace=0.5
    )
    limits = _fitness_limits(shown)
    for index, parameter in enumerate(space.parameters):
        axes = figure.add_subplot(rows, columns, index + 1)
        _panel(axes, parameter, shown, limits)
        if index % columns:
            axes.yaxis.set_major_formatter(NullFormatter())
        else:
            axes.set_ylabel("fitness", color=FAINT, fontsize=8)
    _headline(figure, height, "Fitness by hyperparameter", _counts(trials))
    _legend(figure, height, shown)
    return figure


def _grid(panels: int) -> tuple[int, int]:
    """Rows and columns: three to seven across, with as few gaps as can be."""
    widest = 7 if panels > 18 else 5
    columns = min(range(3, widest + 1), key=lambda n: (-panels % n + (n < widest - 2) * 2, -n))
    return math.ceil(panels / columns), columns


def _panel(axes: Axes, parameter: Parameter, shown: Sequence[TrialRow], limits: tuple[float, float]) -> None:
    plain(axes)
    _value_axis(axes, parameter)
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    best = best_trial(shown)
    shown = [row for row in shown if parameter.name in row.params]
    for state in ("PRUNED", "COMPLETE"):
        group = [row for row in shown if row.state == state and row is not best]
        if not group:
            continue
        across = np.array([_position(parameter, row) for row in group])
        up = _heights(group).clip(limits[0] + _rim(limits))
        if state == "PRUNED":
            axes.scatter(across, up, s=10, color=STOPPED, linewidths=0, alpha=0.8)
        else:
            density = _density(axes, across, up, limits)
            order = np.argsort(density)
            axes.scatter(
                across[order],
                up[order],
                s=14 if len(shown) > 60 else 24,
                c=density[order],
                cmap=DENSITY,
                vmin=0,
                vmax=1,
                linewidths=0,
            )
    value = ""
    if best is not None and best.fitness is not None and parameter.name in best.params:
        axes.scatter(
            [_position(parameter, best, jitter=False)], [best.fitness],
            s=110, marker="*", color=BEST, edgecolors=INK, linewidths=0.7, zorder=5,
        )  # fmt: skip
        chosen = best.params[parameter.name]
        value = f"{chosen:.4g}" if isinstance(chosen, float) else str(chosen)
    axes.set_title(parameter.name, loc="left", fontsize=9, fontweight="bold", color=INK, y=1.0, pad=4)
    axes.set_title(value, loc="right", fontsize=8, color="#b45309", y=1.0, pad=4)


def _value_axis(axes: Axes, parameter: Parameter) -> None:
    if parameter.kind == "choice":
        axes.set_xticks(range(len(parameter.choices)), [str(choice) for choice in parameter.choices])
        axes.set_xlim(-0.6, len(parameter.choices) - 0.4)
        if len(parameter.choices) > 3:
            axes.tick_params(axis="x", labelsize=6)
        return
    low, high = parameter.low, parameter.high
    if parameter.scale == "log":
        axes.set_xscale("log")
        margin = (high / low) ** 0.04
        axes.set_xlim(low / margin, high * margin)
        decades = math.log10(high / low)
        if decades > 2:
            axes.xaxis.set_major_locator(LogLocator(numticks=5 if decades > 4 else 4))
            axes.xaxis.set_major_formatter(LogFormatterSciNotation())
        else:
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if decades > 0.6 else MaxNLocator(4))
            axes.xaxis.set_major_formatter("{x:g}")
    elif parameter.scale == "logit":
        axes.set_xscale("logit")
        axes.set_xlim(low * 0.96, high + (1 - high) * 0.04)
        ends = (low, parameter.from_unit(0.5), high)
        axes.set_xticks(ends, [f"{float(end):.2g}" for end in ends])
    else:
        margin = (high - low) * 0.04
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=parameter.kind == "int"))
        axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _position(parameter: Parameter, row: TrialRow, jitter: bool = True) -> float:
    """Where a trial stands across; trials of one choice beside each other, by number."""
    value = row.params[parameter.name]
    if parameter.kind != "choice":
        return float(value)
    spread = (row.number * 0.618034 % 1 - 0.5) * 0.5 if jitter else 0.0  # golden ratio: even at any count
    return parameter.choices.index(value) + spread


def _density(axes: Axes, across: np.ndarray, up: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """How crowded it is around each point, 0..1, as seen: in the axes' scale."""
    span = axes.get_xlim()
    seen = axes.xaxis.get_transform().transform(np.concatenate((across, span)))
    x = (seen[:-2] - seen[-2]) / (seen[-1] - seen[-2])
    y = (up - limits[0]) / (limits[1] - limits[0])
    squared = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2
    crowd = np.exp(-squared / (2 * 0.06**2)).sum(1)
    return (crowd - 1) / max(crowd.max() - 1, 4)  # a handful of points does not make a crowd


def _fitness_limits(shown: Sequence[TrialRow]) -> tuple[float, float]:
    """From the worst full trial to the best of all; stopped ones may be far below and would flatten it."""
    full = [row.fitness for row in shown if row.state == "COMPLETE" and row.fitness is not None]
    every = [row.fitness for row in shown if row.fitness is not None]
    if not every:
        return 0.0, 1.0
    low, high = min(full or every), max(every)
    span = max(high - low, 0.02 * abs(high), 1e-3)
    return low - 0.15 * span, high + 0.12 * span


def _heights(trials: Sequence[TrialRow]) -> np.ndarray:
    return np.array([row.fitness for row in trials], dtype=float)


def _rim(limits: tuple[float, float]) -> float:
    return 0.03 * (limits[1] - limits[0])


def fitness_figure(trials: Sequence[TrialRow]) -> Figure:
    """Fitness of each trial in order, the best so far, and the level of the defaults (trial 0)."""
    figure = Figure(figsize=(9, 4.6), dpi=DPI, facecolor="white")
    figure.subplots_adjust(left=0.075, right=0.97, top=0.82, bottom=0.115)
    axes = figure.add_subplot()
    plain(axes)
    axes.set_xlabel("trial", color=FAINT, fontsize=9)
    axes.set_ylabel("fitness (mAP50-95)", color=FAINT, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    finished = [row for row in trials if row.state in ("COMPLETE", "PRUNED") and row.fitness is not None]
    for state, colour, size in (("PRUNED", STOPPED, 16), ("COMPLETE", COMPLETE, 22)):
        group = [row for row in finished if row.state == state]
        across = [row.number for row in group]
        axes.scatter(across, _heights(group), s=size, color=colour, linewidths=0, zorder=3)
    last = max((row.number for row in trials), default=0)
    if finished:
        numbers = [row.number for row in finished] + [last]
        levels = np.maximum.accumulate(np.append(_heights(finished), -np.inf))
        axes.step(numbers, levels, where="post", color=BEST, linewidth=1.8, zorder=2)
    failed = [row.number for row in trials if row.state == "FAIL"]
    if failed:
        bottom = axes.get_xaxis_transform()  # data across, share of the axes up
        axes.scatter(failed, [0.02] * len(failed), s=18, marker="x", color=FAILED, transform=bottom, zorder=3)
    defaults = next((row.fitness for row in finished if row.number == 0), None)
    if defaults is not None:
        axes.axhline(defaults, color=INK, linewidth=0.9, linestyle=(0, (5, 4)), zorder=1)
    best = best_trial(trials)
    if best is not None and best.fitness is not None:
        axes.scatter(
            [best.number], [best.fitness],
            s=170, marker="*", color=BEST, edgecolors=INK, linewidths=0.8, zorder=5,
        )  # fmt: skip
    axes.set_xlim(-0.02 * max(last, 10) - 0.5, max(last, 10) * 1.02 + 0.5)
    _headline(figure, 4.6, "Fitness by trial", _counts(trials))
    _fitness_legend(figure, best, defaults, bool(failed), any(row.state == "PRUNED" for row in finished))
    return figure


def _fitness_legend(
    figure: Figure, best: TrialRow | None, defaults: float | None, failed: bool, stopped: bool
) -> None:
    handles = [_dot(COMPLETE, "full trial")]
    if stopped:
        handles.append(_dot(STOPPED, "stopped early"))
    if failed:
        handles.append(Line2D([], [], marker="x", color=FAILED, linestyle="", markersize=4.5, label="failed"))
    if best is not None:
        handles.append(Line2D([], [], color=BEST, linewidth=1.8, label="best so far"))
        handles.append(_star(f"best: {best.fitness:.4f}, trial {best.number}"))
    if defaults is not None:
        label = f"defaults: {defaults:.4f}"
        handles.append(Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (5, 4)), label=label))
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.012, 0.905), ncols=len(handles), frameon=False,
        fontsize=8.5, handletextpad=0.5, columnspacing=1.6, labelcolor=INK,
    )  # fmt: skip


def _legend(figure: Figure, height: float, shown: Sequence[TrialRow]) -> None:
    best = best_trial(shown)
    handles = [_dot("#1d4ed8", "full trial, darker where they crowd")]
    if any(row.state == "PRUNED" for row in shown):
        handles.append(_dot(STOPPED, "stopped early"))
    if best is not None:
        handles.append(_star(f"best: {best.fitness:.4f}, trial {best.number}"))
    corner = (0.08 / figure.get_figwidth(), 1 - 0.48 / height)
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=corner, ncols=len(handles),
        frameon=False, fontsize=8.5, handletextpad=0.3, columnspacing=1.4, labelcolor=INK,
    )  # fmt: skip


def _dot(colour: str, label: str) -> Line2D:
    return Line2D([], [], marker="o", color=colour, linestyle="", markersize=5, label=label)


def _star(label: str) -> Line2D:
    return Line2D(
        [], [], marker="*", color=BEST, markeredgecolor=INK, markeredgewidth=0.6, markersize=11, linestyle="",
        label=label,
    )  # fmt: skip


def _headline(figure: Figure, height: float, title: str, subtitle: str) -> None:
    inch = 1 / height
    left = 0.2 / figure.get_figwidth()
    figure.text(left, 1 - 0.14 * inch, title, va="top", fontsize=12, fontweight="bold", color=INK)
    figure.text(left, 1 - 0.37 * inch, subtitle, va="top", fontsize=8.5, color=FAINT)


def _counts(trials: Sequence[TrialRow]) -> str:
    names = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "running"}
    counts = {name: sum(row.state == state for row in trials) for state, name in names.items()}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{len(trials)} trials: {told}" if trials else "no trial yet"
