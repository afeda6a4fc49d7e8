"""A run folder in a notebook: its trials, its best, its curves.

In: the path of a folder that `tunekit tune` writes, or has written. Every answer is read from the files
at the moment of the question, so a Run follows a search that is still going on. Needs no Ray, no torch.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import RunFolderError, TunekitError
from tunekit.results.confirmation import Confirmation, chosen, read_confirmation, verdict
from tunekit.results.pareto import front
from tunekit.results.trials import JOURNAL, TrialRow, best_trial, read_trials

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from tunekit.results.importance import Importance

SHOWN = 10  # trials in the notebook's table


class Run:
    """A tune's folder.

    >>> run = Run("runs/tune/digits")  # doctest: +SKIP
    >>> run.best_hyperparameters["lr0"]  # doctest: +SKIP
    >>> run.to_pandas().plot.scatter("lr0", "fitness", logx=True)  # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise RunFolderError(f"{self.path}: there is no such folder")
        if not (self.path / JOURNAL).is_file():
            raise RunFolderError(f"{self.path} is no run folder of tunekit tune: it has no {JOURNAL}")

    @property
    def trials(self) -> list[TrialRow]:
        """All trials that were started, by number."""
        return read_trials(self.path)

    @property
    def best(self) -> TrialRow | None:
        """The trial that a confirmation chose, or the finished one with the highest fitness; None without."""
        trials = self.trials
        return chosen(trials, verdict(self.path, trials))

    @property
    def confirmation(self) -> Confirmation | None:
        """The best trials and the defaults, run again: who won, by how much, how surely; None without."""
        return read_confirmation(self.path)

    @property
    def best_hyperparameters(self) -> dict[str, Any]:
        """The tuned arguments of the best trial; best_hyperparameters.yaml has the others too."""
        best = self.best
        if best is None:
            raise RunFolderError(f"{self.path}: no trial has finished with a fitness yet")
        return best.params

    @property
    def best_weights(self) -> Path:
        """The best trial's weights at its best epoch; after a confirmation, those of its best run there."""
        weights = self.path / "weights" / "best.pt"
        if not weights.is_file():
            raise RunFolderError(f"{self.path}: there are no weights yet ({weights} is missing)")
        return weights

    def pareto(self) -> list[TrialRow]:
        """Of several objectives: the trials that none beats in all, the best fitness first; else []."""
        return front(self.trials)

    def epochs(self) -> pyarrow.Table:
        """A row an epoch of every trial: trial, epoch, losses, metrics, lr, seconds."""
        from tunekit.results.store import read_epochs

        return read_epochs(self.path)

    def importances(self) -> list[Importance]:
        """How much each hyperparameter mattered, the most important first; [] while too few trials can tell.

        Takes seconds: it is measured against chance (results/importance.py).
        """
        from tunekit.results.importance import importances
        from tunekit.search.space import load_space

        return importances(self.trials, load_space(str(self.path / "space.yaml")))

    def to_pandas(self) -> pandas.DataFrame:
        """The trials as a table with a column for each objective, metric and hyperparameter."""
        try:
            import pandas
        except ImportError as fault:
            raise TunekitError("to_pandas() needs pandas: pip install pandas") from fault
        rows = [
            {
                "trial": row.number,
                "state": row.state,
                "fitness": row.fitness,
                **row.costs,
                **row.metrics,
                **row.params,
                "epochs": row.epochs,
                "seconds": row.seconds,
                "reason": row.reason,
            }
            for row in self.trials
        ]
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}): {_summary(self.trials)}"

    def _repr_html_(self) -> str:
        trials = self.trials
        ranked = sorted(trials, key=lambda row: -1.0 if row.fitness is None else row.fitness, reverse=True)
        lines = "".join(_html_row(row) for row in ranked[:SHOWN])
        hidden = len(trials) - SHOWN
        more = f"<p>and {hidden} more: <code>run.to_pandas()</code></p>" if hidden > 0 else ""
        return (
            f"<p><b>{html.escape(str(self.path))}</b>: {html.escape(_summary(trials))}</p>"
            "<table><tr><th>trial</th><th>state</th><th>fitness</th><th>epochs</th><th>hyperparameters</th></tr>"
            f"{lines}</table>{more}"
        )


def _summary(trials: list[TrialRow]) -> str:
    best = best_trial(trials)
    count = f"{len(trials)} trial{'' if len(trials) == 1 else 's'}"
    return count if best is None else f"{count}, best fitness {best.fitness:.4f} of trial {best.number}"


def _html_row(row: TrialRow) -> str:
    fitness = "" if row.fitness is None else f"{row.fitness:.4f}"
    words = [
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in row.params.items()
    ]
    shown = row.reason or ", ".join(words[:6]) + (", …" if len(words) > 6 else "")
    cells = (row.number, row.state, fitness, row.epochs, shown)
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"
