"""What a search with several objectives leaves: the front as rows, file, table, picture and weights."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import matplotlib.image
import pytest
import yaml

from tests.results.tune_folder import TuneFolder, front_folder, new_tune_folder, typical_tune_folder
from tunekit.results.pareto import front, pareto_csv, pareto_words
from tunekit.results.pareto_plot import pareto_figure
from tunekit.results.plots import write_plots
from tunekit.results.run import Run
from tunekit.results.store import read_trials, write_results
from tunekit.results.trials import TrialRow, best_trial
from tunekit.results.weights import keep_best_weights, prune_trial_folders


def row(number: int, fitness: float, latency: float, **more: float) -> TrialRow:
    costs = {"latency": latency, **more}
    return TrialRow(number, "COMPLETE", fitness, {"model": f"{latency:g}.yaml"}, costs=costs)


@pytest.fixture
def folder(tmp_path: Path) -> TuneFolder:
    return front_folder(tmp_path / "run")


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_front_is_what_no_trial_beats_in_all_objectives(folder: TuneFolder) -> None:
    """A stopped trial has no latency, so it is on no front."""
    assert [trial.number for trial in front(read_trials(folder.path))] == [3, 2]
    assert [trial.number for trial in Run(folder.path).pareto()] == [3, 2]


def test_with_three_objectives_a_trial_needs_to_be_best_in_one_trade() -> None:
    rows = [
        row(0, 0.5, 9, gflops=3),
        row(1, 0.4, 9, gflops=2),
        row(2, 0.4, 9, gflops=4),
        row(3, 0.1, 1, gflops=9),
    ]
    assert [trial.number for trial in front(rows)] == [0, 1, 3]
    assert [trial.number for trial in front(rows, ("latency",))] == [0, 3]


def test_a_trial_that_failed_at_its_very_end_is_on_no_front() -> None:
    lost = TrialRow(1, "FAIL", None, {"model": "a.yaml"}, costs={"latency": 1.0})
    assert [trial.number for trial in front([row(0, 0.5, 9), lost])] == [0]


def test_a_search_for_the_fitness_alone_has_no_front(tmp_path: Path) -> None:
    run = typical_tune_folder(tmp_path / "run").path
    trials = write_results(run)
    write_plots(run, trials)
    assert Run(run).pareto() == pareto_words(trials) == []
    assert not (run / "pareto.csv").exists()
    assert not (run / "tune_pareto.png").exists()
    assert "front" not in (run / "best_hyperparameters.yaml").read_text()


def test_the_tables_have_a_column_for_every_objective(folder: TuneFolder) -> None:
    write_results(folder.path)
    rows = table((folder.path / "tune_results.csv").read_text())
    assert [cell["latency"] for cell in rows] == ["5.0", "12.5", "5.0", "12.5", "", "", ""]
    found = table((folder.path / "pareto.csv").read_text())
    assert [
        (cell["trial"], cell["fitness"], cell["latency"], cell["model"], cell["lr0"]) for cell in found
    ] == [
        ("3", "0.5", "12.5", "yolo11s.yaml", "0.03"),
        ("2", "0.4", "5.0", "yolo11n.yaml", "0.005"),
    ]


def test_pandas_has_the_objectives(folder: TuneFolder) -> None:
    pytest.importorskip("pandas")
    assert Run(folder.path).to_pandas()["latency"].tolist()[:2] == [5.0, 12.5]


def test_the_best_hyperparameters_are_of_the_best_fitness_and_say_that_they_are_one_answer(
    folder: TuneFolder,
) -> None:
    write_results(folder.path)
    text = (folder.path / "best_hyperparameters.yaml").read_text()
    assert "# latency (ms) 12.5; one of the 2 on the front: pareto.csv has those that cost less\n" in text
    assert yaml.safe_load(text)["model"] == "yolo11s.yaml"


def test_of_two_with_the_best_fitness_the_one_that_costs_less_is_the_best() -> None:
    rows = [row(0, 0.2, 3), row(1, 0.5, 9), row(2, 0.5, 4), row(3, 0.5, 4)]
    best = best_trial([*rows, TrialRow(4, "PRUNED", 0.5, {})])
    assert best is not None
    assert best.number == 2
    assert best == front(rows)[0]


def test_best_weights_of_the_whole_front_are_kept(folder: TuneFolder) -> None:
    trials = read_trials(folder.path)
    for _ in range(2):
        keep_best_weights(folder.path, trials)
        prune_trial_folders(folder.path, trials)
    kept = {
        (int(path.parts[-3]), path.name)
        for path in folder.path.glob("trials/*/weights/*")
        if path.parts[-3] != "6"
    }
    assert kept == {(3, "best.pt"), (3, "last.pt"), (2, "best.pt")}
    assert (folder.path / "weights" / "best.pt").read_text() == "best.pt of trial 3"


def test_the_terminal_shows_a_row_a_trial_and_not_too_many(folder: TuneFolder) -> None:
    words = pareto_words(read_trials(folder.path))
    assert words == [
        "no trial beats these in fitness and latency together:",
        "trial  fitness  latency (ms)  model",
        "    3   0.5000          12.5  yolo11s.yaml",
        "    2   0.4000             5  yolo11n.yaml",
    ]
    many = pareto_words([row(number, 0.01 * number, number + 1.0) for number in range(30)])
    assert len(many) < 15
    assert many[-1] == "and 20 more in pareto.csv"


def test_hyperparameters_of_any_text_stay_in_their_cell() -> None:
    rows = [TrialRow(0, "COMPLETE", 0.5, {"model": 'a,"b".pt', "lr0": 0.1}, costs={"gflops": 2.0})]
    assert table(pareto_csv(rows))[0]["model"] == 'a,"b".pt'


def test_what_a_trial_lacks_under_a_condition_is_an_empty_cell() -> None:
    small = TrialRow(0, "COMPLETE", 0.5, {"lr0": 0.1}, costs={"gflops": 2.0})
    large = TrialRow(1, "COMPLETE", 0.6, {"lr0": 0.1, "model": "a.yaml", "dfl": 1.5}, costs={"gflops": 3.0})
    first, second = table(pareto_csv(front([small, large])))
    assert (first["model"], first["dfl"]) == ("a.yaml", "1.5")
    assert (second["model"], second["dfl"]) == ("", "")


def test_the_picture_is_drawn_for_two_and_for_three_objectives(folder: TuneFolder) -> None:
    write_plots(folder.path, read_trials(folder.path))
    picture = matplotlib.image.imread(folder.path / "tune_pareto.png")
    assert picture.std() > 0.05
    figure = pareto_figure(read_trials(folder.path))
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert shown == {"3  yolo11s", "2  yolo11n"}
    three = pareto_figure(
        [row(number, 0.1 * number, 2.0 + number, gflops=number % 3 + 1.0) for number in range(6)]
    )
    assert [axes.get_xlabel() for axes in three.axes] == ["latency (ms)", "GFLOPs"]


def test_one_trial_is_a_picture_too(tmp_path: Path) -> None:
    folder = new_tune_folder(tmp_path / "run", costs=2)
    folder.trial([0.2], costs={"latency": 4.0, "parameters": 2.0})
    write_plots(folder.path, read_trials(folder.path))
    assert (folder.path / "tune_pareto.png").exists()
