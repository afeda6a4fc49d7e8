"""A trial inside its Ray actor: hyperparameters in, one result an epoch out.

The actor is reused for one trial after another, so torch is imported and warmed up once. A trial's folder
<run>/trials/<number>/ has the shape of a `tunekit train` run; a trial that was cut off goes on from its
weights/last.pt. What goes wrong in a trial is a result, too (`failed`): raising would make Ray run it again,
and a deterministic fault fails again. Only the death of the process is left to Ray.

A result: number, epoch, fitness, epochs (in all), and, where it applies, finished (nothing is left to train),
failed (the reason), halted (the disk: no trial can go on), note (what the user should know).
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import torch
from ray import tune

from tunekit.args import TrainArgs
from tunekit.errors import CheckpointError, RunFolderError, TunekitError
from tunekit.tuning.plan import Plan

if TYPE_CHECKING:
    from tunekit.training.result import EpochResult

ORPHAN_SECONDS = 60  # a killed search's actors live on for a second or two, or until their last write is done


@dataclass(frozen=True)
class Job:
    """What all trials of a run share. Sent to each actor once."""

    run: Path  # absolute
    plan: Plan
    directory: Path  # the user's working directory, which relative paths in the arguments are meant from


def trial_folder(run: Path, number: int) -> Path:
    return run / "trials" / str(number)


class TuneTrial(tune.Trainable):
    """One slot of the search: runs trials one after another."""

    def setup(self, config: dict[str, Any], job: Job) -> None:  # type: ignore[override]
        self._job = job
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        os.chdir(self._job.directory)  # Ray has moved us to a folder of its own
        self._number, self._params = config["number"], config["params"]
        self._training: Training | None = None

    def step(self) -> dict[str, Any]:
        """The next epoch. The first call also builds the training."""
        result: dict[str, Any] = {"number": self._number, "epoch": 0, "fitness": 0.0, "done": True}
        try:
            if self._training is None:
                args = self._job.plan.trial_args(self._params)
                self._training = Training(args, trial_folder(self._job.run, self._number))
            return {**result, **self._training.next()}
        except RunFolderError as fault:
            return {**result, "halted": str(fault)}
        except TunekitError as fault:
            return {**result, "failed": str(fault)}
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is this trial's, not the search's
            return {**result, "failed": _one_line(fault)}

    def cleanup(self) -> None:
        if self._training is not None:
            self._training.close()
            self._training = None


class Training:
    """An engine and its folder, new or taken up again."""

    def __init__(self, args: TrainArgs, folder: Path) -> None:
        # Here and not above: the driver needs this module, but not the trainer and its seconds of imports.
        from tunekit.training.engine import Engine
        from tunekit.training.recorder import Recorder, write_args

        self._lock = _own(folder)
        self.note: str | None = None
        self.engine = Engine(args)
        self.recorder = Recorder(folder, self.engine)
        if self.recorder.last.exists():
            try:
                self.recorder.resume()
                write_args(folder / "args.yaml", self.engine.args)
            except CheckpointError as fault:
                self.note = f"started again from epoch 1, because its checkpoint cannot be used: {fault}"
                self.engine.close()
                self.engine = Engine(args)
                self.recorder = Recorder(folder, self.engine)
                self.recorder.start()
        else:
            self.recorder.start()
        self._epochs: Iterator[EpochResult] = self.recorder.epochs(self._note)

    def _note(self, text: str) -> None:
        self.note = text if self.note is None else f"{self.note}; {text}"

    def next(self) -> dict[str, Any]:
        """Train and record an epoch; its result. What the training says on the way goes along as its note."""
        result = next(self._epochs, None)
        common = {"epochs": self.engine.args.epochs, "note": self.note}
        self.note = None
        if result is None:  # all of it was done before, but nobody was told
            return {
                **common,
                "epoch": self.engine.epoch,
                "fitness": self.engine.best_fitness,
                "finished": True,
            }
        finished = self.engine.finished
        return {
            **common,
            "epoch": result.epoch,
            "fitness": result.fitness,
            "seconds": result.seconds,
            "finished": finished,
            "done": finished,
        }

    def close(self) -> None:
        self.engine.close()
        self._lock.release()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the next trial may have another batch size


def _own(folder: Path) -> filelock.BaseFileLock:
    """The trial's folder for this process alone, as long as the lock is held or the process lives.

    After a search was killed, its actors finish their last write while the resumed search begins.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock", timeout=ORPHAN_SECONDS)
        lock.acquire()
    except filelock.Timeout:
        raise RunFolderError(f"another process still trains in {folder}; end it, then resume") from None
    except OSError as fault:
        raise RunFolderError(f"cannot write into {folder}: {fault.strerror or fault}") from fault
    return lock


def _one_line(fault: Exception) -> str:
    """`RuntimeError: what it says (file.py:12 in forward)`."""
    frames = traceback.extract_tb(fault.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:500]}{where}"
