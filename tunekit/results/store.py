"""The tables of a run folder, written anew after every trial.

    tune_results.csv           a row a trial
    results.parquet            a row an epoch
    best_hyperparameters.yaml  what to train with (best.py)
    pareto.csv                 of several objectives: the trials that none beats in all (pareto.py)
    confirm.csv                a row a run of the confirmation, if there is one (confirmation.py)
    pbt_schedule.yaml          of a population: what the best weights were trained with (schedule.py)

In: the run folder (and the open study, to save reading it). Every file is whole at any time, and
writing twice gives the same files. Reads files only: no Ray, no torch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tunekit.atomic import write_atomic, write_text
from tunekit.errors import RunFolderError
from tunekit.results.best import best_yaml
from tunekit.results.confirmation import TABLE, Confirmation, chosen, confirm_csv, verdict
from tunekit.results.pareto import write_pareto
from tunekit.results.schedule import FILE as SCHEDULE
from tunekit.results.schedule import schedule_yaml
from tunekit.results.trials import FINISHED, METRICS, TrialRow, best_trial, read_trials, trials_of

if TYPE_CHECKING:
    from optuna.study import Study

__all__ = ["TrialRow", "best_trial", "read_epochs", "read_trials", "trials_of", "write_results"]


Epochs = dict[int, pa.Table]
"""The epochs of trials, by number."""


def write_results(run_dir: Path, study: Study | None = None, ended: Epochs | None = None) -> list[TrialRow]:
    """Write the files and return the rows they tell of.

    `ended` saves who calls again and again from reading all files again: trials that have ended are put into
    it, and taken from it the next time.
    """
    trials = read_trials(run_dir) if study is None else trials_of(study)
    write_text(run_dir / "tune_results.csv", _csv(trials))
    epochs = read_epochs(run_dir, ended, [row.number for row in trials if row.state in FINISHED])
    write_atomic(run_dir / "results.parquet", lambda file: pyarrow.parquet.write_table(epochs, file))
    write_best(run_dir, trials)
    write_pareto(run_dir, trials)
    return trials


def write_best(run_dir: Path, trials: Sequence[TrialRow]) -> None:
    """The answer so far: of a confirmation, if there is one, or of the search alone."""
    confirmation = verdict(run_dir, trials)
    best = chosen(trials, confirmation)
    if best is None:
        return
    write_text(run_dir / "best_hyperparameters.yaml", best_yaml(run_dir, trials, best, confirmation))
    schedule = schedule_yaml(trials, best)
    if schedule is not None:
        write_text(run_dir / SCHEDULE, schedule)


def write_confirmation(run_dir: Path, confirmation: Confirmation, trials: Sequence[TrialRow]) -> None:
    """The table of a confirmation, and what follows from it for the search with those `trials`."""
    write_text(run_dir / TABLE, confirm_csv(confirmation))
    write_best(run_dir, trials)


def read_epochs(run_dir: Path, ended: Epochs | None = None, to_keep: Sequence[int] = ()) -> pa.Table:
    """All epochs of all trials: `trial`, then the columns of trials/*/results.csv.

    Those of `ended` are taken from there, and those of the trials `to_keep` are put there.
    """
    known = {} if ended is None else ended
    numbers = sorted(int(folder.name) for folder in run_dir.glob("trials/*") if folder.name.isdecimal())
    empty = pa.table({"trial": pa.array([], pa.int64()), "epoch": pa.array([], pa.int64())})
    tables = {
        number: known[number]
        if number in known
        else _epochs_of(number, run_dir / "trials" / str(number) / "results.csv")
        for number in numbers
    }
    present = {number: table for number, table in tables.items() if table is not None}
    known.update({number: present[number] for number in to_keep if number in present})
    return pa.concat_tables([empty, *present.values()], promote_options="default").combine_chunks()


def _epochs_of(trial: int, path: Path) -> pa.Table | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None  # before its first epoch
    columns = content.split(b"\n", 1)[0].decode().strip().split(",")
    kinds = {name: pa.int64() if name == "epoch" else pa.float64() for name in columns}
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(content),
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            convert_options=pyarrow.csv.ConvertOptions(column_types=kinds),
        )
    except pa.ArrowInvalid as fault:
        raise RunFolderError(f"{path} cannot be read: {fault}") from fault
    return table.add_column(0, "trial", pa.array([trial] * len(table), pa.int64()))


def _csv(trials: Sequence[TrialRow]) -> str:
    names = list(dict.fromkeys(name for row in trials for name in row.params))
    costs = list(dict.fromkeys(name for row in trials for name in row.costs))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["trial", "state", "fitness", *costs, *METRICS, *names, "epochs", "seconds", "reason"])
    for row in trials:
        measured = [*map(row.costs.get, costs), *map(row.metrics.get, METRICS)]
        values = [row.params.get(name) for name in names]
        seconds = None if row.seconds is None else round(row.seconds, 3)
        writer.writerow(
            [row.number, row.state, row.fitness, *measured, *values, row.epochs, seconds, row.reason]
        )
    return table.getvalue()
