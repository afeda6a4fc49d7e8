"""Confirmations: which runs there are, without Ray; and a whole one of tiny trainings, killed and resumed."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from tests.results.tune_folder import TuneFolder, new_tune_folder
from tests.tuning.test_run import search, started, table
from tunekit.args import TrainArgs
from tunekit.results.confirmation import read_confirmation
from tunekit.results.run import Run
from tunekit.results.trials import read_study, read_trials
from tunekit.search.asking import ask
from tunekit.search.budget import Budget
from tunekit.search_args import TuneArgs
from tunekit.tuning.confirm import Confirming, confirm
from tunekit.tuning.plan import Plan
from tunekit.tuning.resources import Machine, Slots
from tunekit.tuning.run import tune
from tunekit.tuning.schedulers import StopLosers
from tunekit.tuning.sitting import Sitting


class Search:
    """A search that is over, and its confirmation, whose runs come to nothing or to 0.5 at once."""

    def __init__(self, folder: TuneFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.limit = folder, 100
        budget = Budget(None, None)
        self.sitting = Sitting(
            folder.path,
            TuneArgs(confirm=2, finalists=2, seed=7),
            Plan(TrainArgs(), folder.space),
            Slots(1, 1, 0.0, "cpu"),
            Machine(()),
            folder.study,
            StopLosers(None, budget),
            budget,
            None,
        )
        monkeypatch.setattr(Confirming, "run", lambda confirming: self.run(confirming.study))

    def run(self, study) -> None:
        while self.limit and any(trial.state == TrialState.WAITING for trial in study.trials):
            trial = ask(study, self.folder.space)
            study.tell(trial, 0.5)
            self.limit -= 1

    def confirmed(self, limit: int = 100, **given: int) -> list[tuple[int, int, str]]:
        """After a sitting that ends `limit` runs: setting, seed and state of all of them."""
        self.limit = limit
        args = self.sitting.args.model_copy(update=given)
        confirm(replace(self.sitting, args=args), read_trials(self.folder.path), None, tested=False)
        found = read_confirmation(self.folder.path)
        return [(run.setting, run.seed, run.state) for run in found.runs] if found else []


@pytest.fixture
def over(tmp_path, monkeypatch) -> Search:
    folder = new_tune_folder(tmp_path / "run")
    folder.trial([0.4])
    folder.trial([0.6], lr0=0.02)
    folder.trial([0.5], lr0=0.03)
    folder.trial([0.7], lr0=0.04)
    return Search(folder, monkeypatch)


def done(*runs: tuple[int, int]) -> list[tuple[int, int, str]]:
    return [(*run, "COMPLETE") for run in runs]


FIRST = ((0, 8), (3, 8), (1, 8), (0, 9), (3, 9), (1, 9))


def test_a_seed_is_run_for_all_settings_before_the_next_one_is(over, capsys):
    assert over.confirmed() == done(*FIRST)
    said = capsys.readouterr().out
    assert "confirmation: trials 3, 1 and the defaults with 2 fresh seeds each, 6 runs of 100 epochs" in said
    runs, _ = read_study(over.folder.path / "confirm/study.journal")
    search = over.folder.study.trials
    assert [run.params for run in runs[:3]] == [search[number].params for number in (0, 3, 1)]


def test_what_has_ended_is_not_run_again_and_what_waits_is(over, capsys):
    assert over.confirmed(limit=4)[3:] == [(0, 9, "COMPLETE"), (3, 9, "WAITING"), (1, 9, "WAITING")]
    assert over.confirmed() == done(*FIRST)
    assert "6 runs of 100 epochs (4 done before)" in capsys.readouterr().out
    assert over.confirmed() == done(*FIRST)
    assert capsys.readouterr().out == ""


def test_more_seeds_are_added_and_none_is_taken_away(over):
    over.confirmed()
    assert over.confirmed(confirm=3) == done(*FIRST, (0, 10), (3, 10), (1, 10))
    assert over.confirmed(confirm=2) == done(*FIRST, (0, 10), (3, 10), (1, 10))


def test_a_finalist_that_comes_later_runs_with_all_seeds_beside_the_others(over):
    over.confirmed()
    over.folder.trial([0.9], lr0=0.05)
    all_of_a_third = ((0, 10), (3, 10), (1, 10), (4, 10))
    assert over.confirmed(finalists=1, confirm=3) == done(*FIRST, (4, 8), (4, 9), *all_of_a_third)


def test_without_seeds_or_finalists_nothing_is_run(over, tmp_path, monkeypatch, capsys):
    assert over.confirmed(confirm=0) == []
    alone = new_tune_folder(tmp_path / "alone")
    alone.trial([0.4])
    alone.trial([0.6], state="PRUNED", lr0=0.02)
    assert Search(alone, monkeypatch).confirmed() == []
    assert capsys.readouterr().out.startswith("nothing to confirm: no trial but the defaults was trained")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    before = Path.cwd()
    folder = tmp_path_factory.mktemp("confirming")
    os.chdir(folder)
    yield folder
    os.chdir(before)


def trained(run: Path) -> list[tuple[str, str]]:
    return [(row["setting"], row["seed"]) for row in table(run / "confirm.csv")]


BEGIN = [("defaults", "6"), ("1", "6"), ("defaults", "7"), ("1", "7")]


@pytest.fixture(scope="module")
def confirmed(shared_ray, place) -> Run:
    given = {"space": "quick", "iterations": 2, "finalists": 1, "confirm": 2, "seed": 5, "name": "sure"}
    return search(**given, project="runs/tune")


def test_a_confirmed_search_says_so_in_all_places_and_once_more_when_it_is_asked(confirmed, capsys):
    rows = table(confirmed.path / "confirm.csv")
    assert trained(confirmed.path) == BEGIN
    assert [(row["state"], row["epochs"]) for row in rows] == [("COMPLETE", "3")] * 4
    assert rows[0]["test_fitness"] != ""
    found = confirmed.confirmation
    for run in found.runs:
        args = yaml.safe_load((confirmed.path / f"confirm/trials/{run.number}/args.yaml").read_text())
        assert args.items() >= {**confirmed.trials[run.setting].params, "seed": run.seed}.items()
    head = (confirmed.path / "best_hyperparameters.yaml").read_text()
    assert all(f"# {line}\n" in head for line in found.words())
    best = confirmed.path / f"confirm/trials/{found.best_run(found.winner).number}/weights/best.pt"
    assert confirmed.best_weights.read_bytes() == best.read_bytes()

    tune(TuneArgs(resume=str(confirmed.path)))
    said = capsys.readouterr().out
    assert "\n".join(found.words()) in said
    assert "confirmation: trial" not in said, "nothing is left to be run"
    assert table(confirmed.path / "confirm.csv") == rows
    assert (confirmed.path / "best_hyperparameters.yaml").read_text() == head


@pytest.mark.slow
@pytest.mark.timeout(600)  # seconds on a machine of its own, minutes on a busy one
def test_a_confirmation_that_is_killed_goes_on_and_trains_nothing_twice(confirmed, place):
    before = table(confirmed.path / "confirm.csv")
    process = started(place, f"resume={confirmed.path}", "confirm=3", "concurrent=1")
    rows, deadline = confirmed.path / "confirm/trials/4/results.csv", time.monotonic() + 400
    while not rows.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "the confirmation did not come so far"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [run.state for run in confirmed.confirmation.runs[4:]] == ["RUNNING", "WAITING"]
    assert "from 4 runs" in "\n".join(confirmed.confirmation.words()), "of the seeds that were done before"

    tune(TuneArgs(resume=str(confirmed.path)))
    after = table(confirmed.path / "confirm.csv")
    assert trained(confirmed.path) == [*BEGIN, ("defaults", "8"), ("1", "8")]
    unchanged = ("setting", "seed", "fitness", "seconds")
    assert [[row[name] for name in unchanged] for row in after[:4]] == [
        [row[name] for name in unchanged] for row in before
    ]
    for number in range(6):
        epochs = table(confirmed.path / f"confirm/trials/{number}/results.csv")
        assert [row["epoch"] for row in epochs] == ["1", "2", "3"]
    assert "from 6 runs" in (confirmed.path / "best_hyperparameters.yaml").read_text()
