"""The notebook's view of a run folder."""

import subprocess
import sys

import pytest

from tests.results.tune_folder import new_tune_folder, typical_tune_folder
from tunekit.errors import RunFolderError
from tunekit.results.run import Run
from tunekit.results.weights import keep_best_weights


def test_a_run_tells_its_best(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    run = Run(folder.path)
    assert run.best.number == 1
    assert run.best_hyperparameters == {"lr0": 0.02, "close_mosaic": 10, "optimizer": "SGD"}
    keep_best_weights(folder.path, run.trials)
    assert run.best_weights.read_text() == "best.pt of trial 1"
    assert repr(run).endswith("6 trials, best fitness 0.5000 of trial 1")


def test_a_run_follows_a_search_that_goes_on(tmp_path):
    folder = new_tune_folder(tmp_path / "run")
    run = Run(str(folder.path))
    assert run.best is None
    assert repr(run).endswith("0 trials")
    folder.trial([0.1, 0.2])
    assert run.best.fitness == 0.2
    assert run.epochs().column("epoch").to_pylist() == [1, 2]


def test_tables_for_pandas_have_a_column_a_metric_and_a_hyperparameter(tmp_path):
    pytest.importorskip("pandas")
    frame = Run(typical_tune_folder(tmp_path / "run").path).to_pandas()
    assert frame.loc[frame.fitness.idxmax(), "trial"] == 5
    assert frame.lr0.tolist() == [0.01, 0.02, 0.09, 0.1, 0.005, 0.03]
    assert frame["metrics/mAP50(B)"].notna().all()


def test_the_html_table_has_the_best_first_and_escapes_what_trials_say(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    folder.trial([], state="FAIL", reason="<script>alert(1)</script>")
    table = Run(folder.path)._repr_html_()
    assert table.index(">0.6000<") < table.index(">0.5000<") < table.index(">0.0500<")
    assert "<script>" not in table
    assert "&lt;script&gt;" in table


def test_what_is_no_run_folder_is_said_so(tmp_path):
    with pytest.raises(RunFolderError, match="nowhere: there is no such folder"):
        Run(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"is no run folder of tunekit tune: it has no study\.journal"):
        Run(tmp_path)
    run = Run(new_tune_folder(tmp_path / "run").path)
    with pytest.raises(RunFolderError, match="no trial has finished with a fitness"):
        _ = run.best_hyperparameters
    with pytest.raises(RunFolderError, match="there are no weights yet"):
        _ = run.best_weights


def test_reading_a_run_needs_neither_torch_nor_ray(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    program = (
        "import sys; from tunekit.results.run import Run; from tunekit.results import store, plots, weights\n"
        f"run = Run({str(folder.path)!r}); run.best; run.epochs(); store.write_results(run.path)\n"
        "print([name for name in ('torch', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
