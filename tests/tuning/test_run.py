"""Whole searches: real trainings of a tiny detector on the embedded digits, in real Ray actors."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

import tunekit
from tunekit.checks import build_args
from tunekit.errors import ArgumentError, CheckpointError, ModelError, RunFolderError, TrainingError
from tunekit.results.run import Run
from tunekit.search.budget import Budget
from tunekit.search_args import TuneArgs
from tunekit.tuning.run import tune

TINY = {
    "model": "yolo11p.yaml",
    "imgsz": 32,
    "fraction": 0.05,
    "batch": 8,
    "epochs": 3,
    "warmup_epochs": 0,
    "sampler": "random",
    "scheduler": "none",
}
# With this gain the loss overflows: such a trial fails, always.
BREAKING = "box: {choice: [7.5, 1.0e+39], prior: 7.5}\nlr0: {range: [0.001, 0.01], scale: log}\n"
ALONE = {**TINY, "threads": 1, "concurrent": 1}  # one process that trains, as it takes seconds to start
TIMES = {"time", "seconds", "images_per_second"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    before = Path.cwd()
    folder = tmp_path_factory.mktemp("tuning")
    os.chdir(folder)
    yield folder
    os.chdir(before)


def search(**given):
    return tune(build_args(TuneArgs, {**ALONE, **given}))


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def kill_trial_when(run, number, epochs):
    """End the process that trains trial `number` once, after so many epochs, as the OOM killer would."""

    def watch():
        folder = run / "trials" / str(number)
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            rows = folder / "results.csv"
            if rows.exists() and len(rows.read_text().splitlines()) > epochs and (pid := owner(folder)):
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def owner(folder):
    """The process that has the trial's lock file open."""
    lock = str((folder / ".lock").resolve())
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if any(os.readlink(entry) == lock for entry in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:
                continue
    return None


@pytest.fixture(scope="module")
def finished(shared_ray, place):
    """A search of six trials: some fail by themselves, and the process of trial 0 is killed once."""
    (place / "breaking.yaml").write_text(BREAKING)
    killer = kill_trial_when(place / "runs/tune/mixed", 0, 2)
    given = {"space": "breaking.yaml", "iterations": 6, "concurrent": 2, "cls": 0.7}
    run = search(**given, name="mixed", project="runs/tune")
    assert not killer.is_alive()
    return run


def test_failing_trials_are_told_with_their_reason_and_stop_nothing(finished):
    rows = table(finished.path / "tune_results.csv")
    assert [int(row["trial"]) for row in rows] == list(range(6))
    broken = [row for row in rows if float(row["box"]) > 1e30]
    assert broken, "the seed should draw some"
    for row in rows:
        if row in broken:
            assert row["state"] == "FAIL"
            assert "loss is not finite" in row["reason"]
            assert row["fitness"] == ""
        else:
            assert (row["state"], row["reason"], row["epochs"]) == ("COMPLETE", "", "3")


def test_a_trial_whose_process_was_killed_went_on_from_its_checkpoint(finished):
    epochs = finished.epochs().to_pylist()
    assert [row["epoch"] for row in epochs if row["trial"] == 0] == [1, 2, 3]
    assert (
        "Worker" in (finished.path / "ray.log").read_text()
        or "ActorDied" in (finished.path / "ray.log").read_text()
    )


def test_the_run_folder_is_complete_and_bounded(finished):
    names = {path.name for path in finished.path.iterdir()}
    assert names >= {
        "args.yaml",
        "space.yaml",
        "best_hyperparameters.yaml",
        "tune_results.csv",
        "results.parquet",
        "tune_scatter_plots.png",
        "tune_fitness.png",
        "study.journal",
        "weights",
        "trials",
        "ray.log",
    }
    assert {path.name for path in (finished.path / "weights").iterdir()} == {"best.pt", "last.pt"}
    kept = {int(path.parent.parent.name) for path in finished.path.glob("trials/*/weights/*.pt")}
    assert kept == {finished.best.number}


def test_every_trial_ran_with_what_its_folder_says(finished):
    for row in finished.trials:
        args = finished.path / "trials" / str(row.number) / "args.yaml"
        if not args.exists():
            assert row.state == "FAIL"
            continue
        recorded = yaml.safe_load(args.read_text())
        assert recorded.items() >= row.params.items()
        assert (recorded["threads"], recorded["device"], recorded["cls"]) == (1, "cpu", 0.7)


def test_training_with_the_best_hyperparameters_repeats_the_best_trial_to_the_bit(finished, place):
    folder = tunekit.train(cfg=str(finished.path / "best_hyperparameters.yaml"), project="runs/train")
    trial = table(finished.path / "trials" / str(finished.best.number) / "results.csv")
    again = table(folder / "results.csv")
    assert [{name: row[name] for name in row if name not in TIMES} for row in again] == [
        {name: row[name] for name in row if name not in TIMES} for row in trial
    ]
    assert len(again) == 3


def test_a_finished_run_answers_at_once_and_more_iterations_extend_it(finished, capsys):
    before = table(finished.path / "tune_results.csv")
    same = tune(TuneArgs(resume=str(finished.path)))
    assert table(same.path / "tune_results.csv") == before
    assert "6 trials" in capsys.readouterr().out
    longer = tune(TuneArgs(resume=str(finished.path), iterations=7))
    rows = table(longer.path / "tune_results.csv")
    assert rows[:6] == before
    assert len(rows) == 7


def test_a_resume_cannot_change_what_is_searched(finished):
    with pytest.raises(ArgumentError, match="epochs= cannot be changed while resuming"):
        tune(TuneArgs(resume=str(finished.path), epochs=5))


def test_a_search_whose_time_is_up_ends_in_order(shared_ray, place, capsys, monkeypatch):
    rows = place / "runs/tune/timed/trials/0/results.csv"

    def clock():
        """An hour goes by when trial 0 has two epochs."""
        return 3600.0 if rows.exists() and len(rows.read_text().splitlines()) > 2 else 0.0

    monkeypatch.setattr("tunekit.tuning.run.Budget", lambda stop, hours: Budget(stop, hours, clock))
    given = {"space": "quick", "iterations": 9, "epochs": 300, "time": 1, "scheduler": "hyperband"}
    run = search(**given, name="timed", project="runs/tune")
    assert "trials ended before their last epoch" in capsys.readouterr().out
    assert 1 <= len(run.trials) <= 2
    for row in run.trials:
        assert (row.state, row.reason) == ("PRUNED", "the search's time was up")
        assert 1 <= row.epochs < 300
    assert {path.name for path in (run.path / "weights").iterdir()} == {"best.pt", "last.pt"}
    with pytest.raises(ArgumentError, match="scheduler= cannot be changed while resuming"):
        tune(TuneArgs(resume=str(run.path), scheduler="asha"))
    monkeypatch.undo()
    again = tune(TuneArgs(resume=str(run.path), time=1e-9))
    assert "ended early: the time was up (time=1e-09); for more" in capsys.readouterr().out
    assert again.trials == run.trials


def test_a_resume_of_something_else_says_what_it_is(finished, place):
    with pytest.raises(RunFolderError, match="no run is there"):
        tune(TuneArgs(resume=str(place)))
    with pytest.raises(RunFolderError, match="tunekit train resume="):
        tune(TuneArgs(resume=str(finished.path / "trials" / "0")))


def test_a_model_that_cannot_be_built_is_told_before_anything_is_made(place):
    with pytest.raises(ModelError, match=r"did you mean yolo26n\.yaml"):
        search(model="yolo12n.yaml", name="nothing")
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        search(model="none.pt", name="nothing")
    (place / "models.yaml").write_text("model: {choice: [yolo11p.yaml, none.pt], prior: yolo11p.yaml}\n")
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        tune(build_args(TuneArgs, {"space": "models.yaml", "name": "nothing"}))
    assert not (place / "runs" / "tune" / "nothing").exists()


def test_when_every_trial_fails_the_commonest_reason_is_the_error(shared_ray, place):
    (place / "hopeless.yaml").write_text("box: {choice: [1.0e+38, 1.0e+39], prior: 1.0e+39}\n")
    with pytest.raises(TrainingError, match=r"all 2 trials failed.*2 of 2\).*loss is not finite"):
        search(space="hopeless.yaml", iterations=2, name="hopeless", project="runs/tune")
    rows = table(place / "runs/tune/hopeless/tune_results.csv")
    assert [row["state"] for row in rows] == ["FAIL", "FAIL"]


def started(place, *words):
    """`tunekit tune` in a process group of its own, as a terminal starts it."""
    command = [sys.executable, "-m", "tunekit", "tune", *words]
    return subprocess.Popen(
        command,
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(process, run, finished, epochs):
    """Until `finished` trials are over and one that is not has `epochs` epochs."""
    deadline = time.monotonic() + 250
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()
        if (run / "tune_results.csv").exists() or not finished:
            over = (
                {row["trial"] for row in table(run / "tune_results.csv") if row["state"] != "RUNNING"}
                if finished
                else set()
            )
            cut = {
                path.parent.name
                for path in run.glob("trials/*/results.csv")
                if len(path.read_text().splitlines()) > epochs
            } - over
            if len(over) >= finished and cut:
                return
        time.sleep(0.02)
    raise AssertionError("the search did not come so far")


@pytest.mark.timeout(600)  # seconds on a machine of its own, minutes on a busy one
def test_a_search_that_is_killed_and_then_interrupted_ends_as_if_nothing_had_been(shared_ray, place):
    words = [f"{name}={value}" for name, value in {**ALONE, "epochs": 6, "iterations": 3}.items()]
    run = place / "runs/tune/cut"
    first = started(place, *words, "space=quick", "name=cut")
    wait_for(first, run, 0, 2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()

    second = started(place, "resume=runs/tune/cut")
    wait_for(second, run, 1, 2)
    os.killpg(second.pid, signal.SIGINT)  # what Ctrl-C does: to all of the group
    began = time.monotonic()
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 130
    assert time.monotonic() - began < 40
    assert "go on with: tunekit tune resume=runs/tune/cut" in said
    assert "goes on after epoch" in said
    assert "Traceback" not in said
    cut = Run(run).trials
    assert any(row.state == "RUNNING" for row in cut)
    done = {row.number: row for row in cut if row.state == "COMPLETE"}

    final = tune(TuneArgs(resume=str(run)))
    assert [row.number for row in final.trials] == [0, 1, 2]
    assert {row.state for row in final.trials} == {"COMPLETE"}
    assert all(final.trials[number] == row for number, row in done.items())
    epochs = final.epochs().to_pylist()
    for number in range(3):
        assert [row["epoch"] for row in epochs if row["trial"] == number] == list(range(1, 7))


def test_a_damaged_checkpoint_is_said_and_the_trial_starts_again(shared_ray, place, capsys):
    run = search(space="quick", iterations=1, name="damaged", project="runs/tune", epochs=2)
    expected = run.trials[0]
    forget_the_end(run.path / "study.journal")
    (run.path / "trials/0/weights/last.pt").write_bytes(b"not a checkpoint")
    again = tune(TuneArgs(resume=str(run.path)))
    assert "trial 0: started again from epoch 1" in capsys.readouterr().out
    assert again.trials[0].fitness == expected.fitness
    assert again.trials[0].epochs == 2


def forget_the_end(journal):
    """Take the last trial's end out of the journal: the driver died before it could write it."""
    lines = journal.read_text().splitlines(keepends=True)
    ends = [index for index, line in enumerate(lines) if '"op_code":6' in line]
    journal.write_text("".join(lines[: ends[-1]]))
