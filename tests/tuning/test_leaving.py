"""Machines that leave in the middle of a search: a spot node, as was announced; the head, all at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tuning.nodes import ENVIRONMENT, RAY, Cluster, running_cluster
from tests.tuning.test_cut_off import epochs
from tests.tuning.test_run import TINY
from tests.tuning.test_storage_search import wait_until
from tunekit.results.run import Run

NOTICE_SECONDS = 10
GIVEN = {**TINY, "imgsz": 64, "epochs": 60, "patience": 0, "iterations": 3, "name": "leaving"}
NODES = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
own = ray.get_runtime_context().get_node_id()
print(*[node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != own])
"""


@contextmanager
def searching(cluster: Cluster, cwd: Path, **given: object):
    """A search there; when the block ends it must have ended. Yields it and the file that takes its words."""
    words = {**GIVEN, "address": cluster.address, **given}
    with (cwd / "said").open("w") as said:
        search = subprocess.Popen(
            [sys.executable, "-m", "tunekit", "tune", *(f"{name}={words[name]}" for name in words)],
            cwd=cwd,
            stdout=said,
            stderr=said,
            env={**os.environ, **ENVIRONMENT},
        )
        try:
            yield search, cwd / "said"
        finally:
            search.kill()
            search.wait()


def announce_the_end(cluster: Cluster) -> None:
    """What a provider's notice makes of the second node, through whoever watches for it."""
    found = cluster.run(sys.executable, "-c", NODES, cluster.address, cwd=Path("/"))
    (node,) = found.stdout.split()
    why = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot")
    when = ("--deadline-remaining-seconds", str(NOTICE_SECONDS))
    told = cluster.run(
        str(RAY), "drain-node", "--address", cluster.address, "--node-id", node, *why, *when, cwd=Path("/")
    )
    assert told.returncode == 0, told.stderr


def assert_whole(run: Path) -> None:
    assert [row.state for row in Run(run).trials] == ["COMPLETE"] * GIVEN["iterations"]
    for number in range(GIVEN["iterations"]):
        assert epochs(run, number) == list(range(1, GIVEN["epochs"] + 1))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_trials_of_a_node_that_was_announced_to_go_go_on_elsewhere(tmp_path, workers):
    run = tmp_path / "runs/tune/leaving"
    with running_cluster(1, 1) as cluster, searching(cluster, tmp_path, workers=workers) as (search, said):
        wait_until(lambda: len(epochs(run, 0)) >= 3, lambda: search.poll() is not None)
        announce_the_end(cluster)
        time.sleep(NOTICE_SECONDS + 2)
        assert search.poll() is None, "it should be in the middle of the search"
        cluster.end(cluster.nodes[-1])
        cluster.add(1)
        assert search.wait(400) == 0, said.read_text()
    told = said.read_text()
    assert_whole(run)
    if workers == 2:
        assert "lost its node, which was taken away as announced: all started again" in told


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_whose_cluster_loses_its_head_says_how_to_go_on_and_does(tmp_path):
    run = tmp_path / "runs/tune/leaving"
    with running_cluster(1, 1) as cluster, searching(cluster, tmp_path) as (search, said):
        wait_until(lambda: len(epochs(run, 0)) >= 3, lambda: search.poll() is not None)
        cluster.end(cluster.nodes[0])
        began = time.monotonic()
        code = search.wait(100)
        told = said.read_text()
        assert time.monotonic() - began < 60, "then Ray ends it"
    assert code == 1
    (error,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: the Ray cluster's head at ")
    assert (
        "does not answer any more: start it again; then go on with: tunekit tune resume=runs/tune/" in error
    )
    assert "Traceback" not in told
    before = {number: epochs(run, number) for number in (0, 1)}
    with running_cluster(2) as cluster:
        words = ["tune", "resume=runs/tune/leaving", f"address={cluster.address}"]
        done = cluster.run(sys.executable, "-m", "tunekit", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"trial 0 goes on after epoch {len(before[0])}" in done.stdout
    assert_whole(run)
