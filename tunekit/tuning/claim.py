"""Whose a trial's folder is on a disk that nodes share: the process's that took it up last.

A folder in, the right to write into it out, until somebody else takes it. A lock alone cannot settle that: a
node that was given up for dead keeps its locks while it may still be at work, and the server of a shared disk
keeps those of a node that is gone.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import filelock

from tunekit.atomic import write_text
from tunekit.errors import RunFolderError, TrainingError

NAME = ".claim"
GIVE_WAY_SECONDS = 60.0  # to finish an epoch and notice; who takes longer is stopped before its next write


class Superseded(TrainingError):
    """For the process that lost a trial; nobody listens to it any more."""

    def __init__(self) -> None:
        super().__init__("this trial was begun again elsewhere, as if this process had died")


class Claim:
    """Of this process to the trial in `folder`, which is made where there is none."""

    def __init__(self, folder: Path, patience: float = GIVE_WAY_SECONDS) -> None:
        """Waits for who trains there now to give way, so long at most."""
        self._file, self._token = folder / NAME, uuid.uuid4().hex
        self._lock = filelock.FileLock(folder / ".lock", timeout=patience)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(self._file, self._token)
            self._lock.acquire()
        except filelock.Timeout:
            pass  # it is stopped, or gone with its node: when it comes back it may not write
        except OSError as fault:
            raise RunFolderError(f"cannot write into {folder}: {fault.strerror or fault}") from fault

    def check(self) -> None:
        """Raise Superseded if this process may not write any more."""
        try:
            holds = self._file.read_text() == self._token
        except OSError as fault:
            raise RunFolderError(f"cannot read {self._file}: {fault.strerror or fault}") from fault
        if not holds:
            raise Superseded

    def release(self) -> None:
        self._lock.release()
