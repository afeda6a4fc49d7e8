"""A whole search for several objectives: two kinds of models, extended with a resume, and looked at."""

from __future__ import annotations

import io
import os
import signal
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.tuning.test_run import ALONE, started, table, wait_for
from tunekit.errors import ArgumentError, RunFolderError
from tunekit.models.weights import load_model
from tunekit.results.run import Run
from tunekit.search_args import TuneArgs
from tunekit.tuning.remote import status
from tunekit.tuning.run import tune
from tunekit.verb_args import RunArgs

SPACE = """\
model: {choice: [yolo11p.yaml, yolov8p.yaml], prior: yolo11p.yaml}
lr0: {range: [0.001, 0.1], scale: log}
"""
SEARCH = {
    **{name: value for name, value in ALONE.items() if name not in ("model", "sampler", "scheduler")},
    "space": "models.yaml",
    "objectives": "fitness,latency,parameters",
    "epochs": 2,
    "name": "several",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objectives")
    (folder / "models.yaml").write_text(SPACE)
    return folder


@pytest.fixture(scope="module")
def finished(shared_ray: None, place: Path) -> tuple[Path, str, str]:
    """The run folder, and what was said at first and after it was resumed with more iterations."""
    given = {**SEARCH, "space": str(place / "models.yaml"), "project": str(place / "runs/tune")}
    before, after = io.StringIO(), io.StringIO()
    with redirect_stdout(before):
        run = tune(TuneArgs.model_validate({**given, "iterations": 2}))
    with redirect_stdout(after):
        tune(TuneArgs(resume=str(run.path), iterations=4))
    return run.path, before.getvalue(), after.getvalue()


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on(place: Path) -> None:
    run = place / "runs/tune/killed"
    words = {**SEARCH, "epochs": 6, "iterations": 4, "name": "killed"}
    first = started(place, *(f"{name}={value}" for name, value in words.items()))
    wait_for(first, run, 1, 1)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    second = started(place, f"resume={run.relative_to(place)}")
    said, _ = second.communicate(timeout=250)
    assert second.returncode == 0, said
    rows = table(run / "tune_results.csv")
    assert [row["state"] for row in rows] == ["COMPLETE"] * 4
    assert all(float(row["latency"]) > 0 for row in rows)


def test_the_opening_names_what_is_searched_for_and_how(finished: tuple[Path, str, str]) -> None:
    _, before, after = finished
    for said in (before, after):
        assert "yolo11p.yaml or yolov8p.yaml on digits" in said
        assert "nsga2 over 2 hyperparameters for fitness against latency against parameters, none ->" in said
    assert "4 trials of 2 epochs (2 done before)" in after


def test_every_trial_has_all_objectives_those_of_its_model(finished: tuple[Path, str, str]) -> None:
    run, _, _ = finished
    rows = table(run / "tune_results.csv")
    assert [row["state"] for row in rows] == ["COMPLETE"] * 4
    assert rows[0]["model"] == "yolo11p.yaml", "the defaults"
    costs = {(row["model"], row["latency"], row["parameters"]) for row in rows}
    assert len(costs) == len({row["model"] for row in rows}) == 2
    assert all(0 < float(latency) < 10_000 for _, latency, _ in costs)
    for row in rows:
        args = (run / "trials" / row["trial"] / "args.yaml").read_text()
        assert f"model: {row['model']}\n" in args


def test_the_front_is_in_the_folder_and_in_the_last_lines(finished: tuple[Path, str, str]) -> None:
    run, _, after = finished
    front = Run(run).pareto()
    assert front[0] == Run(run).best
    assert [row["trial"] for row in table(run / "pareto.csv")] == [str(row.number) for row in front]
    assert (run / "tune_pareto.png").exists()
    lines = after.splitlines()
    told = lines.index("no trial beats these in fitness and latency and parameters together:")
    shown = [line.split() for line in lines[told + 2 : told + 2 + len(front)]]
    expected = [(str(row.number), row.params["model"]) for row in front]
    assert [(words[0], words[-1]) for words in shown] == expected
    assert f"one of the {len(front)} on the front" in (run / "best_hyperparameters.yaml").read_text()


def test_the_weights_of_the_front_are_there_and_cost_what_is_said(finished: tuple[Path, str, str]) -> None:
    run, _, _ = finished
    front = Run(run).pareto()
    kept = {int(path.parts[-3]) for path in run.glob("trials/*/weights/best.pt")}
    assert kept == {row.number for row in front}
    for row in front:
        model = load_model(run / "trials" / str(row.number) / "weights" / "best.pt")
        assert model.spec.name == row.params["model"].removesuffix(".yaml")
        parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        assert 0.95 * parameters < row.costs["parameters"] < parameters, "its norms are folded"


def test_status_shows_the_front(finished: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    run, _, _ = finished
    status(RunArgs(run=str(run)))
    assert "no trial beats these in fitness and latency and parameters together:" in capsys.readouterr().out


def test_what_would_make_results_incomparable_is_refused(finished: tuple[Path, str, str]) -> None:
    run, _, _ = finished
    with pytest.raises(ArgumentError, match="objectives= cannot be changed while resuming"):
        tune(TuneArgs(resume=str(run), objectives=("fitness",)))
    with pytest.raises(RunFolderError, match=r"latencies were measured with threads=1.*give threads=1"):
        tune(TuneArgs(resume=str(run), iterations=5, threads=2))
