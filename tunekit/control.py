"""How a search ends before its time: Ctrl-C, a cluster manager's SIGTERM, or a fault that concerns all.

Whoever notices says so here; the search's loop looks here ten times a second.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tunekit.errors import RunFolderError

INTERRUPTED = 130  # 128 + SIGINT, as shells say it


class Control:
    """`fault` is the first one noticed; `interrupted` after Ctrl-C."""

    def __init__(self) -> None:
        self.interrupted = False
        self.fault: Exception | None = None

    @property
    def ending(self) -> bool:
        return self.interrupted or self.fault is not None

    def fail(self, reason: str) -> None:
        """A trial met a fault of the disk, which all others would meet as well."""
        self.fault = self.fault or RunFolderError(reason)

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Keep an exception for the end of the search, instead of raising it where it cannot be told."""
        try:
            yield
        except Exception as fault:  # noqa: BLE001 - raised again by the driver
            self.fault = self.fault or fault

    @contextmanager
    def catching_interrupts(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM asks for an end, the second one is obeyed at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals come to the main thread only: the caller's business
            return
        before = {
            number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            os._exit(INTERRUPTED)
        self.interrupted = True
