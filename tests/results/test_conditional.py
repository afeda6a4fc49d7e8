"""Trials that lack a hyperparameter, as its condition is not met: tables, pictures, answers, importance."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.results.tune_folder import TuneFolder, new_tune_folder
from tunekit.results.importance import Importance, importances
from tunekit.results.plots import scatter_figure, write_plots
from tunekit.results.run import Run
from tunekit.results.store import write_results
from tunekit.results.trials import TrialRow
from tunekit.search.genes import from_units
from tunekit.search.space import Parameter, Space

WRITTEN = """\
momentum: {range: [0.5, 0.95], prior: 0.6, when: {optimizer: [SGD]}}
lr0: {range: [1.0e-5, 0.1], scale: log, prior: 0.01}
optimizer: {choice: [SGD, AdamW], prior: AdamW}
"""


def folder_of(path: Path) -> TuneFolder:
    """Of AdamW, which has no momentum of its own, twice, and once of SGD; AdamW is best."""
    folder = new_tune_folder(path, space=WRITTEN)
    folder.trial([0.3])
    folder.trial([0.4], params={"optimizer": "SGD", "momentum": 0.8})
    folder.trial([0.5], lr0=0.02)
    return folder


def test_tables_leave_cells_empty_and_the_answer_has_what_the_trial_ran_with(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run")
    rows = write_results(folder.path, folder.study)
    with (folder.path / "tune_results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["momentum"] for row in table] == ["", "0.8", ""]
    assert [row["optimizer"] for row in table] == ["AdamW", "SGD", "AdamW"]
    assert rows[2].params == {"lr0": 0.02, "optimizer": "AdamW"}
    text = (folder.path / "best_hyperparameters.yaml").read_text()
    tuned = yaml.safe_load(text.partition("# the other arguments")[0])
    assert tuned == {"lr0": 0.02, "optimizer": "AdamW"}
    assert yaml.safe_load(text)["momentum"] == 0.937, "what AdamW's trials had"
    assert Run(folder.path).best_hyperparameters == tuned
    assert np.isnan(Run(folder.path).to_pandas()["momentum"][2])


def test_a_panel_shows_the_trials_that_have_its_parameter(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run")
    figure = scatter_figure(Run(folder.path).trials, folder.space)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    points = {
        name: sum(len(drawn.get_offsets()) for drawn in axes.collections) for name, axes in panels.items()
    }
    assert points == {"momentum": 1, "lr0": 3, "optimizer": 3}
    assert panels["momentum"].get_title(loc="right") == "", "the best has none"
    write_plots(folder.path, [])


SPACE = Space(
    "conditional",
    (
        Parameter(
            name="momentum", kind="float", low=0.5, high=0.95, prior=0.95, when=(("optimizer", ("SGD",)),)
        ),
        Parameter(name="lr0", kind="float", low=1e-4, high=0.1, scale="log", prior=0.01),
        Parameter(name="optimizer", kind="choice", choices=("AdamW", "SGD"), prior="AdamW"),
        Parameter(name="mixup", kind="float", low=0.0, high=1.0, prior=0.0),
    ),
)


def searched(count: int, of_optimizer: float, of_momentum: float, seed: int) -> list[TrialRow]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        genes = rng.random(4)
        params = from_units(SPACE, genes)
        sgd = params["optimizer"] == "SGD"
        value = 0.5 + sgd * (of_optimizer + of_momentum * (genes[0] - 0.5)) + rng.normal(0, 0.05)
        rows.append(TrialRow(number, "COMPLETE", float(value), params, epochs=9))
    return rows


def told(rows: list[TrialRow]) -> dict[str, Importance]:
    return {row.parameter: row for row in importances(rows, SPACE)}


def test_the_credit_of_a_choice_is_not_given_to_what_only_it_has() -> None:
    """Whether a trial has a momentum says which optimizer it has; its value says nothing."""
    for seed in range(2):
        found = told(searched(60, 0.3, 0.0, seed))
        assert found["optimizer"].verdict == "mattered"
        assert found["momentum"].verdict != "mattered"
        assert found["momentum"].importance < 0.2


def test_what_matters_where_it_is_searched_is_found_and_so_is_the_end_it_runs_into() -> None:
    found = told(searched(80, 0.0, 0.8, 1))
    assert found["momentum"].verdict == "mattered"
    assert found["momentum"].bound == "high", "by the trials that have it"
    assert found["mixup"].verdict != "mattered"


def test_of_what_hardly_a_trial_has_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.results.importance.TREES", 3)  # too few trials for any forest
    rows = [row for row in searched(120, 0.0, 0.0, 2) if row.params["optimizer"] == "AdamW"]
    assert len(rows) > 40
    few = [
        TrialRow(row.number, "COMPLETE", 1.0, {**row.params, "optimizer": "SGD", "momentum": 0.95})
        for row in rows[:4]
    ]
    for some in (rows, [*few, *rows[4:]]):
        assert told(some)["momentum"].verdict == "unclear"
        assert told(some)["momentum"].bound == ""
