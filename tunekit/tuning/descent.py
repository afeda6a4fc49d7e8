"""What a trial of a population leaves to others at a point, and takes from its parent: states of training.

In: a trial's last.pt when it comes to a point. Out: the same file for a child, however far the parent has
come by then. Kept beside the trials, in the run folder or the storage: <run>/population/<trial>-<epoch>.pt.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tunekit.errors import RunFolderError
from tunekit.tuning.storage import Storage

FOLDER = "population"


@dataclass(frozen=True)
class Snapshots:
    """The states of all trials at `points`, epochs, as far as they are needed, in `storage`."""

    points: tuple[int, ...]
    storage: Storage

    def kept(self) -> set[tuple[int, int]]:
        """(trial, epoch) of all that are there."""
        names = (name.removesuffix(".pt").partition("-") for name in self.storage.names())
        return {(int(number), int(epoch)) for number, _, epoch in names}

    def forget(self, states: Collection[tuple[int, int]]) -> None:
        for number, epoch in states:
            self.storage.delete(_name(number, epoch))


@dataclass(frozen=True)
class Descent:
    """Trial `number` of a population; a child's `origin` is (parent, epoch). The search knew its epochs up to
    `told` when it was handed out."""

    number: int
    origin: tuple[int, int] | None
    told: int
    snapshots: Snapshots

    def owes(self, epoch: int) -> bool:
        """Whether the search may not have its state after `epoch`, which it needs."""
        return epoch in self.snapshots.points and epoch > self.told

    def keep(self, epoch: int, last: Path) -> None:
        """Keep the state in the file `last`, if `epoch` is a point."""
        if epoch in self.snapshots.points:
            self.snapshots.storage.put(last, _name(self.number, epoch))

    def fetch(self, target: Path) -> None:
        """Copy the parent's state to `target`."""
        assert self.origin is not None
        name = _name(*self.origin)
        if not self.snapshots.storage.get(name, target):
            raise RunFolderError(f"{FOLDER}/{name}, from which trial {self.number} goes on, is gone")


def _name(number: int, epoch: int) -> str:
    return f"{number}-{epoch}.pt"
