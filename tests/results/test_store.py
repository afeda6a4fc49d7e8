"""The tables of a run folder: complete after each trial, and the same however often they are written."""

import csv
import math
import time

import pyarrow.parquet
import pytest
import yaml

from tests.results.tune_folder import COLUMNS, new_tune_folder, typical_tune_folder
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import RunFolderError
from tunekit.results.store import read_trials, write_results


@pytest.fixture
def folder(tmp_path):
    return typical_tune_folder(tmp_path / "run")


def test_the_csv_has_a_row_a_trial_that_reads_back_exactly(folder):
    rows = write_results(folder.path)
    assert rows == read_trials(folder.path)
    with (folder.path / "tune_results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == [
        *("trial", "state", "fitness"),
        *(name for name in COLUMNS.split(",") if name.startswith("metrics/")),
        *("lr0", "close_mosaic", "optimizer", "epochs", "seconds", "reason"),
    ]
    assert [line["trial"] for line in table] == ["0", "1", "2", "3", "4", "5"]
    assert [float(line["lr0"]) for line in table] == [row.params["lr0"] for row in rows]
    assert table[3]["fitness"] == "", "a failure is not a fitness of 0"
    assert table[3]["reason"] == "the loss is not finite, at epoch 2"
    assert table[1]["seconds"] == "4.5"


def test_the_parquet_has_a_row_an_epoch(folder):
    write_results(folder.path)
    table = pyarrow.parquet.read_table(folder.path / "results.parquet")
    assert table.column_names == ["trial", *COLUMNS.split(",")]
    curves = [(row["trial"], row["epoch"], row["metrics/mAP50-95(B)"]) for row in table.to_pylist()]
    assert curves[:5] == [(0, 1, 0.1), (0, 2, 0.3), (0, 3, 0.4), (1, 1, 0.2), (1, 2, 0.5)]
    assert len(curves) == 13


def test_an_open_study_gives_the_same_files_as_its_journal_and_twice_is_once(folder):
    write_results(folder.path, folder.study)
    first = folder.files()
    write_results(folder.path)
    assert folder.files() == first


def test_the_best_hyperparameters_load_into_train_and_repeat_the_trial(folder):
    write_results(folder.path)
    text = (folder.path / "best_hyperparameters.yaml").read_text()
    settings = yaml.safe_load(text)
    assert list(settings)[:3] == ["lr0", "close_mosaic", "optimizer"], "the tuned ones come first"
    args = build_args(TrainArgs, settings)
    trial = yaml.safe_load((folder.path / "trials" / "1" / "args.yaml").read_text())
    where = {"project", "name", "exist_ok", "resume"}
    assert args.model_dump(exclude=where) == build_args(TrainArgs, trial).model_dump(exclude=where)
    assert not where & set(settings)


def test_the_header_says_how_far_how_good_and_how_much_better(folder):
    write_results(folder.path)
    header = (folder.path / "best_hyperparameters.yaml").read_text().split("\nlr0")[0].splitlines()
    assert header == [
        "# 5/10 iterations: 3 complete, 1 stopped early, 1 failed",
        "# best fitness 0.5, of trial 1 (3 epochs)",
        "# precision 0.5, recall 0.5, mAP50 0.5, mAP50-95 0.5",
        "# gain over the defaults (trial 0, 0.4): +0.1 (+25.0%)",
        "# train with them: tunekit train cfg=best_hyperparameters.yaml",
    ]


def test_a_gain_over_failed_defaults_is_not_made_up(tmp_path):
    folder = new_tune_folder(tmp_path / "run")
    folder.trial([], state="FAIL", reason="no")
    folder.trial([0.2])
    write_results(folder.path)
    assert (
        "(trial 0): unknown, that trial has no fitness"
        in (folder.path / "best_hyperparameters.yaml").read_text()
    )


def test_without_a_trial_s_own_arguments_the_yaml_says_that_they_are_gone(folder):
    (folder.path / "trials" / "1" / "args.yaml").unlink()
    write_results(folder.path)
    text = (folder.path / "best_hyperparameters.yaml").read_text()
    assert "# the other arguments are not here: trials/1/args.yaml is gone" in text
    assert set(yaml.safe_load(text)) == {"lr0", "close_mosaic", "optimizer"}


def test_a_damaged_args_yaml_is_named(folder):
    (folder.path / "trials" / "1" / "args.yaml").write_text("[1, 2")
    with pytest.raises(RunFolderError, match=r"trials/1/args.yaml cannot be read"):
        write_results(folder.path)


def test_before_the_first_result_there_are_empty_tables_and_no_best(tmp_path):
    folder = new_tune_folder(tmp_path / "run")
    assert write_results(folder.path) == []
    assert (
        (folder.path / "tune_results.csv").read_text().startswith("trial,state,fitness,metrics/precision(B)")
    )
    assert pyarrow.parquet.read_table(folder.path / "results.parquet").num_rows == 0
    assert not (folder.path / "best_hyperparameters.yaml").exists()


def test_numbers_survive_to_the_last_bit_and_reasons_with_commas_and_lines(tmp_path):
    folder = new_tune_folder(tmp_path / "run")
    reason = 'ValueError: "a, b"\nand more'
    folder.trial([math.pi / 10], lr0=0.1 / 3)
    folder.trial([], state="FAIL", reason=reason)
    write_results(folder.path)
    with (folder.path / "tune_results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["lr0"]) == 0.1 / 3
    assert float(first["fitness"]) == math.pi / 10
    assert second["reason"] == reason
    assert yaml.safe_load((folder.path / "best_hyperparameters.yaml").read_text())["lr0"] == 0.1 / 3


def test_a_hundred_trials_of_a_hundred_epochs_are_written_quickly(tmp_path):
    folder = new_tune_folder(tmp_path / "run")
    folder.trial([0.5])
    rows = "\n".join(",".join(map(repr, [epoch, *[0.123456789] * 14])) for epoch in range(1, 101))
    for number in range(1, 100):
        path = folder.path / "trials" / str(number)
        path.mkdir()
        (path / "results.csv").write_text(f"{COLUMNS}\n{rows}\n")
    write_results(folder.path, folder.study)  # loads Arrow
    start = time.process_time()
    write_results(folder.path, folder.study)
    assert time.process_time() - start < 0.5  # 0.1 s
