"""Where tunekit keeps what it can make again: the user's cache folder.

In: the environment. Out: an existing, writable folder. `TUNEKIT_CACHE` names another one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tunekit.errors import DataError


def cache_folder(part: str) -> Path:
    """`part` of the cache folder ('images', 'digits'), made when it is not there."""
    folder = _root() / part
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise DataError(
            f"cannot make the cache folder {folder}: {fault.strerror};"
            " set TUNEKIT_CACHE to a folder that can be written"
        ) from fault
    return folder


def _root() -> Path:
    chosen = os.environ.get("TUNEKIT_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tunekit"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tunekit"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunekit"
