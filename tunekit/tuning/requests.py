"""Words to a search that runs, and its answers, as files in its run folder: <run>/requests/.

A request is one file that changes its name: NAME.json, asked; NAME.taken, the search has it; NAME.answer
beside it; or NAME.gone, taken back because nobody answered. A rename happens once and whole, so that of
taking and taking back one wins, also between computers that share the disk. Knows no Ray.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunekit.atomic import write_text
from tunekit.errors import ArgumentError, RunFolderError

FOLDER = "requests"
LOOK_SECONDS = 0.1
BUSY_SECONDS = 60.0  # to answer, when it has been taken
STALE_SECONDS = 3600.0  # what nobody fetched is swept away


@dataclass(frozen=True)
class Request:
    """`what`: look, stop or add, with its `details`."""

    what: str
    details: dict[str, Any]


def ask(run: Path, request: Request, *, patience: float) -> str:
    """The answer of the search in `run`.

    Raises ArgumentError if it refuses, RunFolderError if no search answers within `patience` seconds; then
    none will do what was asked later.
    """
    folder = run / FOLDER
    name = uuid.uuid4().hex
    asked, taken, answer = (folder / f"{name}.{end}" for end in ("json", "taken", "answer"))
    try:
        folder.mkdir(exist_ok=True)
        write_text(asked, json.dumps({"what": request.what, "details": request.details}))
    except OSError as fault:
        raise RunFolderError(f"cannot write into {folder}: {fault.strerror or fault}") from fault
    began = time.monotonic()
    while not answer.exists():
        waited = time.monotonic() - began
        if waited > patience and _renamed(asked, folder / f"{name}.gone"):
            (folder / f"{name}.gone").unlink()
            raise RunFolderError(
                f"no search answers in {run}: is one running? To go on with it: tunekit tune resume={run}"
            )
        if waited > patience + BUSY_SECONDS:
            raise RunFolderError(f"the search in {run} took up what was asked, but does not answer")
        time.sleep(LOOK_SECONDS)
    told = json.loads(answer.read_text())
    answer.unlink()
    taken.unlink(missing_ok=True)
    if told["refused"]:
        raise ArgumentError(told["text"])
    return str(told["text"])


class Inbox:
    """The search's side."""

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        self._seen: dict[Path, float] = {}  # since when answers wait, on a clock that nobody sets

    def requests(self) -> Iterator[tuple[Request, Answer]]:
        """Those that wait, in the order in which they came, each with the way to answer it."""
        if not self._folder.is_dir():
            return
        waiting, now, before = [], time.monotonic(), self._seen
        self._seen = {}
        for path in list(self._folder.iterdir()):
            with suppress(FileNotFoundError):  # its owner may have fetched it
                if path.suffix == ".json":
                    waiting.append((path.stat().st_mtime, path))
                    continue
                self._seen[path] = before.get(path, now)
                if now - self._seen[path] > STALE_SECONDS:
                    path.unlink()
        for _, path in sorted(waiting):
            taken = path.with_suffix(".taken")
            if _renamed(path, taken):
                told = json.loads(taken.read_text())
                yield Request(told["what"], told["details"]), Answer(path.with_suffix(".answer"))


@dataclass(frozen=True)
class Answer:
    """Where one is awaited."""

    path: Path

    def give(self, text: str, *, refused: bool = False) -> None:
        write_text(self.path, json.dumps({"text": text, "refused": refused}))


def _renamed(path: Path, target: Path) -> bool:
    """Whether it was there to be renamed."""
    try:
        path.rename(target)
    except FileNotFoundError:
        return False
    return True
