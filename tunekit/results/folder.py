"""Run folders: a new one for every run, and one process at a time in each.

In: project and name. Out: a folder that exists and belongs to the caller, or RunFolderError. Used by
train and tune alike; knows nothing of what they write, but for the names that may be cleared away.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tunekit.errors import ArgumentError, RunFolderError

LOCK, PID = ".lock", ".pid"

WRITTEN_BY_RUNS = (
    "args.yaml",
    "space.yaml",
    "trial_args.yaml",
    "best_hyperparameters.yaml",
    "pbt_schedule.yaml",
    "population",
    "results.csv",
    "results.png",
    "labels.jpg",
    "profile.txt",
    *(f"train_batch{number}.jpg" for number in range(3)),
    "metrics.yaml",
    *(f"Box{curve}_curve.png" for curve in ("PR", "F1", "P", "R")),
    "confusion_matrix.png",
    "confusion_matrix_normalized.png",
    "confusion_matrix.csv",
    *(f"val_batch{number}_{what}.jpg" for number in range(3) for what in ("labels", "pred")),
    "predictions.json",
    "ground_truth.json",
    "tune_results.csv",
    "results.parquet",
    "tune_scatter_plots.png",
    "tune_fitness.png",
    "tune_pareto.png",
    "pareto.csv",
    "importance.csv",
    "importance.png",
    "report.html",
    "study.journal",
    "study.journal.lock",
    "ray.log",
    "weights",
    "trials",
    "confirm",
    "confirm.csv",
)
"""All that `exist_ok` may delete."""


def run_name(name: str | None, model: str, data: str) -> str:
    """What a run is called: by its model and its data, unless it was given a name."""
    return name or f"{Path(model).stem}-{Path(data).stem}"


def new_run_folder(
    project: str | Path, name: str, exist_ok: bool = False, taken: Callable[[str], bool] = lambda name: False
) -> Path:
    """Make `project/name`; where it exists already `name-2`, `name-3` ... Two callers never get the same.

    `taken` tells of names that are in use elsewhere. With `exist_ok` an existing run folder is used again:
    what a run wrote (WRITTEN_BY_RUNS) is deleted, under the folder's lock, so never while another process
    works there; other files stay. A folder that holds things but no args.yaml was not written by a run, and
    is refused.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise ArgumentError(f"name={name}: must be a plain folder name; say where it goes with project=")
    parent = Path(project)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            folder = parent / (name if number == 1 else f"{name}-{number}")
            if taken(folder.name) and not exist_ok:
                continue
            try:
                folder.mkdir()
            except FileExistsError:
                if exist_ok:
                    _clear(folder)
                    return folder
                continue
            return folder
    except OSError as fault:
        raise RunFolderError(
            f"cannot make the run folder {parent / name}: {fault.strerror or fault}; choose a place"
            " that can be written with project="
        ) from fault
    raise AssertionError("count() does not end")


def _clear(folder: Path) -> None:
    with lock_run(folder):
        there = {entry.name for entry in folder.iterdir()} - {LOCK, PID}
        if there and "args.yaml" not in there:
            raise RunFolderError(
                f"{folder} is no run folder (it has no args.yaml), so exist_ok will not clear it;"
                " choose another name="
            )
        # args.yaml goes last: a clearing that was cut short can be taken up again.
        for entry in sorted(there.intersection(WRITTEN_BY_RUNS), key="args.yaml".__eq__):
            path = folder / entry
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Be the one process that drives `folder`, or raise RunFolderError that names the one that does.

    The operating system holds the lock and drops it with the process, however that ends.
    """
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is not there; is its name right?")
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunFolderError(
            f"{folder} is in use by another process{_owner(folder)}; wait until it ends, stop it, or"
            " choose another name="
        ) from None
    except OSError as fault:
        raise RunFolderError(f"cannot write in {folder}: {fault.strerror or fault}") from fault
    try:
        _note_owner(folder)
        yield
    finally:
        (folder / PID).unlink(missing_ok=True)
        lock.release()


def may_be_driven(folder: Path) -> bool:
    """False when surely no process drives it, on whatever computer; one that was killed may leave True."""
    return (folder / PID).exists()


def _note_owner(folder: Path) -> None:
    try:
        (folder / PID).write_text(str(os.getpid()))
    except OSError as fault:
        raise RunFolderError(f"cannot write in {folder}: {fault.strerror or fault}") from fault


def _owner(folder: Path) -> str:
    try:
        return f" (pid {(folder / PID).read_text()})"
    except FileNotFoundError:
        return ""
