"""Jobs on a real cluster: sent, watched, left alone, stopped; and what is refused before anything is sent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import descendants
from tests.tuning.nodes import ENVIRONMENT, Cluster, can_mount, free_port, running_cluster
from tests.tuning.test_run import TINY, table
from tunekit.errors import ArgumentError, ResourceError
from tunekit.tuning import submit as module
from tunekit.tuning.submit import submit
from tunekit.verb_args import SubmitArgs

SUBMIT = (sys.executable, "-m", "tunekit", "submit")


@pytest.fixture(scope="module")
def cluster():
    with running_cluster(*((1, 1) if can_mount() else (2,))) as cluster:
        yield cluster


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "mine.yaml").write_text("lr0: {range: [0.001, 0.01], scale: log}\n")
    return folder


def words(project: Path, **given: object) -> list[str]:
    return ["tune", *(f"{name}={value}" for name, value in {**TINY, "project": project, **given}.items())]


def started(cluster: Cluster, home: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SUBMIT, f"address={cluster.dashboard}", *more],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What it says up to a line with these words."""
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"{words!r} was not said:\n{said}")


def test_a_submitted_search_ends_with_its_results_and_its_exit_code(cluster, home, tmp_path):
    project = tmp_path / "shared"
    done = cluster.run(
        *SUBMIT,
        *(f"address={cluster.dashboard}", "name=first"),
        *words(project, iterations=2, space="mine.yaml", name="sent"),
        cwd=home,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "job first: 1 files" in done.stdout
    assert f"stop it:      tunekit submit address={cluster.dashboard} stop=first" in done.stdout
    assert done.stdout.count("2 trials of 3 epochs, 2 trials at a time") == 1
    assert done.stdout.splitlines()[-1] == "job first succeeded"
    assert [row["state"] for row in table(project / "sent" / "tune_results.csv")] == ["COMPLETE"] * 2
    # What is said can be read again, and a job that fails has its own exit code.
    again = cluster.run(*SUBMIT, f"address={cluster.dashboard}", "attach=first", cwd=home)
    assert again.returncode == 0
    assert again.stdout.count("2 trials of 3 epochs, 2 trials at a time") == 1
    failed = cluster.run(
        *(*SUBMIT, f"address={cluster.dashboard}", *words(project, data="/none.yaml")), cwd=home
    )
    assert failed.returncode == 2, "the exit code of a data set that is not there"
    assert "/none.yaml" in failed.stdout
    assert "failed: " in failed.stderr.splitlines()[-1]
    unknown = cluster.run(*SUBMIT, f"address={cluster.dashboard}", "attach=other", cwd=home)
    assert unknown.returncode == ArgumentError.exit_code
    assert "other is no job of" in unknown.stderr
    assert "first" in unknown.stderr


@pytest.mark.slow
def test_a_job_goes_on_when_it_is_left_and_is_stopped_when_asked(cluster, home, tmp_path):
    project = tmp_path / "shared"
    watcher = started(cluster, home, "name=long", *words(project, epochs=400, iterations=2, name="long"))
    read_until(watcher, "trial 0: ")
    watcher.send_signal(signal.SIGINT)
    rest, _ = watcher.communicate(timeout=60)
    assert watcher.returncode == 130
    assert "Traceback" not in rest
    rows = project / "long" / "trials" / "0" / "results.csv"
    deadline = time.monotonic() + 60
    while not rows.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    epochs = len(rows.read_text().splitlines())
    while len(rows.read_text().splitlines()) <= epochs:  # it goes on
        assert time.monotonic() < deadline
        time.sleep(0.1)
    again = started(cluster, home, "attach=long")
    (search,) = (
        pid
        for pid, title in descendants([cluster.nodes[0].pid]).items()
        if title.startswith("python\0-u\0-m\0tunekit\0tune")
    )
    os.kill(search, signal.SIGSTOP)  # it needs longer to end than Ray would wait by itself
    stop = cluster.run(*SUBMIT, f"address={cluster.dashboard}", "stop=long", cwd=home)
    assert stop.returncode == 0, stop.stdout + stop.stderr
    time.sleep(6)
    os.kill(search, signal.SIGCONT)
    said, _ = again.communicate(timeout=120)
    assert again.returncode != 0
    assert "job long stopped" in said
    assert f"tunekit tune resume={project / 'long'}" in said, "the search itself should say how it goes on"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "submit takes one thing to do"),
        ({"job": "tune", "stop": "a"}, "submit takes one thing to do"),
        ({"job": "report"}, "a job is one of tune, train, val"),
        ({"job": "tune project=/x lro=0.1"}, "lro"),
        ({"job": "tune"}, "project=runs/tune: a job's own folder is deleted"),
        ({"job": "tune resume=runs/tune/a project=/x"}, "resume=runs/tune/a: a job's own folder"),
        ({"job": "tune project=/x cfg=none.yaml"}, r"none\.yaml"),
        ({"job": "tune project=/x data=left.yaml"}, r"data=left\.yaml: this file is not sent along"),
        ({"job": "tune project=/x data=../outside.yaml"}, r"data=\.\./outside\.yaml: this file is not sent"),
        ({"job": "tune project=/x", "max_size": 1e-6}, "would be sent, and max_size"),
        ({"job": "tune project=/x", "working_dir": "nowhere"}, "working_dir=.*nowhere is not a folder"),
        ({"job": "tune project=/x", "address": "10.0.0.1:6379"}, "address=10.0.0.1:6379: jobs go to"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_sent(home, monkeypatch, given, words):
    (home / ".gitignore").write_text("left.yaml\n")
    (home / "left.yaml").write_text("names: [cat]\n")
    (home.parent / "outside.yaml").write_text("names: [cat]\n")
    monkeypatch.chdir(home)
    with pytest.raises(ArgumentError, match=words):
        submit(SubmitArgs(**{"address": "http://127.0.0.1:1", **given}))


def test_a_cluster_that_is_not_there_is_told(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(ArgumentError, match=r"address= .*is missing"):
        submit(SubmitArgs(job="tune project=/x"))
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(
        ResourceError, match=rf"address={address}: .*Is it the address of a cluster's dashboard"
    ):
        submit(SubmitArgs(address=address, job="tune project=/x"))


@pytest.mark.parametrize("refusals", [1, 9])
def test_a_cluster_that_is_still_starting_is_asked_again_for_a_while(home, monkeypatch, refusals):
    class Starting:
        """Ray's client of a cluster whose dashboard is there before what runs its jobs."""

        left = refusals

        def __init__(self, address: str) -> None:
            pass

        def submit_job(self, **job: object) -> str:
            self.left -= 1
            if self.left >= 0:
                raise RuntimeError(
                    "status code 500: No available agent to submit job, please try again later."
                )
            return "mine"

    monkeypatch.chdir(home)
    monkeypatch.setattr(module, "JobSubmissionClient", Starting)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(module, "STARTING_SECONDS", 0.5)
    args = SubmitArgs(address="http://127.0.0.1:1", job="tune project=/x", follow=False)
    if refusals == 1:
        assert submit(args) == "mine"
    else:
        with pytest.raises(
            ResourceError, match=r"agent of its head does not answer.*--dashboard-agent-listen-port=0"
        ):
            submit(args)
