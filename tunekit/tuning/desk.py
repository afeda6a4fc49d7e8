"""Answers what other processes ask of a running search (requests.py): how it is, to end, to try something.

Called by the search's loop, between two events of Ray's, so that nothing changes under its hands.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from tunekit.control import Control
from tunekit.errors import ArgumentError
from tunekit.search.parameter import Value
from tunekit.search.space import Space
from tunekit.tuning.board import Board
from tunekit.tuning.requests import Inbox, Request
from tunekit.tuning.schedulers import StopLosers
from tunekit.tuning.searcher import StudySearcher

LOOK_SECONDS = 1.0


class Desk:
    """Of the search in `run`."""

    def __init__(
        self,
        run: Path,
        space: Space,
        searcher: StudySearcher,
        scheduler: StopLosers,
        board: Board,
        control: Control,
    ) -> None:
        self._run, self._space = run, space
        self._searcher, self._scheduler = searcher, scheduler
        self._board, self._control = board, control
        self._inbox = Inbox(run)
        self._next_look = 0.0

    def serve(self) -> None:
        """Answer what has been asked."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        for request, answer in self._inbox.requests():
            try:
                answer.give(self._answer(request))
            except ArgumentError as refusal:
                answer.give(str(refusal), refused=True)

    def _answer(self, request: Request) -> str:
        if request.what == "look":
            return self._look()
        if request.what == "stop":
            return self._stop(request.details["trial"])
        if request.what == "add":
            return self._add(request.details["params"])
        raise ArgumentError(f"this search cannot '{request.what}': is it of another version of tunekit?")

    def _look(self) -> str:
        running = self._board.count("running")
        return (
            f"{running} trial{'s' if running != 1 else ''} running, searched by process {os.getpid()} of "
            f"{socket.gethostname()}"
        )

    def _stop(self, number: int | None) -> str:
        if number is None:
            self._control.interrupted = True
            return f"the search ends now; to go on with it: tunekit tune resume={self._run}"
        line = self._board.lines.get(number)
        if line is None:
            raise ArgumentError(
                f"trial={number} is not there: {len(self._board.lines)} have begun, from 0 on"
            )
        if line.state != "running":
            raise ArgumentError(f"trial={number} does not run: it is {line.state}")
        self._scheduler.end(number)
        self._searcher.unwanted.add(number)
        return f"trial {number} ends with the epoch that it is in"

    def _add(self, given: dict[str, Value]) -> str:
        known = {parameter.name: parameter for parameter in self._space.parameters}
        for name, value in given.items():
            if name not in known:
                raise ArgumentError(
                    f"{name} is not searched here, all trials have the same; searched are {', '.join(known)}"
                )
            if known[name].nearest(value) != value:
                raise ArgumentError(
                    f"{name}={value} is outside of the search space; the nearest in it is "
                    f"{known[name].nearest(value)}"
                )
        params: dict[str, Any] = self._space.completed(given)
        for name in given:
            if name not in params:
                raise ArgumentError(
                    f"{name} is searched only where {known[name].condition}: give that, too, or leave it out"
                )
        if self._searcher.refusal is not None:
            raise ArgumentError(self._searcher.refusal)
        number = self._searcher.add(params)
        self._board.total = max(self._board.total, number + 1)
        return f"trial {number} will be: " + ", ".join(f"{name}={value}" for name, value in params.items())
