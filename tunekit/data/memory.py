"""Files in memory that all processes of a node share, and that go away with the last of them.

/dev/shm is a file system in memory, so a file there survives its processes. Each process that uses
one holds a shared lock on it; at its exit, whoever holds the last lock removes the file, and what
killed processes left is removed when the folder is next asked for.
"""

from __future__ import annotations

import atexit
import os
import stat
import time
from pathlib import Path

from tunekit.errors import DataError

SHARED_MEMORY = Path("/dev/shm")
YOUNG = 60.0  # seconds in which a new file may not have its first lock yet

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
        if path not in _held and time.time() - _modified(path) > YOUNG:
            _remove_if_unused(path)
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
        _remove_if_unused(path)
    _held.clear()


def _remove_if_unused(path: Path) -> None:
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        pass  # in use
    finally:
        os.close(descriptor)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
