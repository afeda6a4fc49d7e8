"""The best trial's weights, kept; the others', thrown away: the space of a run is bounded.

In: the run folder and its trials. Call `keep_best_weights` before the others. Where there are several
objectives, best.pt of all trials on the front stays, too. Of a confirmation's runs
best.pt stays, which may be measured on the test split; and all of each setting's best run, which may win.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tunekit.atomic import write_atomic
from tunekit.errors import RunFolderError
from tunekit.results.confirmation import FOLDER as CONFIRM
from tunekit.results.confirmation import Confirmation, ConfirmRun, verdict
from tunekit.results.pareto import front
from tunekit.results.trials import FINISHED, TrialRow, best_trial

FILES = ("best.pt", "last.pt")
BEST = FILES[:1]


def keep_best_weights(run_dir: Path, trials: Sequence[TrialRow]) -> bool:
    """Copy the best trial's weights to <run>/weights/; False where there are none to copy.

    After a confirmation they are those of its winner's best run.
    """
    folder = _best_folder(run_dir, trials)
    if folder is None:
        return False
    sources = [folder / "weights" / name for name in FILES]
    if not all(source.is_file() for source in sources):
        return False
    target = run_dir / "weights"
    try:
        target.mkdir(exist_ok=True)
        for source in sources:
            _copy(source, target / source.name)
    except OSError as fault:
        raise RunFolderError(f"cannot copy {sources[0].parent} to {target}: {fault.strerror}") from fault
    return True


def _best_folder(run_dir: Path, trials: Sequence[TrialRow]) -> Path | None:
    confirmation = verdict(run_dir, trials)
    if confirmation is not None and confirmation.winner is not None:
        run = confirmation.best_run(confirmation.winner)
        return None if run is None else run_dir / CONFIRM / "trials" / str(run.number)
    best = best_trial(trials)
    return None if best is None else run_dir / "trials" / str(best.number)


def prune_trial_folders(run_dir: Path, trials: Sequence[TrialRow]) -> None:
    """Delete the weights of finished trials that are not kept; their tables stay."""
    kept = kept_weights(trials)
    for row in trials:
        weights = run_dir / "trials" / str(row.number) / "weights"
        if row.state in FINISHED and row.number not in kept:
            _delete(weights)
        elif row.number in kept:
            for name in set(FILES).difference(kept[row.number]):
                _delete(weights / name)


def kept_weights(trials: Sequence[TrialRow]) -> dict[int, tuple[str, ...]]:
    """The files of finished trials that are kept, by number."""
    best = best_trial(trials)
    return {row.number: BEST for row in front(trials)} | ({} if best is None else {best.number: FILES})


def needed_weights(confirmation: Confirmation, run: ConfirmRun) -> tuple[str, ...]:
    """The files of a run of the confirmation that are kept once it has ended."""
    if run.fitness is None:
        return ()
    return FILES if run is confirmation.best_run(run.setting) else BEST


def prune_confirmation(run_dir: Path, confirmation: Confirmation) -> None:
    """Delete weights of runs that have ended, but for those that are needed."""
    for run in confirmation.runs:
        if run.ended:
            weights = run_dir / CONFIRM / "trials" / str(run.number) / "weights"
            for name in set(FILES).difference(needed_weights(confirmation, run)):
                _delete(weights / name)


def _delete(path: Path) -> None:
    """A file or a folder, if it is there."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as fault:
        raise RunFolderError(f"cannot delete {path}: {fault.strerror}") from fault


def _copy(source: Path, target: Path) -> None:
    """A copy carries its original's time, by which the next call sees that nothing is to be done."""
    now = source.stat()
    if target.exists():
        there = target.stat()
        if (there.st_size, there.st_mtime_ns) == (now.st_size, now.st_mtime_ns):
            return
    with source.open("rb") as original:
        write_atomic(target, lambda file: shutil.copyfileobj(original, file))
    os.utime(target, ns=(now.st_atime_ns, now.st_mtime_ns))
