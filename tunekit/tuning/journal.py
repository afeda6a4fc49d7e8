"""The file that a study is kept in: Optuna's journal, but what belongs together is written at once.

Optuna writes every parameter, value and attribute by itself and waits for the disk each time: some thirty
times for a new trial. Here an event of the search is one write. It is on the disk before anybody acts on it,
and a driver that is killed leaves all of it or, but for a torn last write, nothing. One process writes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend
from optuna.study import Study

Log = dict[str, Any]


class Journal(JournalFileBackend):
    """The file at `path`, which is made if it is not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._read = 0  # entries of the file
        self._kept: list[Log] | None = None  # still to be written; None: entries are written as they come

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is appended in this block is written at its end."""
        self._kept = []
        try:
            yield
        finally:
            kept, self._kept = self._kept, None
            if kept:
                self.append_logs(kept)
                list(
                    self.read_logs(self._read)
                )  # the storage has read them already; now the file's place has

    def append_logs(self, logs: list[Log]) -> None:
        if self._kept is None:
            super().append_logs(logs)
        else:
            self._kept += logs

    def read_logs(self, log_number_from: int) -> Generator[Log, None, None]:
        if self._kept is not None:
            yield from self._kept[log_number_from - self._read :]
            return
        for self._read, log in enumerate(super().read_logs(log_number_from), log_number_from + 1):
            yield log


def together(study: Study) -> AbstractContextManager[None]:
    """What is told to `study` in this block is written at its end."""
    storage: Any = study._storage  # Optuna shows it to nobody
    journal: Journal = storage._backend
    return journal.together()
