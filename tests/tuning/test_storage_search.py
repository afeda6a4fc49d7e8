"""Searches whose trials keep their checkpoints in a storage: on nodes that share no disk, and on S3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.tuning import objects
from tests.tuning.nodes import Cluster, can_mount, running_cluster
from tests.tuning.test_run import TIMES, TINY, table
from tunekit.checks import build_args
from tunekit.data.cachedir import cache_folder
from tunekit.errors import ArgumentError
from tunekit.results.run import Run
from tunekit.search_args import TuneArgs
from tunekit.tuning.run import tune
from tunekit.tuning.storage import Storage

LONGER = {"epochs": 12, "iterations": 2}


def words(**given: object) -> list[str]:
    settings = {**TINY, **given}
    return [sys.executable, "-m", "tunekit", "tune", *(f"{name}={settings[name]}" for name in settings)]


def measured(run: Path) -> list[list[dict[str, str]]]:
    """All rows of all trials, but for what the clock says."""
    folders = sorted((run / "trials").iterdir(), key=lambda folder: int(folder.name))
    return [
        [
            {name: value for name, value in row.items() if name not in TIMES}
            for row in table(folder / "results.csv")
        ]
        for folder in folders
    ]


def assert_reads_as_ever(run: Path, trials: int) -> None:
    """The run folder on the search's own disk, and how little is left in the storage."""
    found = Run(run)
    assert [row.number for row in found.trials] == list(range(trials))
    assert found.best is not None
    epochs = found.epochs().to_pylist()
    for row in found.trials:
        assert row.state == "COMPLETE"
        assert [e["epoch"] for e in epochs if e["trial"] == row.number] == list(range(1, row.epochs + 1))
    kept = {str(path.relative_to(run)) for path in run.rglob("*.pt")}
    best = f"trials/{found.best.number}/weights"
    assert kept == {"weights/best.pt", "weights/last.pt", f"{best}/best.pt", f"{best}/last.pt"}
    assert (run / "weights/best.pt").read_bytes() == (run / best / "best.pt").read_bytes()


def weights_in(storage: Storage, run: Path) -> set[str]:
    return {name for name in storage.below(run.name).names() if name.endswith(".pt")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("apart")


@pytest.fixture(scope="module")
def cluster(place):
    """Two nodes of one core; the second one sees neither `runs` nor the first one's trials, but `store`."""
    if not can_mount():
        pytest.skip("needs the right to mount")
    (place / "runs").mkdir()
    (place / "store").mkdir()
    with running_cluster(1) as cluster:
        cluster.add(1, place / "runs", cache_folder("trials"))
        cluster.wait_for(2)
        yield cluster


def given_to(cluster: Cluster, place: Path, **given: object) -> list[str]:
    usual = {"address": cluster.address, "project": place / "runs", "storage": place / "store"}
    return words(**{**usual, **given})


@pytest.mark.slow
@pytest.mark.parametrize("joined_as", ["node", "client"])
def test_a_search_on_nodes_that_share_no_disk_ends_in_a_folder_that_reads_as_ever(cluster, place, joined_as):
    address = cluster.client if joined_as == "client" else cluster.address
    given = given_to(cluster, place, address=address, iterations=3, name=joined_as)
    done = cluster.run(*given, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 trials at a time" in done.stdout
    run = place / "runs" / joined_as
    assert_reads_as_ever(run, 3)
    best = Run(run).best.number
    assert weights_in(Storage(str(place / "store")), run) == {
        f"trials/{best}/weights/best.pt",
        f"trials/{best}/weights/last.pt",
    }


@pytest.mark.slow
def test_a_node_to_which_the_storage_is_another_place_is_named(cluster, place):
    (place / "private").mkdir()
    other = cluster.add(1, place / "private")
    cluster.wait_for(3)
    done = cluster.run(*given_to(cluster, place, storage=place / "private", name="none"), cwd=place)
    cluster.end(other)
    cluster.wait_for(2)
    told = done.stderr.splitlines()[-1]
    assert done.returncode != 0
    assert told.startswith("error: node ")
    assert f"storage={place / 'private'} is there another place than on the node that searches" in told
    assert not (place / "runs" / "none").exists()
    assert list((place / "private").iterdir()) == []


@pytest.mark.slow
def test_a_trial_whose_node_dies_goes_on_elsewhere_from_its_last_epoch(cluster, place):
    node = cluster.nodes[1]
    files = [place / "store" / "death" / "trials" / str(number) / "results.csv" for number in (0, 1)]
    with ThreadPoolExecutor() as pool:
        coming = pool.submit(cluster.run, *given_to(cluster, place, **LONGER, name="death"), cwd=place)
        wait_until(lambda: all(file.exists() and len(table(file)) >= 3 for file in files), coming.done)
        cluster.end(node)
        before = [table(file) for file in files]
        done = coming.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "its process broke off; it is started again" in done.stdout
    run = place / "runs" / "death"
    assert_reads_as_ever(run, 2)
    assert min(map(len, before)) < LONGER["epochs"], "the node should die in the middle of its trial"
    for number in (0, 1):
        after = table(run / "trials" / str(number) / "results.csv")
        kept = len(before[number]) - 1  # the last one's checkpoint may have been on its way
        assert after[:kept] == before[number][:kept], "with their times: they were not trained again"
    plain = cluster.run(*words(**LONGER, name="plain"), cwd=place)
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert measured(run) == measured(place / "runs" / "tune" / "plain")


def wait_until(condition, over) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert not over(), "the search ended before"
        assert time.monotonic() < deadline, "the search did not come so far"
        time.sleep(0.02)


@pytest.fixture
def gate(monkeypatch):
    pytest.importorskip("moto", reason="the S3 server comes with the dev extra")
    for name, value in objects.KEYS.items():
        monkeypatch.setenv(name, value)
    with objects.object_server() as port:
        gate = objects.Gate(port)
        yield gate
        gate.shut()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_on_s3_outlives_ten_seconds_without_it_and_the_death_of_its_driver(
    gate, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    place = objects.uri(gate.port, "searches")
    storage = Storage(place).below("cut").below("trials/0")
    first = subprocess.Popen(
        words(**LONGER, name="cut", storage=place),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )

    def epochs() -> int:
        return (storage.read("results.csv") or b"").count(b"\n") - 1

    wait_until(lambda: epochs() >= 2, lambda: first.poll() is not None)
    gate.shut()
    time.sleep(10)
    gate.open()
    wait_until(lambda: epochs() >= 4, lambda: first.poll() is not None)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert "Traceback" not in first.stdout.read()

    second = subprocess.run(
        [sys.executable, "-m", "tunekit", "tune", "resume=runs/tune/cut"], capture_output=True, text=True
    )
    assert second.returncode == 0, second.stdout + second.stderr
    run = tmp_path / "runs/tune/cut"
    assert_reads_as_ever(run, 2)
    plain = subprocess.run(words(**LONGER, name="plain"), capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    assert measured(run) == measured(tmp_path / "runs/tune/plain")

    best = Run(run).best.number
    assert weights_in(Storage(place), run) == {
        f"trials/{best}/weights/best.pt",
        f"trials/{best}/weights/last.pt",
    }
    with pytest.raises(ArgumentError, match="storage= cannot be changed while resuming"):
        tune(build_args(TuneArgs, {"resume": str(run), "storage": str(tmp_path)}))
