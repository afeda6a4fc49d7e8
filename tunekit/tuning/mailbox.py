"""Between a trial and the workers that train it: orders in, one answer to each out.

A Ray actor, so that it outlives workers. An order is one more epoch of a trial; every worker reads all of
them, in their order, and the first worker answers. Here it is settled what a fault means: when all workers
meet it, it is the trial's, and they go on with the next order; when one worker alone meets it, or its process
is gone, the others wait for it in vain: all are started again, and take up the order that stands.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunekit.args import TrainArgs
from tunekit.tuning.descent import Descent
from tunekit.tuning.result import DEATHS_OF_A_TRIAL, Result
from tunekit.tuning.storage import Storage


@dataclass(frozen=True)
class Order:
    """One more epoch of the trial that `folder` names, which trains with `args`.

    It is written into where `storage`, the trial's part of it, is None. `descent`: of a population's trial.
    `costs`: what is to be measured at the trial's end.
    """

    args: TrainArgs
    folder: Path
    storage: Storage | None = None
    descent: Descent | None = None
    costs: tuple[str, ...] = ()


class Mailbox:
    """All methods run in one thread, one piece between two `await` at a time."""

    def __init__(self, workers: int, patience: float) -> None:
        """`patience`: seconds within which workers that meet the same fault all say so."""
        self._workers, self._patience = workers, patience
        self._orders: list[Order] = []
        self._answers: list[Result] = []
        self._changed = asyncio.Event()
        self._closed = False
        self._faults: dict[int, Result] = {}  # by worker, of the order that stands
        self._deaths: Counter[Path] = Counter()  # of workers, by trial, since its last epoch
        self._untold: dict[Path, str] = {}  # by trial: how its workers ended

    async def train(self, order: Order) -> Result:
        """The trial's side: what the epoch came to."""
        self._orders.append(order)
        self._notify()
        place = len(self._orders)
        await self._until(lambda: len(self._answers) >= place)
        return self._answers[place - 1]

    async def close(self) -> None:
        """No more orders: the workers end."""
        self._closed = True
        self._notify()

    async def standing(self) -> int:
        """A new worker's side: the number of the order that it begins with."""
        return len(self._answers)

    async def order(self, place: int) -> Order | None:
        """A worker's side: order number `place`, when it comes; None when no more will come."""
        await self._until(lambda: len(self._orders) > place or self._closed)
        return self._orders[place] if len(self._orders) > place else None

    async def answer(self, place: int, result: Result) -> None:
        """The first worker's side."""
        if len(self._answers) != place:  # given up in the meantime
            return
        death = self._untold.pop(self._orders[place].folder, None)
        if death is not None:
            notes = [f"{death}: all started again and went on from its checkpoint", result.get("note")]
            result = {**result, "note": "; ".join(filter(None, notes))}
        self._answers.append(result)
        self._faults = {}
        self._deaths.pop(self._orders[place].folder, None)
        self._notify()

    async def fault(self, place: int, worker: int, result: Result, known: bool) -> bool:
        """A worker met a fault, which as a result is `result`. Whether it may go on with the next order.

        It may not when the others did not meet it: then they wait for this worker, inside of an epoch. What
        is `known` to be the user's to mend is the trial's end then, too; anything else may be the echo of
        another worker's death, so that the order stands, and `death` comes next.
        """
        faults = self._faults
        faults[worker] = result
        self._notify()
        try:
            await asyncio.wait_for(self._until(lambda: len(faults) == self._workers), self._patience)
        except asyncio.TimeoutError:
            if faults is self._faults:
                self._faults = {}
                if known:
                    await self.answer(place, result)
            return False
        if faults is self._faults:
            await self.answer(place, faults[min(faults)])
        return True

    async def death(self, what: str, counts: bool = True) -> None:
        """Workers have ended, and new ones are about to come. `what` says whose end it was and why; it may be
        one that does not count, as the trial cannot be its cause."""
        self._faults = {}
        place = len(self._answers)
        if place == len(self._orders):
            return  # nothing was to be done
        trial = self._orders[place].folder
        self._deaths[trial] += counts
        if self._deaths[trial] > DEATHS_OF_A_TRIAL:
            self._untold.pop(trial, None)
            await self.answer(place, {"failed": f"{what}, as {DEATHS_OF_A_TRIAL} times in a row before"})
        else:
            self._untold[trial] = what

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
