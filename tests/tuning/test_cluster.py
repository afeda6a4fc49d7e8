"""Searches on a real cluster of two nodes, which here are both on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from tests.processes import descendants
from tests.tuning.nodes import ENVIRONMENT, Cluster, can_mount, free_port, running_cluster
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
def test_a_client_of_the_cluster_searches_as_if_it_were_one_of_its_nodes(cluster, tmp_path):
    done = typed(cluster, tmp_path, address=cluster.client, iterations=3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ray.init" not in done.stderr, "Ray's chatter on joining should not reach the terminal"
    assert "3 trials of 3 epochs, 2 trials at a time on 1 CPU core each" in done.stdout
    (run,) = (tmp_path / "runs" / "tune").iterdir()
    assert [row["state"] for row in table(run / "tune_results.csv")] == ["COMPLETE"] * 3
    cluster.wait_for(2)


CUT = {**TINY, "epochs": 40, "iterations": 2, "name": "cut"}


def client_of(cluster: Cluster, cwd: Path, *program: str) -> subprocess.Popen[str]:
    """A search by a client, with pipes."""
    words = (f"{name}={value}" for name, value in {**CUT, "address": cluster.client}.items())
    return subprocess.Popen(
        [sys.executable, *program, "tune", *words],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )


def client_in_the_middle(cluster: Cluster, cwd: Path) -> subprocess.Popen[str]:
    """A search by a client, of two trials that both train."""
    search = client_of(cluster, cwd, "-m", "tunekit")
    files = [cwd / "runs" / "tune" / "cut" / "trials" / str(number) / "results.csv" for number in (0, 1)]
    deadline = time.monotonic() + 200
    while not all(file.exists() and len(table(file)) >= 2 for file in files):
        assert search.poll() is None, search.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return search


def kill_server(cluster: Cluster) -> None:
    """What the head has for its client: those of clients that are gone stay for a while."""
    theirs = descendants([cluster.nodes[0].pid])
    servers = [pid for pid, title in theirs.items() if "specific-server" in title]
    assert servers
    for server in servers:
        os.kill(server, signal.SIGKILL)


def goes_on(cluster: Cluster, cwd: Path) -> None:
    """The cut search, where it was, on both nodes: nothing trains there any more."""
    done = cluster.run(sys.executable, "-m", "tunekit", "tune", "resume=runs/tune/cut", cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = table(cwd / "runs" / "tune" / "cut" / "tune_results.csv")
    assert [row["state"] for row in rows] == ["COMPLETE"] * 2


@pytest.mark.slow
@pytest.mark.timeout(600)  # a busy machine's
def test_a_client_that_is_interrupted_ends_its_trials_and_goes_on_where_it_was(cluster, tmp_path):
    search = client_in_the_middle(cluster, tmp_path)
    search.send_signal(signal.SIGINT)
    said, complaints = search.communicate(timeout=60)
    assert search.returncode == 130, said + complaints
    assert "go on with: tunekit tune resume=runs/tune/cut" in said
    goes_on(cluster, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)  # a busy machine's
def test_a_client_whose_connection_is_lost_is_told_and_goes_on_where_it_was(cluster, tmp_path):
    search = client_in_the_middle(cluster, tmp_path)
    kill_server(cluster)
    said, complaints = search.communicate(timeout=120)
    assert search.returncode == ResourceError.exit_code, said + complaints
    assert complaints.splitlines()[-1] == (
        "error: the connection to the cluster is lost: see that its head can be reached; then go on with: "
        "tunekit tune resume=runs/tune/cut"
    )
    assert "Traceback" not in complaints
    goes_on(cluster, tmp_path)


LONG_LOOK = """
import sys
from unittest.mock import patch
from tunekit.cli import main
from tunekit.tuning import run
look = run.survey_data
def slowly(args):
    print("joined", flush=True)
    sys.stdin.readline()
    return look(args)
with patch.object(run, "survey_data", slowly):
    sys.exit(main())
"""


@pytest.mark.slow
def test_a_client_whose_connection_is_lost_before_the_first_trial_is_told(cluster, tmp_path):
    search = client_of(cluster, tmp_path, "-c", LONG_LOOK)
    assert search.stdout.readline() == "joined\n"
    kill_server(cluster)
    said, complaints = search.communicate("go on\n", timeout=120)
    assert search.returncode == ResourceError.exit_code, said + complaints
    assert complaints.splitlines()[-1] == (
        f"error: address={cluster.client}: the connection to the cluster is lost: "
        "see that its head can be reached"
    )
    assert "Traceback" not in complaints


OTHER_RAY = """
import sys
from unittest.mock import patch
import ray
from tunekit.cli import main
with patch.object(ray, "__version__", "2.0.0"):
    sys.exit(main())
"""


@pytest.mark.slow
def test_a_client_with_another_ray_is_told_both_versions(cluster, tmp_path):
    done = cluster.run(sys.executable, "-c", OTHER_RAY, "tune", f"address={cluster.client}", cwd=tmp_path)
    told = refusal(done)
    assert f"Version mismatch: The cluster was started with: Ray: {ray.__version__} Python: " in told
    assert "was started with: Ray: 2.0.0 Python: " in told


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


@pytest.mark.parametrize("kind", ["", "ray://"])
@pytest.mark.parametrize("port", ["closed", "1x", ""])
def test_an_address_where_nobody_listens_is_told_at_once(kind, port):
    address = f"{kind}127.0.0.1:{free_port() if port == 'closed' else port}"
    began = time.monotonic()
    with pytest.raises(ResourceError, match=rf"address={address}: no Ray cluster could be joined"):
        tune(build_args(TuneArgs, {**TINY, "address": address}))
    assert time.monotonic() - began < 60
    assert not ray.is_initialized()


@pytest.fixture
def silent():
    """The port of somebody who listens, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as line:
        yield line.getsockname()[1]


@pytest.mark.slow
def test_an_address_where_no_ray_listens_to_clients_is_told_soon(silent):
    began = time.monotonic()
    with pytest.raises(ResourceError, match=r"ray client connection timeout; .* for clients has port 10001"):
        tune(build_args(TuneArgs, {**TINY, "address": f"ray://127.0.0.1:{silent}"}))
    assert time.monotonic() - began < 60
    assert not ray.is_initialized()


def test_an_address_of_another_kind_is_told():
    with pytest.raises(ResourceError, match=r"address=http://.*: a search takes host:port of a head node"):
        tune(build_args(TuneArgs, {**TINY, "address": "http://127.0.0.1:8265"}))
    assert not ray.is_initialized()


def test_a_process_that_is_joined_already_is_not_joined_again(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(ResourceError, match="address=auto: this process is joined to a Ray already"):
        tune(build_args(TuneArgs, {**TINY, "address": "auto"}))
