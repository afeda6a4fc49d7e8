"""Searches on a real cluster of two nodes, which here are both on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from tests.tuning.nodes import Cluster, can_mount, free_port, running_cluster
from tests.tuning.test_run import TINY, table
from tunekit.checks import build_args
from tunekit.data.digits import ensure_digits
from tunekit.errors import ResourceError
from tunekit.search_args import TuneArgs
from tunekit.tuning.run import tune


@pytest.fixture(scope="module")
def cluster():
    with running_cluster(1, 1) as cluster:
        yield cluster


def typed(cluster: Cluster, cwd: Path, **given: object) -> subprocess.CompletedProcess[str]:
    words = {**TINY, "address": cluster.address, **given}
    return cluster.run(
        *(sys.executable, "-m", "tunekit", "tune"), *(f"{name}={words[name]}" for name in words), cwd=cwd
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == ResourceError.exit_code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_search_typed_with_an_address_runs_on_both_nodes_and_leaves_them_up(cluster, tmp_path):
    done = typed(cluster, tmp_path, iterations=3)
    assert done.returncode == 0, done.stdout + done.stderr
    # One core a node: two at a time are one on each.
    assert "3 trials of 3 epochs, 2 trials at a time on 1 CPU core each" in done.stdout
    (run,) = (tmp_path / "runs" / "tune").iterdir()
    assert [row["state"] for row in table(run / "tune_results.csv")] == ["COMPLETE"] * 3
    cluster.wait_for(2)
    assert not list(run.parent.glob(".tunekit-*")), "the nodes' probe should be gone"


@pytest.mark.slow
def test_a_resumed_search_goes_to_its_cluster_unless_it_is_told_otherwise(cluster, tmp_path):
    assert typed(cluster, tmp_path, iterations=2).returncode == 0
    (run,) = (tmp_path / "runs" / "tune").iterdir()
    command = [sys.executable, "-m", "tunekit", "tune", f"resume={run}", "iterations=3"]
    done = cluster.run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 trials at a time on 1 CPU core each" in done.stdout
    assert len(table(run / "tune_results.csv")) == 3
    gone = cluster.run(*command[:-1], "iterations=4", f"address=127.0.0.1:{free_port()}", cwd=tmp_path)
    assert "no Ray cluster could be joined" in refusal(gone)


@pytest.fixture
def elsewhere(cluster, tmp_path):
    """A third node, to which `tmp_path` is another folder."""
    if not can_mount():
        pytest.skip("needs the right to mount")
    node = cluster.add(1, tmp_path)
    cluster.wait_for(3)
    yield tmp_path
    cluster.end(node)
    cluster.wait_for(2)


@pytest.mark.slow
def test_a_node_that_lacks_something_is_named_before_anything_is_made(cluster, elsewhere):
    project, inside = elsewhere / "runs", elsewhere / "work"
    told = refusal(typed(cluster, Path("/"), project=project))
    assert told.startswith("error: node ")
    assert f": the folder {project} of " in told
    assert "project= name a folder on a disk that all nodes share" in told

    for kind in ("images", "labels"):
        shutil.copytree(ensure_digits().parent / kind / "val", inside / kind)
    (inside / "data.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [a]\n")
    told = refusal(typed(cluster, inside))
    assert f": the folder {inside}, where the search was started, is not there" in told
    told = refusal(typed(cluster, Path("/"), data=inside / "data.yaml", single_cls=True))
    assert told.startswith("error: node ")
    assert "data.yaml" in told
    assert not list(project.glob("*"))


@pytest.mark.slow
def test_a_search_without_the_clusters_token_is_told_what_may_be_missing(cluster, tmp_path):
    call = [sys.executable, "-m", "tunekit", "tune", "name=shut"]
    told = refusal(cluster.run(*call, cwd=tmp_path, RAY_ADDRESS=cluster.address, RAY_AUTH_TOKEN="f" * 64))
    assert told.startswith(f"error: RAY_ADDRESS={cluster.address}: no Ray cluster could be joined there")
    assert "RAY_AUTH_TOKEN" in told
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("port", ["closed", "1x", ""])
def test_an_address_where_nobody_listens_is_told_at_once(port):
    port = str(free_port()) if port == "closed" else port
    began = time.monotonic()
    with pytest.raises(ResourceError, match=rf"address=127\.0\.0\.1:{port}: no Ray cluster could be joined"):
        tune(build_args(TuneArgs, {**TINY, "address": f"127.0.0.1:{port}"}))
    assert time.monotonic() - began < 20
    assert not ray.is_initialized()


def test_an_address_that_is_no_nodes_is_told():
    with pytest.raises(ResourceError, match=r"address=ray://.*: a search joins the cluster"):
        tune(build_args(TuneArgs, {**TINY, "address": "ray://127.0.0.1:10001"}))
    assert not ray.is_initialized()


def test_a_process_that_is_joined_already_is_not_joined_again(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(ResourceError, match="address=auto: this process is joined to a Ray already"):
        tune(build_args(TuneArgs, {**TINY, "address": "auto"}))
