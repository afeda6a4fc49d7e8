"""Keeps the terminal for the search's own words: everything else that is printed goes to a log file.

Ray prints from Python, from threads and from C++, so file descriptors 1 and 2 themselves are turned to
the log; what we print goes to a copy of the original.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

from tunekit.errors import RunFolderError


@contextmanager
def chatter_to(log: Path) -> Iterator[TextIO]:
    """While the block runs, `log` (appended) gets what is printed; the yielded stream is the terminal."""
    try:
        file = log.open("a", buffering=1, encoding="utf-8", errors="replace")
    except OSError as fault:
        raise RunFolderError(
            f"cannot write {log}: {fault.strerror}; choose another place with project="
        ) from fault
    before = sys.stdout
    sys.stdout.flush()
    sys.stderr.flush()
    copies = [os.dup(1), os.dup(2)]
    # A notebook's or a test's stdout is no descriptor: it stays the place to print to.
    terminal = os.fdopen(copies[0], "w", encoding=before.encoding, closefd=False) if _is_1(before) else before
    try:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        with file, redirect_stdout(file), redirect_stderr(file):
            yield terminal
    finally:
        terminal.flush()
        for number, copy in zip((1, 2), copies, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def _is_1(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (OSError, ValueError, AttributeError):
        return False
