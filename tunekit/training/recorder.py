"""A training's folder: what it was called with, a row an epoch, its last and best weights.

    args.yaml  results.csv  weights/last.pt  weights/best.pt  weights/epoch10.pt (save_period)

The same for `tunekit train` and for every trial of a tune. Each file is whole at any time; last.pt
holds the engine's full state, from which `resume()` goes on exactly. Of several workers the first one writes.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tunekit.args import TrainArgs
from tunekit.atomic import write_text
from tunekit.errors import CheckpointError, RunFolderError
from tunekit.models.weights import read_checkpoint, save_model
from tunekit.training.engine import Engine, NotFinite
from tunekit.training.result import EpochResult

MOST_RECOVERIES = 3


class Recorder:
    """Writes `engine`'s results into `folder`, and reads them back to resume."""

    def __init__(self, folder: Path, engine: Engine, check: Callable[[], object] = lambda: None) -> None:
        """`check` is called before a file of an epoch is there: what it raises ends the training."""
        self.folder = folder
        self.engine = engine
        self._check = check
        self.last, self.best = folder / "weights" / "last.pt", folder / "weights" / "best.pt"
        self._rows: list[dict[str, str]] = []

    def start(self) -> None:
        """Begin a folder of a new training."""
        if not self.engine.ranks.first:
            return
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise RunFolderError(
                f"cannot make {self.last.parent}: {fault.strerror}; choose project="
            ) from fault
        write_args(self.folder / "args.yaml", self.engine.args)

    def resume(self) -> None:
        """Bring the engine to where last.pt was saved. Raises CheckpointError if that cannot be done."""
        state = self.engine.ranks.decide(lambda: _training_state(self.last))
        self.engine.load_state_dict(state)
        if self.engine.ranks.first:
            rows = _read_rows(self.folder / "results.csv")
            self._rows = [row for row in rows if int(row["epoch"]) <= state["epoch"]]

    def adopt(self, other: Path) -> None:
        """Begin a folder of a training that goes on from another one's last.pt (`Engine.adopt`)."""
        self.start()
        self.engine.adopt(self.engine.ranks.decide(lambda: _training_state(other)))
        if self.engine.ranks.first:
            self._save_last({})

    @property
    def last_row(self) -> dict[str, str] | None:
        """What results.csv has of the last epoch."""
        return self._rows[-1] if self._rows else None

    def epochs(self, say: Callable[[str], object]) -> Iterator[EpochResult]:
        """The engine's epochs, each recorded before it is given out.

        After a loss that is no number the epoch is begun again from the last good one with other chance,
        three times in a training at most: a batch may have been unlucky, but divergence must be told.
        """
        while True:
            try:
                for result in self.engine.epochs():
                    self.record(result)
                    yield result
                return
            except NotFinite as fault:
                recoveries = self.engine.recoveries + 1
                where = f"the last good checkpoint is {self.last} (epoch {self.engine.epoch})"
                if not self.engine.args.save or self.engine.epoch == 0:
                    raise
                if recoveries > MOST_RECOVERIES:
                    raise NotFinite(
                        f"{fault}; given up after {MOST_RECOVERIES} recoveries, {where}"
                    ) from None
                say(f"{fault}; {where}: going on from there, recovery {recoveries} of {MOST_RECOVERIES}")
                self.resume()
                self.engine.recoveries = recoveries

    def record(self, result: EpochResult) -> None:
        """Add an epoch: its row, the full state and, when it is the best so far, the weights."""
        args = self.engine.args
        if not self.engine.ranks.first:
            return
        row = result.row()
        self._rows.append({name: _written(name, value) for name, value in row.items()})
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self.folder / "results.csv", table.getvalue(), self._check)
        if not args.save:
            return
        metrics = {**row, "f1_conf": None if result.metrics is None else result.metrics.f1_conf}
        save = functools.partial(
            save_model,
            model=self.engine.average.model,
            train_args=args.model_dump(),
            metrics=metrics,
            check=self._check,
        )
        if result.best:
            save(self.best)
        if args.save_period > 0 and result.epoch % args.save_period == 0:
            save(self.last.with_name(f"epoch{result.epoch}.pt"))
        # Last of all: whoever resumes from it finds the row and the best weights that belong to it.
        self._save_last(metrics)

    def _save_last(self, metrics: dict[str, Any]) -> None:
        save_model(
            self.last,
            self.engine.average.model,
            train_args=self.engine.args.model_dump(),
            metrics=metrics,
            extra={"training": self.engine.state_dict()},
            check=self._check,
        )


def write_args(path: Path, args: TrainArgs) -> None:
    """Every argument with its value, in the order of `--help`."""
    write_text(path, yaml.safe_dump(args.model_dump(mode="json"), sort_keys=False))


def _training_state(path: Path) -> dict[str, Any]:
    state = read_checkpoint(path).extra.get("training")
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds weights alone, no training to go on with")
    return state


def _written(name: str, value: float | None) -> str:
    """Losses and metrics to the last bit, so that two trainings can be compared; times to the millisecond."""
    if value is None:
        return ""
    return str(round(value, 3)) if name in ("time", "seconds", "images_per_second") else repr(value)


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
