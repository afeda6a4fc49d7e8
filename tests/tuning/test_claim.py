"""Two processes that both believe that a trial is theirs."""

from __future__ import annotations

import threading
import time

import pytest

from tests.training.test_ranks import TINY
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.tuning.claim import Claim, Superseded
from tunekit.tuning.mailbox import Order
from tunekit.tuning.training import Training


def test_who_comes_later_waits_until_the_other_one_gives_way(tmp_path):
    began, gone = threading.Event(), []

    def train() -> None:
        """Epoch by epoch, until it is told."""
        first = Claim(tmp_path / "0")
        try:
            while True:
                first.check()
                began.set()
                time.sleep(0.05)
        except Superseded:
            gone.append(time.monotonic())
            first.release()

    thread = threading.Thread(target=train)
    thread.start()
    began.wait()
    second = Claim(tmp_path / "0")
    assert gone
    assert time.monotonic() - gone[0] < 5
    thread.join()
    second.check()


def test_who_cannot_give_way_is_not_waited_for_for_ever(tmp_path):
    stopped = Claim(tmp_path / "0")
    second = Claim(tmp_path / "0", patience=0.2)
    second.check()
    with pytest.raises(Superseded, match="begun again elsewhere"):
        stopped.check()


def test_a_training_that_was_taken_over_writes_nothing_more(tmp_path):
    args = build_args(TrainArgs, {**TINY, "val": True, "device": "cpu"})
    folder = tmp_path / "0"
    first = Training(Order(args, folder))
    first.next()
    claim = Claim(folder, patience=0.0)  # of a process that takes its time
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(Superseded):
        first.next()
    first.close()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    claim.check()
    second = Training(Order(args, folder))
    assert second.next()["epoch"] == 2
    second.close()
