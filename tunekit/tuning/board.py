"""What is to be told of a running search: counts, the best so far, how long it will take. No terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Clock = Callable[[], float]
ENDED = ("done", "stopped")  # with a score; failed trials have none


@dataclass
class Line:
    """A trial as the table shows it."""

    number: int
    params: dict[str, Any]
    state: str  # running, done, stopped, failed
    epoch: int = 0
    best: float | None = None
    reason: str = ""
    began: float = 0.0
    seconds: float = 0.0


@dataclass
class Board:
    """All trials, by number. `total` trials of `epochs` epochs, `concurrent` at a time, until `deadline`."""

    total: int
    epochs: int
    concurrent: int
    clock: Clock = time.monotonic
    deadline: float | None = None  # on the clock
    lines: dict[int, Line] = field(default_factory=dict)

    def began(self, number: int, params: dict[str, Any]) -> Line:
        known = self.lines.get(number)
        line = known or Line(number, params, "running")
        line.state, line.began = "running", self.clock()
        self.lines[number] = line
        return line

    def epoch(self, number: int, epoch: int, fitness: float) -> Line:
        line = self.lines[number]
        line.epoch = epoch
        line.best = fitness if line.best is None else max(line.best, fitness)
        return line

    def ended(self, number: int, state: str, reason: str = "") -> Line:
        line = self.lines[number]
        line.state, line.reason = state, reason
        line.seconds = self.clock() - line.began
        return line

    def count(self, state: str) -> int:
        return sum(line.state == state for line in self.lines.values())

    @property
    def best(self) -> Line | None:
        """The best of those that ended: what the search would answer now."""
        ended = [line for line in self.lines.values() if line.state in ENDED and line.best is not None]
        return max(ended, key=lambda line: (line.best, -line.number), default=None)

    @property
    def left(self) -> int:
        """Trials not begun."""
        return max(0, self.total - len(self.lines))

    def seconds_left(self) -> float | None:
        """An estimate from the trials of this process; None as long as nothing is known."""
        now = self.clock()
        running = [line for line in self.lines.values() if line.state == "running"]
        ended = [line.seconds for line in self.lines.values() if line.seconds and line.state in ENDED]
        if ended:
            each = sum(ended) / len(ended)
        else:
            paces = [(now - line.began) / line.epoch for line in running if line.epoch]
            if not paces:
                return None
            each = self.epochs * sum(paces) / len(paces)
        rest = sum(max(0.0, each - (now - line.began)) for line in running)
        estimate = (rest + self.left * each) / self.concurrent
        return estimate if self.deadline is None else max(0.0, min(estimate, self.deadline - now))
