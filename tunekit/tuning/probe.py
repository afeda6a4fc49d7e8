"""A small file by which nodes tell whether they see the place where trials are kept: a disk or the storage.

The search's node puts it there, each other node looks at it (`problem`: '' when all is well), and it goes.
"""

from __future__ import annotations

import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunekit.errors import RunFolderError, TunekitError
from tunekit.tuning.storage import Storage

SEEN_SECONDS = 5.0  # a shared disk may show a new file late


class Probe(Protocol):
    def put(self) -> None: ...

    def problem(self) -> str: ...

    def remove(self) -> None: ...


def probe_of(project: Path, storage: Storage | None) -> Probe:
    """Of the folder `project`, or of the storage where there is one."""
    name = f".tunekit-{uuid.uuid4().hex}"
    return OnDisk(project.absolute() / name) if storage is None else InStorage(storage, name)


@dataclass(frozen=True)
class OnDisk:
    file: Path

    def put(self) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.touch()
        except OSError as fault:
            raise RunFolderError(
                f"cannot write into {self.file.parent}: {fault.strerror}; choose project="
            ) from fault

    def problem(self) -> str:
        deadline = time.monotonic() + SEEN_SECONDS
        while not self.file.exists():
            if time.monotonic() > deadline:
                return (
                    f"the folder {self.file.parent} of {socket.gethostname()} is not the one of the node "
                    "that searches: let project= name a folder on a disk that all nodes share, or storage= "
                    "a place that all nodes reach"
                )
            time.sleep(0.1)
        return ""

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)


@dataclass(frozen=True)
class InStorage:
    storage: Storage
    name: str

    def put(self) -> None:
        self.storage.write(self.name, self.name.encode())

    def problem(self) -> str:
        try:
            self.storage.check()
            deadline = time.monotonic() + SEEN_SECONDS
            while self.storage.read(self.name) != self.name.encode():
                if time.monotonic() > deadline:
                    return (
                        f"storage={self.storage.uri} is there another place than on the node that searches: "
                        "let it name one that all nodes share"
                    )
                time.sleep(0.1)
        except TunekitError as fault:
            return str(fault)
        return ""

    def remove(self) -> None:
        self.storage.delete(self.name)
