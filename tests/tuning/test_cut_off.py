"""A node that is given up for dead while its processes live: its network is cut, or all of it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.processes import descendants
from tests.tuning.nodes import ENVIRONMENT, Line, can_unplug, network_line, running_cluster
from tests.tuning.test_run import TINY
from tests.tuning.test_storage_search import wait_until
from tunekit.results.run import Run

# Long enough that the trial of the node that is left has not ended when the other one's is taken up again.
LONG = {**TINY, "epochs": 150, "patience": 0, "iterations": 2}


@contextmanager
def cut(line: Line) -> Iterator[None]:
    line.cut()
    yield
    line.mend()


@contextmanager
def stopped(node: subprocess.Popen[bytes]) -> Iterator[None]:
    found = list(descendants([node.pid]))
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in found:
        os.kill(pid, signal.SIGCONT)


def epochs(run: Path, number: int) -> list[int]:
    """As results.csv has them now."""
    path = run / "trials" / str(number) / "results.csv"
    return [int(row.partition(",")[0]) for row in path.read_text().splitlines()[1:]] if path.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", ["cut", "stopped"])
@pytest.mark.parametrize("stored", [False, True], ids=["shared disk", "storage"])
def test_the_trials_of_a_node_that_is_away_go_on_elsewhere_and_are_not_disturbed_when_it_comes_back(
    tmp_path, fault, stored
):
    if fault == "cut" and not can_unplug():
        pytest.skip("needs the right to make network namespaces")
    given = {**LONG, "name": "away", "project": tmp_path / "runs"}
    run = tmp_path / "runs" / "away"
    place = tmp_path / "store" / "away" if stored else run
    if stored:
        given["storage"] = tmp_path / "store"
    with network_line() if fault == "cut" else nullcontext() as line:
        host = "127.0.0.1" if line is None else line.near
        with running_cluster(1, host=host) as cluster, (tmp_path / "said").open("w+") as said:
            node = cluster.add(1, line=line)
            cluster.wait_for(2)
            given["address"] = cluster.address
            search = subprocess.Popen(
                [sys.executable, "-m", "tunekit", "tune", *(f"{name}={given[name]}" for name in given)],
                stdout=said,
                stderr=said,
                env={**os.environ, **ENVIRONMENT},
            )

            def until(condition: Callable[[], bool]) -> None:
                wait_until(condition, lambda: search.poll() is not None)

            def told() -> str:
                return (tmp_path / "said").read_text()

            until(lambda: min(len(epochs(place, number)) for number in (0, 1)) >= 3)
            with stopped(node) if line is None else cut(line):
                until(lambda: "its process broke off" in told())
                again = int(told().rpartition(": its process broke off")[0].rpartition("trial ")[2])
                before = len(epochs(place, again))
                until(lambda: len(epochs(place, again)) >= before + 3)
            counts = [0]
            while search.poll() is None:
                counts.append(len(epochs(place, again)))
                time.sleep(0.005)
    assert search.returncode == 0, told()
    assert counts == sorted(counts), "the node that came back wrote into the trial"
    assert [row.state for row in Run(run).trials] == ["COMPLETE", "COMPLETE"]
    for number in (0, 1):
        assert epochs(run, number) == list(range(1, LONG["epochs"] + 1))
    assert "raylet" not in told(), "Ray's words belong in ray.log"
