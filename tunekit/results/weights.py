"""The best trial's weights, kept; the others', thrown away: the space of a run is bounded.

In: the run folder and its trials. Call `keep_best_weights` before `prune_trial_folders`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tunekit.atomic import write_atomic
from tunekit.errors import RunFolderError
from tunekit.results.trials import FINISHED, TrialRow, best_trial

FILES = ("best.pt", "last.pt")


def keep_best_weights(run_dir: Path, trials: Sequence[TrialRow]) -> bool:
    """Copy the best trial's weights to <run>/weights/; False where there are none to copy."""
    best = best_trial(trials)
    if best is None:
        return False
    sources = [run_dir / "trials" / str(best.number) / "weights" / name for name in FILES]
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


def prune_trial_folders(run_dir: Path, trials: Sequence[TrialRow]) -> None:
    """Delete the weights of finished trials, but for the best one; their tables stay."""
    best = best_trial(trials)
    for row in trials:
        if row.state in FINISHED and row is not best:
            weights = run_dir / "trials" / str(row.number) / "weights"
            try:
                shutil.rmtree(weights)
            except FileNotFoundError:
                continue
            except OSError as fault:
                raise RunFolderError(f"cannot delete {weights}: {fault.strerror}") from fault


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
