"""Trials that train on their own node's disk, and what of them is kept in the storage.

    <storage>/<run>/run                  whose it is
    <storage>/<run>/trials/<number>/     args.yaml  results.csv  weights/best.pt  weights/last.pt  claim

`TrialCopy` is the trial's side: its folder here, brought from the storage when it begins and sent back after
every epoch. `Depot` is the search's side: what it fetches of trials into the run folder, and deletes of them.
The storage is the truth; a trial's folder on a node is gone with its training.
"""

from __future__ import annotations

import shutil
import socket
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock
from optuna.study import Study

from tunekit.atomic import write_atomic
from tunekit.data.cachedir import cache_folder
from tunekit.errors import RunFolderError
from tunekit.results.confirmation import FOLDER as CONFIRM
from tunekit.results.trials import FINISHED, TrialRow
from tunekit.results.weights import kept_weights
from tunekit.tuning.claim import Superseded
from tunekit.tuning.descent import FOLDER as POPULATION
from tunekit.tuning.storage import Storage
from tunekit.tuning.study import writes

TABLES = ("args.yaml", "results.csv")
BEST, LAST = "weights/best.pt", "weights/last.pt"
# last.pt is sent last and fetched first, so that with it there are always the rows and the best weights of
# its epoch: exactly, or of the next one, which is then trained again.
FILES = (*TABLES, BEST, LAST)
CLAIM, OWNER = "claim", "run"
KEY = "storage"  # of the study's attribute that says the same as OWNER


def trial_storage(run: Storage, number: int) -> Storage:
    return run.below(f"trials/{number}")


class TrialCopy:
    """A trial's `folder` on this node. One process at a time trains it: who comes later has the right to it,
    because a node that was given up for dead may still be at work."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._token = uuid.uuid4().hex.encode()
        storage.write(CLAIM, self._token)
        self._lock, self.folder = _own_folder()
        if self._fetch(LAST):
            for name in (BEST, *TABLES):
                self._fetch(name)
        self._sent = {name: self._stamp(name) for name in FILES}

    def send(self) -> None:
        """Bring the storage to where the folder is."""
        if self._storage.read(CLAIM) != self._token:
            raise Superseded
        for name in FILES:
            stamp = self._stamp(name)
            if stamp is not None and stamp != self._sent[name]:
                self._storage.put(self.folder / name, name)
                self._sent[name] = stamp

    @contextmanager
    def disk(self) -> Iterator[None]:
        """Faults of this node's disk inside, with the way out: the folder is in the cache, not in the run."""
        try:
            yield
        except RunFolderError as fault:
            if not isinstance(fault.__cause__, OSError):
                raise
            raise _no_place(self.folder, fault.__cause__) from fault.__cause__

    def _fetch(self, name: str) -> bool:
        """Copy a file from the storage; whether there is one."""
        content = self._storage.read(name)
        if content is None:
            return False
        with self.disk():
            write_atomic(self.folder / name, lambda file: file.write(content))
        return True

    def _stamp(self, name: str) -> tuple[int, int] | None:
        """Another one whenever the file was written: a write makes a new file."""
        try:
            stat = (self.folder / name).stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def close(self) -> None:
        _remove(self.folder, self._lock)


def _own_folder() -> tuple[filelock.BaseFileLock, Path]:
    """A new folder in the node's cache, and the lock that says that its process lives.

    Folders that killed processes have left there are deleted.
    """
    root = cache_folder("trials")
    for path in root.glob("*.lock"):
        left = filelock.FileLock(path, timeout=0)
        try:
            left.acquire()
        except filelock.Timeout:
            continue
        _remove(path.with_suffix(""), left)
    folder = root / uuid.uuid4().hex
    lock = filelock.FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire()
        (folder / LAST).parent.mkdir(parents=True)
    except OSError as fault:
        raise _no_place(root, fault) from fault
    return lock, folder


def _no_place(folder: Path, fault: OSError) -> RunFolderError:
    return RunFolderError(
        f"cannot write into {folder} on {socket.gethostname()}: {fault.strerror or fault}. Free some space "
        "there, or let TUNEKIT_CACHE name another place when that node is started"
    )


def _remove(folder: Path, lock: filelock.BaseFileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what is left of it goes when the next trial begins here
    if not folder.exists():
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def in_use(storage: Storage, name: str, exist_ok: bool) -> bool:
    """Whether that name is taken. RunFolderError where `exist_ok` asks to replace what is no run's."""
    files = storage.below(name).names()
    if exist_ok and files and OWNER not in files:
        raise RunFolderError(
            f"storage={storage.uri} holds {name}/{files[0]}, which is no run's; choose another name="
        )
    return bool(files)


def open_depot(run: Path, study: Study, storage: Storage) -> Depot:
    """The part of `storage` that belongs to the run in `run`, which is new or goes on."""
    depot = Depot(run, storage.below(study.study_name))
    owner = study.user_attrs.get(KEY)
    if owner is not None:
        depot.check(owner)
    else:  # nothing of it has run yet
        owner = depot.begin()
        with writes(run):
            study.set_user_attr(KEY, owner)
    return depot


class Depot:
    """The storage of one run, as its search sees it."""

    def __init__(self, run: Path, storage: Storage) -> None:
        """`run`: the run folder; `storage`: the run's part of it."""
        self.storage = storage
        self._run = run

    def begin(self) -> str:
        """Make room for a new run: delete the trials of an older one. Whose it is from now on."""
        for part in ("trials", POPULATION, CONFIRM):
            self.storage.below(part).clear()
        owner = uuid.uuid4().hex
        self.storage.write(OWNER, owner.encode())
        return owner

    def check(self, owner: str) -> None:
        """Raise RunFolderError if the run there is not this one."""
        if self.storage.read(OWNER) != owner.encode():
            raise RunFolderError(
                f"resume={self._run}: its trials are not in storage={self.storage.uri} any more "
                f"({self.storage.prefix}{OWNER} is missing or another run's); start a new run"
            )

    def fetch_tables(self, number: int) -> None:
        """The trial's arguments and rows, as they are now."""
        self._fetch(number, TABLES)

    def fetch_weights(self, trials: Sequence[TrialRow]) -> None:
        """Those that are kept, if they are not here yet: a finished trial's do not change."""
        for number, names in kept_weights(trials).items():
            self.fetch_files(number, [f"weights/{name}" for name in names])

    def fetch_files(self, number: int, names: Sequence[str]) -> None:
        """Those of a finished trial that are not here yet."""
        folder = self._folder(number)
        self._fetch(number, [name for name in names if not (folder / name).exists()])

    def prune(self, trials: Sequence[TrialRow]) -> None:
        """Delete the weights of finished trials that are not kept; their tables stay."""
        kept = kept_weights(trials)
        self.drop_weights({row.number for row in trials if row.state in FINISHED and row.number not in kept})

    def drop_weights(self, numbers: Collection[int]) -> None:
        """Delete the weights of these trials."""
        for name in self.storage.below("trials").names():
            number, _, file = name.partition("/")
            if file.startswith("weights/") and number.isdecimal() and int(number) in numbers:
                self.storage.delete(f"trials/{name}")

    def _folder(self, number: int) -> Path:
        return self._run / "trials" / str(number)

    def _fetch(self, number: int, names: Sequence[str]) -> None:
        folder, storage = self._folder(number), trial_storage(self.storage, number)
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            storage.get(name, target)
