"""What a search says at its end."""

from pathlib import Path

import pytest

from tunekit.errors import TrainingError
from tunekit.results.importance import Importance
from tunekit.results.trials import TrialRow
from tunekit.tuning.answer import answer

FOLDER = Path("/runs/first")


def row(number, state, fitness=None, **more):
    return TrialRow(number, state, fitness, {}, **more)


def test_the_best_is_told_with_its_gain_over_the_defaults():
    trials = [row(0, "COMPLETE", 0.25), row(1, "PRUNED", 0.5), row(2, "FAIL", reason="no memory")]
    counts, reason, best = answer(FOLDER, trials)[:3]
    assert counts == "3 trials: 1 done, 1 stopped early, 1 failed"
    assert reason == "the commonest reason (1 of 1): no memory"
    assert best.startswith("best mAP50-95 0.5000: trial 1, +0.2500 against the defaults (trial 0); one seed")


def test_defaults_that_the_time_cut_off_are_not_passed_off_as_a_full_run():
    lines = answer(FOLDER, [row(0, "PRUNED", 0.25, epochs=3), row(1, "COMPLETE", 0.5)])
    assert "against the defaults (trial 0, which came to epoch 3 only)" in lines[1]


def test_trials_that_are_still_to_be_finished_are_counted_as_such():
    assert (
        answer(FOLDER, [row(0, "COMPLETE", 0.5), row(1, "RUNNING")])[0] == "2 trials: 1 done, 1 interrupted"
    )


def test_a_search_whose_time_was_up_before_its_first_trial_says_so():
    assert answer(FOLDER, []) == ["no trial was begun"]


def test_when_all_trials_failed_that_is_the_error():
    with pytest.raises(TrainingError, match=r"all 1 trials failed; .*\(1 of 1\): no memory"):
        answer(FOLDER, [row(0, "FAIL", reason="no memory")])


def test_what_mattered_is_told_in_three_lines():
    weighed = [
        Importance("lr0", 0.8, 0.2, (1, 1), "mattered", "high"),
        Importance("box", 0.15, 0.2, (2, 3), "unclear", ""),
        Importance("hsv_h", 0.05, 0.2, (2, 3), "no effect", ""),
    ]
    lines = answer(FOLDER, [row(0, "COMPLETE", 0.5)], weighed=weighed)
    assert "what mattered most: lr0" in lines
    assert any("lr0 (high end): widen it in a copy of /runs/first/space.yaml" in line for line in lines)
    assert any(line.endswith("a next search can leave them out: hsv_h") for line in lines)
    assert any(line.startswith("too few trials") for line in answer(FOLDER, [row(0, "COMPLETE", 0.5)]))
