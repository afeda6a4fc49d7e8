"""A confirmation in the run folder: what it compares, what it says, and what follows from it."""

from __future__ import annotations

import csv

import pytest
import yaml

from tests.results.tune_folder import TuneFolder, confirm, new_tune_folder, typical_tune_folder
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.results.confirmation import finalists, read_confirmation, verdict
from tunekit.results.run import Run
from tunekit.results.store import write_confirmation, write_results
from tunekit.results.trials import read_trials
from tunekit.results.weights import keep_best_weights, prune_confirmation

SURE = {0: [0.40, 0.41, 0.42], 1: [0.50, 0.51, 0.49], 4: [0.43, 0.45, 0.44]}


@pytest.fixture
def folder(tmp_path) -> TuneFolder:
    """Trials 1 and 4 are as good, 0 are the defaults, 2 was stopped, 3 failed, 5 runs."""
    return typical_tune_folder(tmp_path / "run")


def words(folder: TuneFolder) -> list[str]:
    return read_confirmation(folder.path).words()


def header(folder: TuneFolder) -> str:
    write_results(folder.path)
    text = (folder.path / "best_hyperparameters.yaml").read_text()
    return "\n".join(line for line in text.splitlines() if line.startswith("#"))


def test_finalists_are_the_best_that_were_trained_to_their_end_each_once(folder):
    assert [row.number for row in finalists(read_trials(folder.path), 3)] == [1, 4]
    folder.trial([0.6], lr0=0.005)  # as 4
    folder.trial([0.9], state="PRUNED", lr0=0.06)
    folder.trial([0.8])  # the defaults once more
    trials = read_trials(folder.path)
    assert [row.number for row in finalists(trials, 3)] == [6, 1]
    assert [row.number for row in finalists(trials, 1)] == [6]


def test_a_gain_is_told_with_its_interval_and_the_runs_behind_it(folder):
    confirm(folder, SURE)
    assert words(folder) == [
        "confirmation with 3 fresh seeds, 9 runs: mean mAP50-95 ± standard deviation",
        "  the defaults: 0.4100 ± 0.0100, 3 runs",
        "  trial 1: 0.5000 ± 0.0100, 3 runs",
        "  trial 4: 0.4400 ± 0.0100, 3 runs",
        # 0.01 · sqrt(2/3) · 2.9687, the 98.75% point of Student's t with six degrees of freedom
        "gain of trial 1 over the defaults: +0.0900, 95% interval +0.0658 to +0.1142, from 9 runs",
    ]


def test_a_gain_within_the_spread_is_called_what_it_is(folder):
    confirm(folder, {0: [0.40, 0.50], 1: [0.45, 0.55]})
    assert words(folder)[-1].startswith(
        "gain of trial 1 over the defaults, not certain: +0.0500, 95% interval -"
    )
    assert words(folder)[-1].endswith("from 4 runs; nothing beat the defaults with certainty")
    assert verdict(folder.path, read_trials(folder.path)).winner == 1


def test_where_nothing_is_better_the_defaults_are_the_answer(folder):
    confirm(folder, {0: [0.50, 0.52], 1: [0.40, 0.42], 4: [0.44, 0.44]})
    assert (
        "nothing beat the defaults: the best of the others, trial 4, has a gain of -0.0700"
        in words(folder)[-1]
    )
    assert "# trial 0, the defaults" in header(folder)
    assert Run(folder.path).best.number == 0
    assert yaml.safe_load((folder.path / "best_hyperparameters.yaml").read_text())["lr0"] == 0.01


def test_failed_runs_are_missing_and_it_is_said(folder):
    confirm(folder, {0: [0.40, "FAIL", 0.42], 1: ["FAIL", "FAIL", "FAIL"], 4: [0.5, 0.5, 0.5]})
    told = words(folder)
    assert told[0].startswith("confirmation with 3 fresh seeds, 9 runs, 4 of which failed")
    assert "  the defaults: 0.4100 ± 0.0141, 2 runs" in told
    assert "  trial 1: no run came to its end" in told
    assert told[-1].endswith("from 5 runs")


def test_defaults_that_always_fail_are_no_zero(folder):
    confirm(folder, {0: ["FAIL", "FAIL"], 1: [0.5, 0.6]})
    assert words(folder)[-1] == "trial 1 is the best; no run of the defaults came to its end to compare with"
    assert "# trial 1, confirmed as the best" in header(folder)


