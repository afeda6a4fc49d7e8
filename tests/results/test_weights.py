"""A run keeps the best trial's weights, and no others of finished trials."""

from tests.results.tune_folder import new_tune_folder, typical_tune_folder
from tunekit.results.store import read_trials
from tunekit.results.weights import keep_best_weights, prune_trial_folders


def _weights_of_trials(folder):
    return {int(path.parent.name) for path in folder.path.glob("trials/*/weights")}


def test_the_best_trial_s_weights_are_the_run_s(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    assert keep_best_weights(folder.path, read_trials(folder.path))
    assert (folder.path / "weights" / "best.pt").read_text() == "best.pt of trial 1"
    assert (folder.path / "weights" / "last.pt").read_text() == "last.pt of trial 1"


def test_a_better_trial_replaces_them(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    keep_best_weights(folder.path, read_trials(folder.path))
    folder.trial([0.7], state="PRUNED")
    keep_best_weights(folder.path, read_trials(folder.path))
    assert (folder.path / "weights" / "best.pt").read_text() == "best.pt of trial 6"


def test_nothing_is_copied_when_nothing_changed(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    keep_best_weights(folder.path, read_trials(folder.path))
    file = folder.path / "weights" / "best.pt"
    before = file.stat().st_ino
    keep_best_weights(folder.path, read_trials(folder.path))
    assert file.stat().st_ino == before


def test_weights_of_finished_trials_go_but_for_the_best(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    for _ in range(2):
        prune_trial_folders(folder.path, read_trials(folder.path))
        assert _weights_of_trials(folder) == {1, 5}, "the best, and the one that is running"
    assert (folder.path / "trials" / "0" / "results.csv").exists()


def test_without_a_best_trial_there_is_nothing_to_keep(tmp_path):
    folder = new_tune_folder(tmp_path / "run")
    folder.trial([0.4], state="FAIL")
    rows = read_trials(folder.path)
    assert not keep_best_weights(folder.path, rows)
    assert not (folder.path / "weights").exists()
    prune_trial_folders(folder.path, rows)
    assert _weights_of_trials(folder) == set()
