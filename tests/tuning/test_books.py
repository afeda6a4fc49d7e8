"""The books of a search: how often they are written, and that in the end nothing is missing."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.results.tune_folder import TuneFolder, new_tune_folder
from tunekit.results import store
from tunekit.results.store import read_epochs
from tunekit.tuning import books as books_module
from tunekit.tuning import drawing
from tunekit.tuning.books import SHARE, Books


class Clock:
    """Every writing of the tables takes `cost` seconds of it."""

    def __init__(self, cost: float) -> None:
        self.now, self.cost, self.written = 1000.0, cost, 0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(2.0)
    write = books_module.write_results

    def slowly(*given):
        clock.now += clock.cost
        clock.written += 1
        return write(*given)

    monkeypatch.setattr(books_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    monkeypatch.setattr(books_module, "write_results", slowly)
    return clock


@pytest.fixture
def folder(tmp_path) -> TuneFolder:
    return new_tune_folder(tmp_path / "run")


def rows(folder: TuneFolder) -> int:
    return len((folder.path / "tune_results.csv").read_text().splitlines()) - 1


def test_tables_take_a_share_of_the_time_and_nothing_is_left_out(folder, clock):
    books = Books(folder.path, folder.study)
    began = clock.now
    for _ in range(60):
        folder.trial([0.1, 0.2])
        clock.now += 1.0  # a trial a second
        books.update()
    assert clock.written * clock.cost <= SHARE * (clock.now - began) + clock.cost
    assert clock.written >= 2
    written = rows(folder)
    assert written < 60, "the last ones wait"
    books.catch_up()
    assert rows(folder) == written, "it is not time"
    clock.now += clock.cost / SHARE
    books.catch_up()
    assert rows(folder) == 60, "the loop enters what waits without another trial's end"
    times = clock.written
    books.catch_up()
    assert clock.written == times, "nothing waits"
    folder.trial([0.3])
    books.update(final=True)
    assert rows(folder) == 61


def test_the_rows_of_trials_that_have_ended_are_read_once(folder, clock, monkeypatch):
    clock.cost = 0.0
    read: list[int] = []
    original = store._epochs_of
    monkeypatch.setattr(store, "_epochs_of", lambda trial, path: read.append(trial) or original(trial, path))
    books = Books(folder.path, folder.study)
    for _ in range(4):
        folder.trial([0.1, 0.2])
        books.update()
    running = folder.trial([0.1], state="RUNNING")
    for _ in range(3):
        books.update(final=True)
    assert [read.count(number) for number in range(4)] == [1] * 4
    assert read.count(running) == 3, "it goes on"
    monkeypatch.undo()
    kept = store.pyarrow.parquet.read_table(folder.path / "results.parquet")
    assert kept.equals(read_epochs(folder.path))


def test_pictures_are_drawn_beside_a_search_and_once_more_at_its_end(folder, monkeypatch):
    begun: list[int] = []

    def begin(run, trials) -> subprocess.Popen[bytes]:
        begun.append(len(trials))
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(drawing, "PICTURES_AFTER", 0.0)
    monkeypatch.setattr(drawing, "begun", begin)
    folder.trial([0.1, 0.2])
    books = Books(folder.path, folder.study)
    books.update()
    assert begun == [1]
    picture = folder.path / "tune_scatter_plots.png"
    assert not picture.exists(), "that is the process's work"
    books.update(final=True)
    assert picture.exists()
    assert begun == [1]
