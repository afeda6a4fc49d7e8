"""A training's folder: what it was called with, a row an epoch, its last and best weights.

    args.yaml  results.csv  weights/last.pt  weights/best.pt

The same for `tunekit train` and for every trial of a tune. Each file is whole at any time; last.pt
holds the engine's full state, from which `resume()` goes on exactly.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import yaml

from tunekit.args import TrainArgs
from tunekit.atomic import write_text
from tunekit.errors import CheckpointError, RunFolderError
from tunekit.models.weights import read_checkpoint, save_model
from tunekit.training.engine import Engine, EpochResult


class Recorder:
    """Writes `engine`'s results into `folder`, and reads them back to resume."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder = folder
        self.engine = engine
        self.last, self.best = folder / "weights" / "last.pt", folder / "weights" / "best.pt"
        self._rows: list[dict[str, str]] = []

    def start(self) -> None:
        """Begin a folder of a new training."""
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise RunFolderError(
                f"cannot make {self.last.parent}: {fault.strerror}; choose project="
            ) from fault
        write_args(self.folder / "args.yaml", self.engine.args)

    def resume(self) -> None:
        """Bring the engine to where last.pt was saved. Raises CheckpointError if that cannot be done."""
        state = read_checkpoint(self.last).extra.get("training")
        if not isinstance(state, dict):
            raise CheckpointError(f"{self.last} holds weights alone, no training to go on with")
        self.engine.load_state_dict(state)
        self._rows = [
            row for row in _read_rows(self.folder / "results.csv") if int(row["epoch"]) <= state["epoch"]
        ]

    def record(self, result: EpochResult) -> None:
        """Add an epoch: its row, the full state and, when it is the best so far, the weights."""
        row = result.row()
        self._rows.append({name: _written(name, value) for name, value in row.items()})
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self.folder / "results.csv", table.getvalue())
        model, args = self.engine.average.model, self.engine.args.model_dump()
        if result.best:
            save_model(self.best, model, train_args=args, metrics=row)
        # Last of all: whoever resumes from it finds the row and the best weights that belong to it.
        save_model(
            self.last, model, train_args=args, metrics=row, extra={"training": self.engine.state_dict()}
        )


def write_args(path: Path, args: TrainArgs) -> None:
    """Every argument with its value, in the order of `--help`."""
    write_text(path, yaml.safe_dump(args.model_dump(), sort_keys=False))


def _written(name: str, value: float) -> str:
    """Losses and metrics to the last bit, so that two trainings can be compared; times to the millisecond."""
    return str(round(value, 3)) if name in ("time", "seconds", "images_per_second") else repr(value)


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
