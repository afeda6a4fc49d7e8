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
    state: str  # waiting, running, resting, done, stopped, failed
    epoch: int = 0
    best: float | None = None
    reason: str = ""
    began: float = 0.0
    seconds: float = 0.0  # in a slot, in this sitting
    trained: int = 0  # epochs in this sitting


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
        self.total = max(self.total, number + 1)
        return line

    def epoch(self, number: int, epoch: int, fitness: float) -> Line:
        line = self.lines[number]
        line.trained += epoch > line.epoch
        line.epoch = epoch
        line.best = fitness if line.best is None else max(line.best, fitness)
        return line

    def ended(self, number: int, state: str, reason: str = "") -> Line:
        line = self.rests(number)
        line.state, line.reason = state, reason
        return line

    def rests(self, number: int) -> Line:
        """It has left its slot, and may come again."""
        line = self.lines[number]
        if line.state == "running":
            line.state = "resting"
            line.seconds += self.clock() - line.began
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
        if self.count("resting"):
            estimate = self._population_seconds()
            return estimate if self.deadline is None else max(0.0, min(estimate, self.deadline - now))
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

    def _population_seconds(self) -> float:
        """All trials train to the last epoch, or a child does in their place."""
        alive = [line for line in self.lines.values() if line.state in ("running", "resting")]
        known = [line for line in self.lines.values() if line.seconds and line.trained]
        pace = sum(line.seconds for line in known) / sum(line.trained for line in known) if known else 0.0
        epochs = sum(self.epochs - line.epoch for line in alive) + self.left * self.epochs
        return epochs * pace / self.concurrent
