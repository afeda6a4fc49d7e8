"""Files that are always whole: a write is a temporary file, fsync and a rename.

A reader sees the old file or the new one, never half of either, also when the writer is killed or
the disk fills up. Faults of the disk are told as RunFolderError naming the file.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tunekit.errors import RunFolderError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(
    path: Path, write: Callable[[IO[bytes]], object], check: Callable[[], object] = lambda: None
) -> None:
    """Create or replace `path` with what `write(file)` puts into a binary file.

    `check` is called at the last moment; what it raises leaves the old file.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        check()
        os.replace(temporary, path)
    except BaseException as fault:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        disk = _fault_of_the_disk(fault)
        if disk is not None:
            raise RunFolderError(
                f"cannot write {path}: {disk.strerror or disk}. Free some space or choose another place "
                "with project="
            ) from disk
        raise


def write_text(path: Path, text: str, check: Callable[[], object] = lambda: None) -> None:
    """Create or replace a UTF-8 text file."""
    write_atomic(path, lambda file: file.write(text.encode()), check)


def _fault_of_the_disk(fault: BaseException | None) -> OSError | None:
    """The OSError that is, or led to, `fault`: torch.save turns a full disk into a RuntimeError."""
    while fault is not None and not isinstance(fault, OSError):
        fault = fault.__cause__ or fault.__context__
    return fault


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