def test_when_every_run_fails_the_search_alone_answers(folder):
    confirm(folder, {0: ["FAIL", "FAIL"], 1: ["FAIL", "FAIL"]})
    assert words(folder) == []
    assert "gain over the defaults (trial 0, 0.4): +0.1" in header(folder)


def test_an_interrupted_confirmation_compares_the_seeds_that_all_are_done_with(folder):
    confirm(folder, {0: [0.40, 0.41, 0.99, None], 1: [0.50, 0.51, "RUNNING", None]})
    confirmation = read_confirmation(folder.path)
    assert confirmation.seeds == (8, 9)
    assert confirmation.left == 3
    assert "  the defaults: 0.4050 ± 0.0071, 2 runs" in confirmation.words()
    assert "0.99" in (table := written(folder))[4]["fitness"]
    assert [row["state"] for row in table] == ["COMPLETE"] * 5 + ["RUNNING"], "those that wait are no rows"


def test_one_seed_is_no_answer_yet(folder):
    confirm(folder, {0: [0.40, 0.41], 1: [0.50, "RUNNING"]})
    assert verdict(folder.path, read_trials(folder.path)) is None
    assert "gain over the defaults (trial 0, 0.4): +0.1" in header(folder)


def written(folder: TuneFolder) -> list[dict[str, str]]:
    write_confirmation(folder.path, read_confirmation(folder.path), read_trials(folder.path))
    with (folder.path / "confirm.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_a_run(folder):
    confirm(folder, {0: [0.40, 0.42], 1: ["FAIL", 0.5]}, run_0=0.3)
    rows = written(folder)
    assert [(row["run"], row["setting"], row["seed"]) for row in rows] == [
        ("0", "defaults", "8"),
        ("1", "1", "8"),
        ("2", "defaults", "9"),
        ("3", "1", "9"),
    ]
    assert [row["fitness"] for row in rows] == ["0.4", "", "0.42", "0.5"]
    assert [row["test_fitness"] for row in rows] == ["0.3", "", "", ""]
    assert (rows[1]["state"], rows[1]["reason"], rows[0]["epochs"]) == ("FAIL", "no memory", "3")


def test_the_confirmed_trial_is_the_answer_everywhere(folder):
    confirm(folder, {0: [0.4, 0.41], 1: [0.42, 0.42], 4: [0.6, 0.7]}, run_0=0.3, run_2=0.45, run_5=0.55)
    head = header(folder)
    assert "# trial 4, confirmed as the best" in head
    assert "# gain of trial 4 over the defaults: +0.2450, 95% interval" in head
    assert "from 6 runs" in head
    assert "in the mean: trial 4 0.5000, the defaults 0.3000, gain +0.2000" in head
    assert "one seed" not in head
    run = Run(folder.path)
    assert (run.best.number, run.best_hyperparameters["lr0"]) == (4, 0.005)
    assert run.confirmation.winner == 4
    settings = yaml.safe_load((folder.path / "best_hyperparameters.yaml").read_text())
    assert build_args(TrainArgs, settings).lr0 == 0.005
    assert keep_best_weights(folder.path, run.trials)
    assert run.best_weights.read_text() == "best.pt of run 5", "the winner's best one"
    assert "weights/best.pt is of the confirmation's run 5, with seed 9" in head


def test_a_better_trial_since_makes_a_confirmation_old(folder):
    confirm(folder, SURE)
    folder.trial([0.45], lr0=0.03)
    assert Run(folder.path).best.number == 1
    assert "confirmed" in header(folder)
    folder.trial([0.8], lr0=0.04)
    assert Run(folder.path).best.number == 7
    assert "confirmed" not in header(folder)


def test_runs_keep_what_may_still_be_asked_for(folder):
    confirm(folder, {0: [0.4, 0.41, "FAIL"], 1: [0.6, 0.5, "RUNNING"]})
    prune_confirmation(folder.path, read_confirmation(folder.path))
    kept = {
        str(path.relative_to(folder.path / "confirm/trials")) for path in folder.path.glob("confirm/**/*.pt")
    }
    both = {f"{run}/weights/{name}" for run in (1, 2, 5) for name in ("best.pt", "last.pt")}
    assert kept == both | {"0/weights/best.pt", "3/weights/best.pt"}


def test_a_search_without_one_is_as_it_was(tmp_path):
    folder = new_tune_folder(tmp_path / "run")
    folder.trial([0.4])
    assert Run(folder.path).confirmation is None
    assert finalists(read_trials(folder.path), 3) == []
