"""Files in a place that all nodes reach: an object store (s3://, gs://, abfs://) or a folder (NFS).

In: a URI as pyarrow.fs takes it, and names below it. A file there is whole at any time: a reader sees the old
one or the new one. Faults are waited out for a minute; one that stays is a RunFolderError, which ends the
search in such a way that it can be resumed. Knows nothing of trials.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from tunekit.atomic import write_atomic
from tunekit.errors import ArgumentError, RunFolderError

PATIENCE = 60.0  # seconds; each call waits for some itself, S3's and Google's about six
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
GOOGLE_LIMIT = "retry_limit_seconds"  # left alone, its client tries for 15 minutes before it says anything
HINTS = {
    "NO_SUCH_BUCKET": "make the bucket, or mend its name",
    "not found": "make the bucket, or mend its name",
    "ACCESS_DENIED": "let the credentials (AWS_ACCESS_KEY_ID, or a profile) read, write and delete there",
    "INVALID_ACCESS_KEY": "mend AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "InvalidAccessKeyId": "mend AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "SIGNATURE_DOES_NOT_MATCH": "mend AWS_SECRET_ACCESS_KEY",
    "OAuth2": "give credentials: GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login",
    "Permission denied": "mend the folder's rights",
    "No space left": "free some space there",
    "quota exceeded": "free some space there",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Storage:
    """The files below `uri`/`prefix`. Small and picklable: each process opens it for itself."""

    uri: str
    prefix: str = ""
    patience: float = PATIENCE

    def below(self, name: str) -> Storage:
        return replace(self, prefix=f"{self.prefix}{name}/")

    def put(self, source: Path, name: str) -> None:
        """Copy a file that is not empty there."""
        # One buffer in one call: a stream that is left by an exception commits what it has so far.
        with pa.memory_map(str(source)) as file:
            self._write(name, file.read_buffer())

    def write(self, name: str, content: bytes) -> None:
        self._write(name, pa.py_buffer(content))

    def _write(self, name: str, content: pa.Buffer) -> None:
        def attempt(system: fs.FileSystem, root: str) -> None:
            path = f"{root}/{self.prefix}{name}"
            if isinstance(system, fs.LocalFileSystem):
                _write_locally(Path(path), content)
            else:  # an object appears when its stream is closed
                with system.open_output_stream(path) as file:
                    file.write(content)

        self._patiently(f"write {self.prefix}{name}", attempt)

    def get(self, name: str, target: Path) -> bool:
        """Copy a file from there, atomically; False if there is none."""
        content = self.read(name)
        if content is not None:
            write_atomic(target, lambda file: file.write(content))
        return content is not None

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is none."""

        def attempt(system: fs.FileSystem, root: str) -> bytes | None:
            path = f"{root}/{self.prefix}{name}"
            try:
                with system.open_input_file(path) as file:
                    content = file.read()
            except FileNotFoundError:
                return None
            # S3 is asked for the size first: a file that was replaced in between comes cut off.
            now = system.get_file_info(path)
            if now.is_file and now.size != len(content):
                raise OSError(f"{path} changed while it was read")
            return content

        return self._patiently(f"read {self.prefix}{name}", attempt)

    def names(self) -> list[str]:
        """All files, also in folders below."""

        def attempt(system: fs.FileSystem, root: str) -> list[str]:
            base = f"{root}/{self.prefix}".rstrip("/")
            found = system.get_file_info(fs.FileSelector(base, allow_not_found=True, recursive=True))
            return sorted(info.path[len(base) + 1 :] for info in found if info.is_file)

        return self._patiently(f"list {self.prefix or 'it'}", attempt)

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""

        def attempt(system: fs.FileSystem, root: str) -> None:
            with suppress(FileNotFoundError):
                system.delete_file(f"{root}/{self.prefix}{name}")

        self._patiently(f"delete {self.prefix}{name}", attempt)

    def clear(self) -> None:
        """Delete all of it."""

        def attempt(system: fs.FileSystem, root: str) -> None:
            with suppress(FileNotFoundError):
                system.delete_dir(f"{root}/{self.prefix}".rstrip("/"))

        self._patiently(f"delete {self.prefix}", attempt)

    def make(self) -> None:
        """Make the folder of a local path, in one that is there. For one node; object stores have none."""
        system, root = opened(self.uri)
        if isinstance(system, fs.LocalFileSystem):
            try:
                Path(root).mkdir(exist_ok=True)
            except OSError as fault:
                raise RunFolderError(
                    f"storage={self.uri}: cannot make it: {fault.strerror}; is the disk mounted?"
                ) from fault

    def check(self) -> None:
        """Raise at once if a small file cannot be written, read and deleted."""
        at_once, name = replace(self, patience=0.0), f".tunekit-{uuid.uuid4().hex}"
        at_once.write(name, name.encode())
        if at_once.read(name) != name.encode():
            raise RunFolderError(f"storage={self.uri}: what is written there is not what is read")
        at_once.delete(name)

    def _patiently(self, what: str, attempt: Callable[[fs.FileSystem, str], T]) -> T:
        deadline, pause = time.monotonic() + self.patience, FIRST_PAUSE
        while True:
            try:
                system, root = opened(self.uri)
                if isinstance(system, fs.LocalFileSystem) and not Path(root).is_dir():
                    # Never made here: where a disk is not mounted, that would fill another one.
                    raise FileNotFoundError(f"there is no folder {root}")
                return attempt(system, root)
            except OSError as fault:
                if time.monotonic() + pause > deadline:
                    tried = f", tried for {self.patience:.0f} s" if self.patience else ""
                    raise RunFolderError(
                        f"storage={self.uri}: cannot {what}{tried}: {_reason(fault)}"
                    ) from fault
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


@functools.cache
def opened(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of `uri` and the path in it. S3 is asked for the bucket's region."""
    limited = uri
    if uri.startswith(("gs://", "gcs://")) and GOOGLE_LIMIT not in uri:
        limited += f"{'&' if urlsplit(uri).query else '?'}{GOOGLE_LIMIT}=6"
    try:
        system, root = fs.FileSystem.from_uri(limited)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as fault:
        raise ArgumentError(f"storage={uri}: {' '.join(str(fault).split())}") from fault
    return system, root.rstrip("/")


def _write_locally(path: Path, content: pa.Buffer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_atomic(path, lambda file: file.write(content))
    except RunFolderError as fault:
        raise OSError(str(fault.__cause__)) from fault  # its advice is meant for the run's own folder


def _reason(fault: OSError) -> str:
    text = " ".join(str(fault).split())
    hints = [hint for word, hint in HINTS.items() if word in text]
    return "; ".join([text[:300], *hints[:1]])
