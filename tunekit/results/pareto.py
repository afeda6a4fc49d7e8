"""What a search with several objectives comes to: its front, the trials that no other beats in all of them.

In: the trials. Out: the front as rows, as <run>/pareto.csv and as a table for the terminal. A search for the
fitness alone has none.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tunekit.atomic import write_text
from tunekit.results.trials import TrialRow, place
from tunekit.search.pareto import undominated

TABLE = "pareto.csv"
LABELS = {"parameters": "parameters (M)", "gflops": "GFLOPs", "latency": "latency (ms)"}
SHOWN = 10  # rows in the terminal


def weighed(trials: Sequence[TrialRow]) -> list[TrialRow]:
    """Those of which all objectives are known: they trained to their end."""
    return [row for row in trials if row.state == "COMPLETE" and row.costs]


def front(trials: Sequence[TrialRow], costs: Sequence[str] | None = None) -> list[TrialRow]:
    """The trials that none beats in fitness and all `costs` (all that there are when left out), the best
    fitness first; [] where there is one objective."""
    known = weighed(trials)
    if not known:
        return []
    names = known[0].costs if costs is None else costs
    worth = np.array([[row.fitness, *(-row.costs[name] for name in names)] for row in known], dtype=float)
    found = [row for row, among in zip(known, undominated(worth), strict=True) if among]
    return sorted(found, key=place, reverse=True)


def model_of(row: TrialRow) -> str:
    """Nothing where the space searches it under a condition that is not met."""
    return str(row.params.get("model", ""))


def write_pareto(run_dir: Path, trials: Sequence[TrialRow]) -> None:
    """Write <run>/pareto.csv anew, if there is a front."""
    found = front(trials)
    if found:
        write_text(run_dir / TABLE, pareto_csv(found))


def pareto_csv(found: Sequence[TrialRow]) -> str:
    """A row a trial: the objectives, then its hyperparameters, the model among them."""
    costs, params = list(found[0].costs), list(dict.fromkeys(name for row in found for name in row.params))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["trial", "fitness", *costs, *params])
    for row in found:
        writer.writerow([row.number, row.fitness, *row.costs.values(), *map(row.params.get, params)])
    return table.getvalue()


def pareto_words(trials: Sequence[TrialRow]) -> list[str]:
    """The front as lines of a table, the best fitness first; [] without one."""
    found = front(trials)
    if not found:
        return []
    table = Table(box=None, pad_edge=False)
    for name in ("trial", "fitness", *(LABELS[cost] for cost in found[0].costs)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for row in found[:SHOWN]:
        costs = [f"{cost:g}" for cost in row.costs.values()]
        table.add_row(str(row.number), f"{row.fitness:.4f}", *costs, model_of(row))
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    more = len(found) - SHOWN
    rest = [f"and {more} more in {TABLE}"] if more > 0 else []
    return [f"no trial beats these in {' and '.join(['fitness', *found[0].costs])} together:", *lines, *rest]
