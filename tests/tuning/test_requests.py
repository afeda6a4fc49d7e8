"""Requests and answers through files, between threads that stand for processes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tunekit.errors import ArgumentError, RunFolderError
from tunekit.tuning.requests import FOLDER, Inbox, Request, ask


@contextmanager
def searching(run: Path, *, every: float = 0.01):
    """A search that answers; refuses what is called 'bad'. Yields what it took."""
    taken: list[str] = []
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            for request, answer in Inbox(run).requests():
                taken.append(str(request.details["name"]))
                if request.what == "bad":
                    answer.give("no", refused=True)
                else:
                    answer.give(f"{request.what}: {request.details['name']}")
            time.sleep(every)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()


def test_every_request_of_many_at_once_gets_its_own_answer(tmp_path):
    with searching(tmp_path) as taken, ThreadPoolExecutor(8) as people:
        names = [str(number) for number in range(40)]
        answers = list(
            people.map(lambda name: ask(tmp_path, Request("add", {"name": name}), patience=20), names)
        )
    assert answers == [f"add: {name}" for name in names]
    assert sorted(taken) == sorted(names), "each is taken once"
    assert not list((tmp_path / FOLDER).iterdir())


def test_a_refusal_is_the_askers_error(tmp_path):
    with searching(tmp_path), pytest.raises(ArgumentError, match=r"^no$"):
        ask(tmp_path, Request("bad", {"name": "x"}), patience=20)


def test_what_nobody_answers_is_taken_back_and_never_done(tmp_path):
    with pytest.raises(RunFolderError, match=rf"no search answers in {tmp_path}: .*tunekit tune resume="):
        ask(tmp_path, Request("add", {"name": "late"}), patience=0.3)
    assert not list((tmp_path / FOLDER).iterdir())
    with searching(tmp_path) as taken:
        ask(tmp_path, Request("add", {"name": "new"}), patience=20)
    assert taken == ["new"]


def test_of_taking_and_taking_back_at_the_same_time_one_wins(tmp_path):
    """The search looks just when patience ends: who was refused must not have been served."""
    with searching(tmp_path, every=0.02) as taken:
        served = []
        for number in range(30):
            try:
                ask(tmp_path, Request("add", {"name": str(number)}), patience=0.002)
            except RunFolderError:
                continue
            served.append(str(number))
    assert taken == served


def test_an_answer_is_swept_away_after_an_hour_but_not_by_a_clock_that_is_set(tmp_path, monkeypatch):
    (tmp_path / FOLDER).mkdir()
    answer = tmp_path / FOLDER / "x.answer"
    answer.write_text("{}")
    monkeypatch.setattr("time.time", lambda: 4e9)
    inbox, there = Inbox(tmp_path), []
    for passed in (0.0, 3590.0, 3610.0):
        monkeypatch.setattr("time.monotonic", lambda passed=passed: passed)
        assert list(inbox.requests()) == []
        there.append(answer.exists())
    assert there == [True, True, False]


def test_two_searches_do_not_take_the_same_request(tmp_path):
    with searching(tmp_path) as one, searching(tmp_path) as other:
        for number in range(20):
            ask(tmp_path, Request("add", {"name": str(number)}), patience=20)
    assert sorted(one + other, key=int) == [str(number) for number in range(20)]
