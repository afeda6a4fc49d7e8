"""Clocks that are set while a search runs: for all its processes, Ray's among them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuning.test_run import TINY, started, table, wait_for
from tunekit.results.run import Run

GIVEN = {**TINY, "epochs": 20, "patience": 0, "iterations": 5, "time": 0.9, "name": "clock"}
HOUR = 3600


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_search_does_not_mind_clocks_that_are_set_forth_and_back(tmp_path, monkeypatch):
    library, shift = tmp_path / "clock.so", tmp_path / "shift"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)

    def set_clocks(seconds: int) -> None:
        (tmp_path / "new").write_text(f"{seconds}\n")
        (tmp_path / "new").replace(shift)

    set_clocks(0)
    monkeypatch.setenv("CLOCK_SHIFT", str(shift))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    far = subprocess.check_output([sys.executable, "-c", "import time; print(time.time())"], text=True)
    set_clocks(HOUR)
    now = subprocess.check_output([sys.executable, "-c", "import time; print(time.time())"], text=True)
    assert float(now) - float(far) > HOUR, "the library should set Python's clock"

    set_clocks(0)
    search = started(tmp_path, *(f"{name}={GIVEN[name]}" for name in GIVEN))
    monkeypatch.undo()
    run = tmp_path / "runs/tune/clock"
    wait_for(search, run, 0, 3)
    set_clocks(HOUR)
    wait_for(search, run, 1, 3)
    set_clocks(-HOUR)
    told, _ = search.communicate(timeout=300)
    assert search.returncode == 0, told
    assert "ended early" not in told
    assert [row.state for row in Run(run).trials] == ["COMPLETE"] * 5
    for number in range(5):
        rows = table(run / "trials" / str(number) / "results.csv")
        assert [int(row["epoch"]) for row in rows] == list(range(1, 21))
        times = [float(row["time"]) for row in rows]
        assert times == sorted(times)
        assert times[-1] < HOUR / 2
