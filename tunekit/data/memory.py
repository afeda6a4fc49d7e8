"""Files in memory that all processes of a node share, and that go away with the last of them.

/dev/shm is a file system in memory, so a file there survives its processes. Each process that uses
one holds a shared lock on it; at its exit, whoever holds the last lock removes the file, and what
killed processes left is removed when the folder is next asked for.
"""

from __future__ import annotations

import atexit
import os
import stat
from pathlib import Path

import filelock

from tunekit.errors import DataError

SHARED_MEMORY = Path("/dev/shm")

_held: dict[Path, int] = {}  # what this process has open: path to file descriptor
_owner = -1  # the process that opened them: a fork inherits descriptors, but must not clean up


def folder() -> Path:
    """This user's folder in shared memory, without files that nobody uses any more."""
    if not SHARED_MEMORY.is_dir():
        raise DataError("cache=ram needs /dev/shm, which this system does not have; use cache=disk")
    place = SHARED_MEMORY / f"tunekit-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
    except OSError as fault:
        raise DataError(f"cache=ram cannot use {place}: {fault.strerror}; use cache=disk") from fault
    status = place.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise DataError(f"cache=ram cannot use {place}: it belongs to somebody else; use cache=disk")
    for path in place.glob("*.arrow"):
        if path not in _held:
            _remove_if_unused(path, patience=0.0)
    return place


def hold(path: Path) -> None:
    """Keep the file while this process lives. Raises FileNotFoundError where there is none."""
    import fcntl

    global _owner
    if path in _held and os.fstat(_held[path]).st_nlink:
        return
    if not _held:
        atexit.register(_release_all)
    _owner = os.getpid()
    for gone in [other for other, descriptor in _held.items() if not os.fstat(descriptor).st_nlink]:
        os.close(_held.pop(gone))  # its name is gone, and with our descriptor its memory
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not os.fstat(descriptor).st_nlink:  # removed between open and lock
        os.close(descriptor)
        raise FileNotFoundError(path)
    _held[path] = descriptor


def _release_all() -> None:
    if os.getpid() != _owner:
        return
    for path, descriptor in _held.items():
        os.close(descriptor)
        _remove_if_unused(path, patience=1.0)  # another process may be looking, too
    _held.clear()


def _remove_if_unused(path: Path, patience: float) -> None:
    import fcntl

    try:
        with filelock.FileLock(lock_of(path), timeout=patience):  # else it may be new, and not held yet
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
    except OSError:
        pass  # in use, or gone


def lock_of(path: Path) -> Path:
    """The file whose lock a process has while it makes `path`, until it holds it."""
    return path.with_name(f"{path.name.partition('-')[0]}.lock")
