"""Searches that begin with what earlier ones found: folders that are read, and a real one."""

from __future__ import annotations

import shutil

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.results.tune_folder import confirm, new_tune_folder, typical_tune_folder
from tests.tuning import test_population
from tests.tuning.test_run import place, search  # noqa: F401 - place: a fixture
from tests.tuning.test_searcher import DATA
from tunekit.checks import build_args
from tunekit.errors import ArgumentError, RunFolderError
from tunekit.search.asking import ask
from tunekit.search.samplers import make_sampler
from tunekit.search.space import load_space
from tunekit.search_args import TuneArgs
from tunekit.tuning.run import tune
from tunekit.tuning.study import create_study
from tunekit.tuning.warm import warm_starts


@pytest.fixture
def folder(tmp_path):
    """Trial 0, the defaults, comes to 0.4; 1 and 4, at lr0 .02 and .005, to 0.5; the others did not end."""
    return typical_tune_folder(tmp_path / "old")


def space_of(folder, text="lr0: {range: [1.0e-5, 0.1], scale: log, prior: 0.0001}\nmixup: {range: [0, 1]}\n"):
    path = folder.path.parent / "new.yaml"
    path.write_text(text)
    return load_space(str(path))


def begun(folder, space=None, iterations=10):
    """Trials that are taken over, and their lr0."""
    found, _ = warm_starts(str(folder.path), space or space_of(folder), iterations)
    return [(start.number, start.params["lr0"]) for start in found]


def test_the_best_whole_trials_come_first_and_none_that_is_worse_than_its_defaults(folder):
    folder.trial([0.39], lr0=0.001)
    folder.trial([0.9], state="PRUNED", lr0=0.08)
    assert begun(folder) == [(1, 0.02), (4, 0.005)]
    folder.trial([0.6], lr0=0.0005)
    assert begun(folder) == [(8, 0.0005), (1, 0.02), (4, 0.005)]


def test_a_confirmed_winner_comes_before_a_lucky_trial_and_what_was_refuted_not_at_all(folder):
    folder.trial([0.6], lr0=0.0005)
    confirm(folder, {0: [0.4, 0.4], 1: [0.3, 0.3], 4: [0.5, 0.5], 6: [0.45, 0.45]})
    assert begun(folder) == [(4, 0.005), (6, 0.0005)]


def test_it_is_said_what_is_taken_from_where_and_what_is_left_out(folder):
    old = str(folder.path)
    _, note = warm_starts(f" {old}, {old},", space_of(folder), 10)
    assert note == (
        f"warm start, after the defaults: trial 1 of {old}, trial 4 of {old}; "
        "not searched here, so left out: close_mosaic, optimizer"
    )
    same = space_of(folder, "close_mosaic: {range: [0, 20], scale: int}\n")
    found, note = warm_starts(old, same, 10)
    assert found == []
    assert "nearly the defaults, so nothing is taken over" in note


def test_what_cannot_be_begun_with_is_told_before_anything_runs(folder, tmp_path):
    space = space_of(folder)
    with pytest.raises(RunFolderError, match=r"^warm_start=gone: no tune is there \(gone/study.journal is"):
        warm_starts("gone", space, 10)
    empty = new_tune_folder(tmp_path / "empty")
    empty.trial([0.3], state="PRUNED")
    empty.trial([0.3], state="FAIL", reason="no memory")
    with pytest.raises(RunFolderError, match="none of its trials was trained to its end, it has 1 stopped"):
        warm_starts(f"{folder.path},{empty.path}", space, 10)
    other = space_of(folder, "mixup: {range: [0, 1]}\n")
    with pytest.raises(ArgumentError, match="it searched lr0, close_mosaic, optimizer, and here mixup are"):
        warm_starts(str(folder.path), other, 10)
    assert len(begun(folder, iterations=3)) == 2
    with pytest.raises(ArgumentError, match=r"iterations=2 is too few for .* the 2 trials .* at least 3"):
        begun(folder, iterations=2)


def test_a_grid_has_no_use_for_it_nor_has_it_for_nothing():
    with pytest.raises(ArgumentError, match="warm_start=old: sampler=grid tries every combination"):
        build_args(TuneArgs, {"sampler": "grid", "warm_start": "old"})
    with pytest.raises(ArgumentError, match="give the folder of a search"):
        build_args(TuneArgs, {"warm_start": " , "})


def test_trials_come_in_order_and_the_study_knows_where_they_are_from(folder, tmp_path):
    space = space_of(folder)
    starts, _ = warm_starts(str(folder.path), space, 10)
    sampler = make_sampler("genetic", space, 0)
    (tmp_path / "new").mkdir()
    create_study(tmp_path / "new", sampler, space.defaults(), DATA, (), starts)
    journal = JournalStorage(JournalFileBackend(str(tmp_path / "new" / "study.journal")))
    study = optuna.load_study(study_name="new", storage=journal, sampler=sampler)
    found = [ask(study, space) for _ in range(4)]
    assert [trial.params for trial in found[:3]] == [space.defaults(), *(start.params for start in starts)]
    sources = [None, f"trial 1 of {folder.path}", f"trial 4 of {folder.path}", None]
    assert [trial.user_attrs.get("taken_from") for trial in found] == sources


def test_the_first_of_a_population_may_be_warm(folder, tmp_path, monkeypatch):
    starts, _ = warm_starts(str(folder.path), load_space("quick"), 8)
    monkeypatch.setattr(test_population, "create_study", lambda *given: create_study(*given, starts=starts))
    run = test_population.Search(tmp_path / "population").run()
    trials = run.study.trials
    assert [trial.params["lr0"] for trial in trials[1:3]] == [start.params["lr0"] for start in starts[:2]]
    children = [trial for trial in trials if "origin" in trial.user_attrs]
    assert len(trials) == 8 + len(children)
    assert sum(trial.state.name == "COMPLETE" for trial in trials) == 8


@pytest.mark.slow
def test_a_real_search_begins_with_another_and_goes_on_without_it(shared_ray, place, capsys):  # noqa: F811
    """So small ones find nothing, and so trial 1 is as good as the defaults."""
    given = {"space": "quick", "project": "runs/tune", "epochs": 1, "sampler": "random"}
    first = search(**given, iterations=2, name="first")
    assert [row.fitness for row in first.trials] == [0, 0]
    good = first.trials[1].params
    second = search(**given, iterations=2, name="second", warm_start="runs/tune/first", lr0=0.002)
    said = capsys.readouterr().out
    assert "warm start, after the defaults: trial 1 of runs/tune/first; not searched here" in said
    shutil.rmtree(first.path)
    second = tune(TuneArgs(resume=str(second.path), iterations=3))
    assert len(second.trials) == 3
    assert second.trials[1].params == {name: value for name, value in good.items() if name != "lr0"}
    with pytest.raises(ArgumentError, match="warm_start= cannot be changed while resuming"):
        tune(TuneArgs(resume=str(second.path), warm_start="runs/tune/second"))
