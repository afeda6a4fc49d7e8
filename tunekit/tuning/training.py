"""One trial's training, step by step: arguments and a folder in, one result an epoch out.

The folder <run>/trials/<number>/ has the shape of a `tunekit train` run; a trial that was cut off goes on
from its weights/last.pt, and who comes later has the right to it (claim.py, depot.py). On several workers
each of them holds one, and the first one's writes. With a storage the folder is on this node's disk, and an
epoch is given out when the storage has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch

from tunekit.errors import CheckpointError
from tunekit.evaluation.cost import Setting, measure_costs
from tunekit.training.engine import Engine
from tunekit.training.ranks import ALONE, Ranks
from tunekit.training.recorder import Recorder, write_args
from tunekit.training.result import EpochResult
from tunekit.tuning.claim import Claim
from tunekit.tuning.curves import FITNESS
from tunekit.tuning.depot import TrialCopy
from tunekit.tuning.mailbox import Order
from tunekit.tuning.result import Result


class Training:
    """An engine and its folder, new or taken up again."""

    def __init__(self, order: Order, ranks: Ranks = ALONE) -> None:
        self.folder = folder = order.folder
        self._descent, self._costs = order.descent, order.costs
        self._copy = TrialCopy(order.storage) if order.storage is not None and ranks.first else None
        if self._copy is not None:
            folder = self._copy.folder
        self._claim = Claim(folder) if self._copy is None and ranks.first else None
        self.note: str | None = None
        self.engine = Engine(order.args, ranks)
        self.recorder = Recorder(folder, self.engine, self._check)
        with self._disk():
            if ranks.decide(self.recorder.last.exists):
                try:
                    self.recorder.resume()
                    if ranks.first:
                        write_args(folder / "args.yaml", self.engine.args)
                except CheckpointError as fault:
                    self.engine.close()
                    self.engine = Engine(order.args, ranks)
                    self.recorder = Recorder(folder, self.engine, self._check)
                    self._begin()
                    self._note(
                        f"started again from epoch {self.engine.epoch + 1}, because its checkpoint cannot be "
                        f"used: {fault}"
                    )
            else:
                self._begin()
        self._send()
        self._untold = ranks.decide(self._owes_a_point)
        self._epochs: Iterator[EpochResult] = self.recorder.epochs(self._note)

    def _note(self, text: str) -> None:
        self.note = text if self.note is None else f"{self.note}; {text}"

    def _begin(self) -> None:
        if self._descent is None or self._descent.origin is None:
            self.recorder.start()
            return
        descent, parents = self._descent, self.recorder.last.with_name("parent.pt")
        if self.engine.ranks.first:
            parents.parent.mkdir(parents=True, exist_ok=True)
            descent.fetch(parents)
        self.recorder.adopt(parents)
        if self.engine.ranks.first:
            parents.unlink()

    def _owes_a_point(self) -> bool:
        """Whether it was cut off at a point, maybe before it was told: then it tells that epoch again."""
        row, descent = self.recorder.last_row, self._descent
        return descent is not None and row is not None and descent.owes(int(row["epoch"]))

    def next(self) -> Result:
        """Train and record an epoch; its result. What the training says on the way goes along as its note."""
        if self._untold:
            self._untold = False
            return self._last_again()
        with self._disk():
            result = next(self._epochs, None)
        self._send()
        if result is not None:
            self._keep(result.epoch)
        common = {"epochs": self.engine.args.epochs, "note": self.note}
        self.note = None
        if result is None:  # all of it was done before, but nobody was told
            return {
                **common,
                "epoch": self.engine.epoch,
                "fitness": self.engine.best_fitness,
                "finished": True,
                **self._measured(),
            }
        finished = self.engine.finished
        return {
            **common,
            "epoch": result.epoch,
            "fitness": result.fitness,
            "seconds": result.seconds,
            "finished": finished,
            "done": finished,
            **(self._measured() if finished else {}),
        }

    def _measured(self) -> Result:
        """What the trained model costs, where that is searched for, too."""
        engine = self.engine
        if not self._costs or not engine.ranks.first:
            return {}
        setting = Setting(engine.args.imgsz, engine.device, engine.amp_dtype)
        costs = measure_costs(self._costs, engine.average.model, setting)
        return {"costs": list(costs.items())}  # a dict would arrive in pieces: Tune flattens results

    def _last_again(self) -> Result:
        """The result of the last epoch that is recorded."""
        engine = self.engine
        fitness = engine.ranks.decide(self._last_fitness)
        self._keep(engine.epoch)
        told = {"epochs": engine.args.epochs, "epoch": engine.epoch, "fitness": fitness}
        return {**told, "finished": engine.finished, "done": engine.finished}

    def _last_fitness(self) -> float:
        assert self.recorder.last_row is not None
        return float(self.recorder.last_row[FITNESS])

    def _keep(self, epoch: int) -> None:
        if self._descent is not None and self.engine.ranks.first:
            self._descent.keep(epoch, self.recorder.last)

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
