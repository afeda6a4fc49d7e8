"""Searches in which some trials lack a hyperparameter: handed out, added, confirmed, and a real one."""

from __future__ import annotations

import threading

import pytest
import yaml

from tests.results.tune_folder import new_tune_folder
from tests.search.conditional import conditional_space
from tests.tuning import test_population
from tests.tuning.test_confirm import Search as Confirmed
from tests.tuning.test_confirm import done
from tests.tuning.test_run import place, search  # noqa: F401 - place: a fixture
from tests.tuning.test_searcher import Search
from tunekit.errors import ArgumentError
from tunekit.results.trials import read_study
from tunekit.search_args import TuneArgs
from tunekit.tuning.board import Board
from tunekit.tuning.desk import Desk
from tunekit.tuning.requests import Request, ask
from tunekit.tuning.run import tune

WRITTEN = """
momentum: {range: [0.6, 0.9], prior: 0.8, when: {optimizer: SGD}}
optimizer: {choice: [SGD, AdamW], prior: AdamW}
lr0: {range: [0.001, 0.01], scale: log}
"""


def test_a_resumed_search_hands_out_again_what_a_trial_had(tmp_path):
    before = Search(tmp_path, iterations=8, concurrent=8, space=conditional_space(), sampler="genetic")
    handed = [before.searcher.suggest(str(number)) for number in range(5)]
    assert all(one["params"] == before.space.completed(one["params"]) for one in handed)
    assert {len(one["params"]) for one in handed} > {2}
    again = Search(tmp_path, 8, 8, new=False, space=conditional_space(), sampler="genetic")
    assert [again.searcher.suggest(str(number)) for number in range(5)] == handed


class AtTheDesk:
    def __init__(self, folder):
        self.search = Search(folder, space=conditional_space())
        self.search.searcher.suggest("0")
        board = Board(4, 9, 1)
        control = self.search.control
        self.desk = Desk(folder, self.search.space, self.search.searcher, None, board, control)

    def add(self, **params):
        found = []

        def answer():
            try:
                found.append(ask(self.search.folder, Request("add", {"params": params}), patience=20))
            except ArgumentError as refusal:
                found.append(refusal)

        asker = threading.Thread(target=answer)
        asker.start()
        while asker.is_alive():
            self.desk.serve()
            asker.join(0.05)
        return found[0]


def test_what_is_added_has_what_its_choices_allow(tmp_path):
    desk = AtTheDesk(tmp_path)
    assert desk.add(optimizer="SGD") == (
        "trial 1 will be: momentum=0.6, close_mosaic=1, cos_lr=True, optimizer=SGD, mixup=0.5"
    )
    refusal = desk.add(momentum=0.7)
    assert isinstance(refusal, ArgumentError)
    assert str(refusal) == "momentum is searched only where optimizer is SGD: give that, too, or leave it out"
    assert str(desk.add(optimizer="SGD", momentum=0.95)).startswith("momentum=0.95 is outside of the search")
    desk.search.epoch("0", 0, 1, 0.5, done=True, finished=True)
    added = desk.search.searcher.suggest("1")["params"]
    assert added == desk.search.space.completed({"optimizer": "SGD"})


def test_a_confirmation_runs_settings_again_with_what_they_had(tmp_path, monkeypatch):
    folder = new_tune_folder(tmp_path / "run", space=WRITTEN)
    folder.trial([0.4])
    folder.trial([0.6], params={"optimizer": "SGD", "momentum": 0.7})
    over = Confirmed(folder, monkeypatch)
    assert over.confirmed() == done((0, 8), (1, 8), (0, 9), (1, 9))
    runs, _ = read_study(folder.path / "confirm/study.journal")
    assert [run.params for run in runs[:2]] == [trial.params for trial in folder.study.trials]
    assert "momentum" not in runs[0].params


def test_the_trials_of_a_population_and_their_children_have_what_their_choices_allow(tmp_path, monkeypatch):
    space = conditional_space()
    monkeypatch.setattr(test_population, "load_space", lambda name: space)
    trials = test_population.Search(tmp_path / "run").run().study.trials
    children = [trial for trial in trials if "origin" in trial.user_attrs]
    assert len(children) == 6
    assert {trial.params["optimizer"] for trial in trials} == {"SGD", "AdamW"}
    assert all(trial.params == space.completed(trial.params) for trial in trials)
    for child in children:
        parent = trials[child.user_attrs["origin"][0]]
        assert child.params["optimizer"] == parent.params["optimizer"]


@pytest.mark.slow
def test_a_real_search_trains_with_what_it_says(shared_ray, place):  # noqa: F811
    (place / "conditional.yaml").write_text(WRITTEN)
    given = {"space": "conditional.yaml", "name": "conditional", "project": "runs/tune", "epochs": 1}
    run = search(**given, iterations=3, sampler="genetic")
    run = tune(TuneArgs(resume=str(run.path), iterations=4))
    optimizers = [row.params["optimizer"] for row in run.trials]
    assert set(optimizers) == {"SGD", "AdamW"}
    base = yaml.safe_load((run.path / "trial_args.yaml").read_text())
    for row in run.trials:
        ran = yaml.safe_load((run.path / "trials" / str(row.number) / "args.yaml").read_text())
        assert ("momentum" in row.params) == (row.params["optimizer"] == "SGD")
        assert ran["momentum"] == row.params.get("momentum", base["momentum"])
        assert ran.items() >= row.params.items()
    best = yaml.safe_load((run.path / "best_hyperparameters.yaml").read_text())
    assert best["momentum"] == run.best.params.get("momentum", base["momentum"])
    with pytest.raises(ArgumentError, match="space= cannot be changed"):
        tune(TuneArgs(resume=str(run.path), space="quick"))
