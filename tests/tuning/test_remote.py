"""status, stop and add, typed while a real search runs, and where none does."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from tests.tuning.test_run import TINY, started, table, wait_for
from tunekit import verbs
from tunekit.cli import main
from tunekit.errors import ArgumentError, RunFolderError
from tunekit.results.trials import read_trials
from tunekit.tuning.remote import PATIENCE, status
from tunekit.verb_args import RunArgs

SPACE = "lr0: {range: [0.001, 0.1], scale: log}\nmosaic: {range: [0.0, 1.0]}\n"


@dataclass
class Typed:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """What a command says; in this process, as Python takes seconds to start beside trainings."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Typed:
        capsys.readouterr()
        return Typed(main(list(words)), *capsys.readouterr())

    return run


def test_a_running_search_is_looked_at_given_trials_and_stopped(tmp_path, typed):
    (tmp_path / "space.yaml").write_text(SPACE)
    given = {**TINY, "epochs": 300, "iterations": 2, "threads": 1, "concurrent": 2}
    words = [f"{name}={value}" for name, value in given.items()]
    run = tmp_path / "runs/tune/live"
    search = started(tmp_path, *words, "space=space.yaml", "name=live")
    wait_for(search, run, 0, 1)

    look = typed("status")  # the latest run
    assert look.returncode == 0, look.stderr
    assert f"searched by process {search.pid}" in look.stdout
    assert "running" in look.stdout.splitlines()[2]

    added = typed("add", "lr0=0.05")
    assert added.returncode == 0, added.stderr
    assert added.stdout == "trial 2 will be: lr0=0.05, mosaic=1.0\n", "what is left out is the defaults'"
    for wrong, told in (
        (["lr0=0.5"], "lr0=0.5 is outside of the search space; the nearest in it is 0.1"),
        (["box=3"], "box is not searched here, all trials have the same; searched are lr0, mosaic"),
        (["mosaik=0.1"], "did you mean 'mosaic'?"),
        ([], "add takes hyperparameters to try"),
    ):
        refused = typed("add", *wrong)
        assert refused.returncode == ArgumentError.exit_code
        assert told in refused.stderr
    refused = typed("stop", "run=runs/tune/live", "trial=7")
    assert "trial=7 is not there: 2 have begun" in refused.stderr

    ended = typed("stop", "run=runs/tune/live", "trial=1")
    assert ended.stdout == "trial 1 ends with the epoch that it is in\n"
    wait_for(search, run, 1, 1)  # and so there is room for trial 2
    rows = {row["trial"]: row for row in table(run / "tune_results.csv")}
    assert (rows["1"]["state"], rows["1"]["reason"]) == ("PRUNED", "stopped on request")
    refused = typed("stop", "trial=1")
    assert "trial=1 does not run: it is stopped" in refused.stderr

    stopped = typed("stop")
    assert stopped.stdout == f"the search ends now; to go on with it: tunekit tune resume={run}\n"
    said, _ = search.communicate(timeout=60)
    assert "interrupted; go on with: tunekit tune resume=runs/tune/live" in said
    trials = {trial.number: trial for trial in read_trials(run)}
    assert trials[2].params == {"lr0": 0.05, "mosaic": 1.0}
    assert [trials[number].state for number in (0, 2)] == ["RUNNING", "RUNNING"], "to go on with"

    over = typed("status", "run=runs/tune/live")
    assert "no search runs there now" in over.stdout
    assert "interrupted" in over.stdout
    began = time.monotonic()
    gone = typed("add", "lr0=0.02")
    assert time.monotonic() - began < PATIENCE, "nobody is waited for"
    assert gone.returncode == RunFolderError.exit_code
    assert "no search answers" in gone.stderr


def test_what_is_no_search_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFolderError, match="there is no search in runs/tune: say which one"):
        status(RunArgs())
    with pytest.raises(RunFolderError, match="run=other is no folder of a search"):
        verbs.call("add", {"run": "other", "lr0": "0.1"})
    with pytest.raises(ArgumentError, match="lr0=-1: must be above 0"):
        verbs.call("add", {"run": "other", "lr0": "-1"})
