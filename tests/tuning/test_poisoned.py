"""A trial that kills whatever process trains it, as a model that crashes a driver would."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

import pytest

from tests.tuning.test_run import TINY, owner
from tunekit.checks import build_args
from tunekit.search_args import TuneArgs
from tunekit.tuning.result import DEATHS_OF_A_TRIAL
from tunekit.tuning.run import tune

REASONS = {
    1: f"its process died {DEATHS_OF_A_TRIAL + 1} times in a row (killed, or out of memory?)",
    2: f"worker 1 of 2 died (killed, or out of memory?), as {DEATHS_OF_A_TRIAL} times in a row before",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_poisoned_trial_is_given_up_and_the_others_never_notice(shared_ray, tmp_path, monkeypatch, workers):
    monkeypatch.chdir(tmp_path)
    poisoned = tmp_path / "runs/tune/poison/trials/1"
    over, killed = threading.Event(), set()

    def poison() -> None:
        while not over.wait(0.02):
            if poisoned.exists() and (pid := owner(poisoned)):
                killed.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=poison)
    thread.start()
    try:
        given = {"workers": workers, "device": "cpu", "imgsz": 64, "iterations": 4, "name": "poison"}
        run = tune(build_args(TuneArgs, {**TINY, **given}))
    finally:
        over.set()
        thread.join()
    assert len(killed) == DEATHS_OF_A_TRIAL + 1
    states = {row.number: row.state for row in run.trials}
    assert states == {0: "COMPLETE", 1: "FAIL", 2: "COMPLETE", 3: "COMPLETE"}
    assert run.trials[1].reason == REASONS[workers]
    epochs = run.epochs().to_pylist()
    for number in (0, 2, 3):
        assert [row["epoch"] for row in epochs if row["trial"] == number] == [1, 2, 3]
