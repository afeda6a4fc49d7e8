"""The study's trials as rows, also while, and after, somebody else writes."""

import os
import time

import pytest

from tests.results.tune_folder import new_tune_folder, typical_tune_folder
from tunekit.errors import RunFolderError
from tunekit.results.trials import best_trial, read_trials, trials_of


def test_rows_tell_state_fitness_and_reason(tmp_path):
    rows = read_trials(typical_tune_folder(tmp_path / "run").path)
    assert [(row.number, row.state, row.fitness) for row in rows] == [
        (0, "COMPLETE", 0.4),
        (1, "COMPLETE", 0.5),
        (2, "PRUNED", 0.05),
        (3, "FAIL", None),
        (4, "COMPLETE", 0.5),
        (5, "RUNNING", 0.6),
    ]
    assert rows[3].reason == "the loss is not finite, at epoch 2"
    assert rows[1].params == {"lr0": 0.02, "close_mosaic": 10, "optimizer": "SGD"}
    assert rows[1].metrics["metrics/mAP50-95(B)"] == 0.5
    assert (rows[1].epochs, rows[1].seconds) == (3, 4.5)


def test_the_open_study_and_its_file_tell_the_same(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    assert trials_of(folder.study) == read_trials(folder.path)


def test_the_best_is_the_earlier_of_equals_and_finished(tmp_path):
    assert best_trial(read_trials(typical_tune_folder(tmp_path / "run").path)).number == 1


def test_a_stopped_trial_can_be_the_best_and_a_failed_one_cannot(tmp_path):
    folder = new_tune_folder(tmp_path / "run")
    folder.trial([0.9], state="FAIL")
    assert best_trial(read_trials(folder.path)) is None
    folder.trial([0.3])
    folder.trial([0.4, 0.2], state="PRUNED")
    assert best_trial(read_trials(folder.path)).number == 2


def test_trials_that_only_wait_are_not_rows(tmp_path):
    folder = new_tune_folder(tmp_path / "run")
    folder.study.enqueue_trial(folder.space.defaults())
    assert read_trials(folder.path) == []


@pytest.mark.parametrize("relative", [True, False])
def test_what_a_killed_writer_leaves_does_not_hold_up_a_reader(tmp_path, monkeypatch, relative):
    folder = typical_tune_folder(tmp_path / "run")
    journal = folder.path / "study.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code":6,"worker_id":"x","trial')
    os.symlink(journal, f"{journal}.lock")
    monkeypatch.chdir(tmp_path)
    start = time.perf_counter()
    rows = read_trials(folder.path.relative_to(tmp_path) if relative else folder.path)
    assert len(rows) == 6
    assert time.perf_counter() - start < 10  # Optuna's lock would be waited for 30 s


def test_reading_changes_nothing(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    before = folder.files()
    read_trials(folder.path)
    assert folder.files() == before


def test_a_folder_without_a_study_is_named_and_left_alone(tmp_path):
    with pytest.raises(RunFolderError, match=r"is no run folder of tunekit tune: it has no study.journal"):
        read_trials(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"not json\nat all\n", b'{"a": 1}\n', b"[1]\n", b"\x00\xff\n\n"])
def test_a_journal_that_is_something_else_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "study.journal").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"study.journal cannot be read"):
        read_trials(tmp_path)
