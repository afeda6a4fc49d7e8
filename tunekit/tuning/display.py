"""Shows a Board: one live table where there is a terminal, plain lines where there is none.

The table has a bounded height: what runs, the best, and the last that ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tunekit.tuning.board import Board, Line

STYLES = {
    "waiting": "dim",
    "interrupted": "dim",
    "resting": "dim",
    "running": "cyan",
    "done": "green",
    "stopped": "yellow",
    "failed": "red",
}
COLUMNS = 4  # hyperparameters in the table


class Display:
    """Told of every event; `names` are the searched parameters, most telling first."""

    def __init__(self, console: Console, board: Board, names: Sequence[str]) -> None:
        self.console, self.board = console, board
        self.names = tuple(names)
        self._live = (
            Live(
                console=console,
                get_renderable=self.render,
                refresh_per_second=2,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            if console.is_terminal and not console.is_dumb_terminal
            else None
        )

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A sentence above the table."""
        self.console.print(Text(text), soft_wrap=True)

    def began(self, number: int, params: dict[str, Any]) -> None:
        known = self.board.lines.get(number)
        goes_on = known is not None and known.state == "resting"
        line = self.board.began(number, params)
        if self._live is None and not goes_on:
            again = f" goes on after epoch {line.epoch}" if line.epoch else ""
            self.say(f"trial {number}{again}: {self._told(params)}")

    def epoch(self, number: int, epoch: int, fitness: float) -> None:
        self.board.epoch(number, epoch, fitness)

    def rests(self, number: int) -> None:
        self.board.rests(number)

    def ended(self, number: int, state: str, reason: str = "") -> None:
        line = self.board.ended(number, state, reason)
        if self._live is not None:
            if state == "failed":
                self.say(f"trial {number} failed: {reason}")
            return
        parts = [f"trial {number} {state} after epoch {line.epoch}/{self.board.epochs}"]
        parts += [f"fitness {line.best:.4f}"] if line.best is not None else []
        parts += [reason] if reason else []
        self.say(", ".join(parts) + f"  |  {self._summary()}")

    def _told(self, params: dict[str, Any]) -> str:
        return ", ".join(f"{name} {_short(params[name])}" for name in self.names if name in params)

    def _summary(self) -> str:
        board = self.board
        over = sum(board.count(state) for state in ("done", "stopped", "failed"))
        parts = [f"{over}/{board.total} trials"]
        if board.best is not None:
            parts.append(f"best {board.best.best:.4f} (trial {board.best.number})")
        parts += [f"{count} {state}" for state in ("stopped", "failed") if (count := board.count(state))]
        seconds = board.seconds_left()
        if seconds is not None and over < board.total:
            parts.append(f"about {duration(seconds)} left")
        return ", ".join(parts)

    def render(self) -> RenderableType:
        if not self.board.count("running") and self.board.left == self.board.total:
            return Text("starting Ray and a process for each trial at a time ...", style="dim")
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("trial", "state", "epochs", "fitness"):
            table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
        shown = self._columns()
        for name in shown:
            table.add_column(name, justify="right", no_wrap=True)
        best = self.board.best
        for line in self._lines():
            is_best = best is not None and line.number == best.number
            table.add_row(
                str(line.number),
                Text(line.state + (" *" if is_best else ""), style=STYLES[line.state]),
                f"{line.epoch}/{self.board.epochs}",
                "-" if line.best is None else f"{line.best:.4f}",
                *[_short(line.params.get(name, "")) for name in shown],
                style="bold" if is_best else None,
            )
        return Group(table, Text(self._summary(), style="bold"))

    def _columns(self) -> tuple[str, ...]:
        room = (self.console.width - 34) // 12
        return self.names[: max(0, min(COLUMNS, room))]

    def _lines(self) -> list[Line]:
        """As many as fit: running ones and the best in any case, then the latest."""
        lines = sorted(self.board.lines.values(), key=lambda line: line.number)
        room = max(5, self.console.height - 4)
        best = self.board.best
        kept = {line.number for line in lines if line.state == "running"}
        kept |= {best.number} if best is not None else set()
        for line in reversed(lines):
            if len(kept) >= room:
                break
            kept.add(line.number)
        return [line for line in lines if line.number in kept][-room:]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """'40 s', '12 min', '3 h 20 min'."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
