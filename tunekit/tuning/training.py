"""One trial's training, step by step: arguments and a folder in, one result an epoch out.

The folder <run>/trials/<number>/ has the shape of a `tunekit train` run; a trial that was cut off goes on
from its weights/last.pt, and who comes later has the right to it (claim.py, depot.py). On several workers
each of them holds one, and the first one's writes. With a storage the folder is on this node's disk, and an
epoch is given out when the storage has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from tunekit.args import TrainArgs
from tunekit.errors import CheckpointError
from tunekit.training.engine import Engine
from tunekit.training.ranks import ALONE, Ranks
from tunekit.training.recorder import Recorder, write_args
from tunekit.training.result import EpochResult
from tunekit.tuning.claim import Claim
from tunekit.tuning.depot import TrialCopy
from tunekit.tuning.result import Result
from tunekit.tuning.storage import Storage


class Training:
    """An engine and its folder, new or taken up again."""

    def __init__(
        self, args: TrainArgs, folder: Path, ranks: Ranks = ALONE, storage: Storage | None = None
    ) -> None:
        """`folder` names the trial. It is written into where `storage`, the trial's part of it, is None."""
        self.folder = folder
        self._copy = TrialCopy(storage) if storage is not None and ranks.first else None
        if self._copy is not None:
            folder = self._copy.folder
        self._claim = Claim(folder) if self._copy is None and ranks.first else None
        self.note: str | None = None
        self.engine = Engine(args, ranks)
        self.recorder = Recorder(folder, self.engine, self._check)
        with self._disk():
            if ranks.decide(self.recorder.last.exists):
                try:
                    self.recorder.resume()
                    if ranks.first:
                        write_args(folder / "args.yaml", self.engine.args)
                except CheckpointError as fault:
                    self.note = f"started again from epoch 1, because its checkpoint cannot be used: {fault}"
                    self.engine.close()
                    self.engine = Engine(args, ranks)
                    self.recorder = Recorder(folder, self.engine, self._check)
                    self.recorder.start()
            else:
                self.recorder.start()
        self._send()
        self._epochs: Iterator[EpochResult] = self.recorder.epochs(self._note)

    def _note(self, text: str) -> None:
        self.note = text if self.note is None else f"{self.note}; {text}"

    def next(self) -> Result:
        """Train and record an epoch; its result. What the training says on the way goes along as its note."""
        with self._disk():
            result = next(self._epochs, None)
        self._send()
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

    def _check(self) -> None:
        if self._claim is not None:
            self._claim.check()

    def _disk(self) -> AbstractContextManager[None]:
        return nullcontext() if self._copy is None else self._copy.disk()

    def _send(self) -> None:
        if self._copy is not None:
            self._copy.send()

    def close(self) -> None:
        self.engine.close()
        if self._claim is not None:
            self._claim.release()
        if self._copy is not None:
            self._copy.close()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the next trial may have another batch size
