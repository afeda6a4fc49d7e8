"""What is told of a running search, on a terminal and without one."""

import io
import re

import pytest
from rich.console import Console

from tunekit.tuning.board import Board
from tunekit.tuning.display import Display, duration


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def board(total=6, epochs=10, concurrent=2):
    return Board(total, epochs, concurrent, clock=Clock())


def test_without_a_terminal_each_trial_is_a_line_when_it_begins_and_one_when_it_ends():
    out = io.StringIO()
    shown = board()
    with Display(Console(file=out, width=200), shown, ["lr0"]) as display:
        display.began(0, {"lr0": 0.0123456})
        for epoch in range(1, 11):
            display.epoch(0, epoch, epoch / 100)
        display.ended(0, "done")
        display.began(1, {"lr0": 0.5})
        display.ended(1, "failed", "the loss is NaN")
    assert out.getvalue().splitlines() == [
        "trial 0: lr0 0.0123",
        "trial 0 done after epoch 10/10, fitness 0.1000  |  1/6 trials, best 0.1000 (trial 0)",
        "trial 1: lr0 0.5",
        "trial 1 failed after epoch 0/10, the loss is NaN  |  2/6 trials, best 0.1000 (trial 0), 1 failed",
    ]


def test_on_a_terminal_the_table_stays_within_the_screen():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=20)
    display = Display(console, board(total=200), ["lr0", "mosaic"])
    for number in range(100):
        display.began(number, {"lr0": 0.01, "mosaic": 1.0})
        display.epoch(number, 1, 0.9 if number == 3 else 0.1)
        if number < 97:
            display.ended(number, "stopped")
    console.print(display.render())
    rows = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).strip().splitlines()
    assert len(rows) <= 20
    shown = [int(number) for row in rows if (number := row.split()[0]).isdecimal() and "/10" in row]
    assert {3, 97, 98, 99} <= set(shown), "the best and all that run are always there"


def test_what_is_left_is_no_longer_than_the_searchs_time():
    shown = board(total=200)
    shown.began(0, {})
    shown.clock.now = 100.0
    shown.ended(0, "done")
    assert shown.seconds_left() == 199 * 100 / 2
    shown.deadline = 400.0
    assert shown.seconds_left() == 300
    shown.clock.now = 500.0
    assert shown.seconds_left() == 0


def test_a_failed_trial_is_never_the_best():
    shown = board()
    shown.began(0, {})
    shown.epoch(0, 5, 0.9)
    shown.ended(0, "failed", "it broke")
    assert shown.best is None


def test_the_estimate_comes_from_the_pace_until_a_trial_ended_and_then_from_trials():
    shown = board(total=5, epochs=10, concurrent=2)
    assert shown.seconds_left() is None
    shown.began(0, {})
    shown.clock.now = 4.0
    shown.epoch(0, 2, 0.1)
    assert shown.seconds_left() == pytest.approx((16 + 4 * 20) / 2)  # 2 s an epoch: 20 s a trial
    shown.clock.now = 10.0
    shown.ended(0, "stopped")
    assert shown.seconds_left() == pytest.approx(4 * 10 / 2)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (80, "80 s"), (120, "2 min"), (9000, "2 h 30 min")]
)
def test_durations_are_told_as_people_do(seconds, words):
    assert duration(seconds) == words
