"""What mattered, as files: importance.csv and importance.png in the run folder.

In: the trials and the search space. Out: the files, and the rows that they show. Where too few trials can
tell, those of an earlier time are taken away.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tunekit.atomic import write_text
from tunekit.results.importance import Importance, importances
from tunekit.results.style import HEAD, INK, MAIN, PALE, new_figure, plain, save
from tunekit.results.trials import TrialRow
from tunekit.search.space import Space

TABLE, PLOT = "importance.csv", "importance.png"
BAR = 0.24  # inches
COLOURS = {"mattered": MAIN, "unclear": "#93b4f5", "no effect": PALE}


def write_importance(run_dir: Path, trials: Sequence[TrialRow], space: Space) -> list[Importance]:
    """Write both files anew; the rows, [] where too few trials can tell."""
    rows = importances(trials, space)
    if not rows:
        for name in (TABLE, PLOT):
            (run_dir / name).unlink(missing_ok=True)
        return rows
    write_text(run_dir / TABLE, importance_csv(rows))
    save(importance_figure(rows), run_dir / PLOT)
    return rows


def importance_csv(rows: Sequence[Importance]) -> str:
    """A row a hyperparameter. `chance`: how often as much is seen where nothing matters; `rank_from` and
    `rank_to`: its place over random halves of the trials; `bound`: the end of its range with the best."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(
        ["parameter", "importance", "chance", "rank_from", "rank_to", "verdict", "bound"],
    )
    for row in rows:
        writer.writerow(
            [
                row.parameter,
                f"{row.importance:.4f}",
                f"{row.chance:.4f}",
                *row.ranks,
                row.verdict,
                row.bound,
            ]
        )
    return table.getvalue()


def importance_figure(rows: Sequence[Importance]) -> Figure:
    """A bar a hyperparameter, the most important on top, in the colour of its verdict."""
    height = HEAD + 0.65 + BAR * len(rows)
    figure = new_figure(7.2, height, "What mattered", "importance of each hyperparameter; all together are 1")
    figure.subplots_adjust(left=0.2, right=0.97, top=1 - (HEAD + 0.2) / height, bottom=0.35 / height)
    axes = figure.add_subplot()
    plain(axes)
    axes.grid(visible=False, axis="y")
    places = range(len(rows))
    colours = [COLOURS[row.verdict] for row in rows]
    axes.barh(places, [row.importance for row in rows], height=0.7, color=colours)
    axes.set_yticks(places, [row.parameter for row in rows])
    axes.tick_params(axis="y", labelsize=8, labelcolor=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.18 * max(row.importance for row in rows))
    for place, row in zip(places, rows, strict=True):
        if row.bound:
            axes.annotate(
                f"at its {row.bound} end", (row.importance, place),
                xytext=(6, 0), textcoords="offset points", va="center", fontsize=7.5, color="#b45309",
            )  # fmt: skip
    handles = [
        Patch(color=COLOURS[verdict], label=verdict)
        for verdict in COLOURS
        if any(row.verdict == verdict for row in rows)
    ]
    corner = (0.02, 1 - 0.5 / height)
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=corner, ncols=len(handles), frameon=False,
        fontsize=8.5, handletextpad=0.5, columnspacing=1.4, labelcolor=INK,
    )  # fmt: skip
    return figure
