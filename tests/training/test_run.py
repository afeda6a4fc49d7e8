"""`train`: its folder, its resume, and what it refuses."""

from __future__ import annotations

import csv
import re

import pytest
import torch
import yaml

from tests.training.test_engine import SMALL, TIMES
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError, CheckpointError, RunFolderError
from tunekit.models.weights import load_model, read_checkpoint
from tunekit.training.run import train


class Cut(Exception):
    """Stands for the power going off between two epochs."""


def args(tmp_path, **settings) -> TrainArgs:
    return build_args(TrainArgs, {**SMALL, "epochs": 2, "project": str(tmp_path / "runs"), **settings})


def table(folder) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def quietly(text: str) -> None:
    """Nobody reads what a test's training says."""


def test_a_training_leaves_its_arguments_results_and_weights(tmp_path):
    folder = train(args(tmp_path), say=quietly)
    assert folder == tmp_path / "runs" / "yolo11p-digits"
    recorded = build_args(TrainArgs, yaml.safe_load((folder / "args.yaml").read_text()))
    assert (recorded.optimizer, recorded.lr0) == ("AdamW", 0.000714)
    results = table(folder)
    assert [row["epoch"] for row in results] == ["1", "2"]
    best = read_checkpoint(folder / "weights" / "best.pt")
    assert best.train_args["imgsz"] == 64
    fitness = [float(row["metrics/mAP50-95(B)"]) for row in results]
    assert best.metrics["metrics/mAP50-95(B)"] == max(fitness)
    assert load_model(folder / "weights" / "last.pt").names == tuple("0123456789")


def test_an_interrupted_training_goes_on_to_the_same_end(tmp_path):
    whole = train(args(tmp_path, name="whole"), say=quietly)

    def cut(result):
        raise Cut

    with pytest.raises(Cut):
        train(args(tmp_path, name="cut"), on_epoch=cut, say=quietly)
    folder = tmp_path / "runs" / "cut"
    assert len(table(folder)) == 1
    train(build_args(TrainArgs, {"resume": str(folder)}), say=quietly)
    assert table(folder) == table(whole)
    ours, theirs = (read_checkpoint(f / "weights" / "last.pt").weights for f in (folder, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_resuming_refuses_other_arguments_and_folders_that_are_no_runs(tmp_path):
    with pytest.raises(RunFolderError, match="no run is there"):
        train(build_args(TrainArgs, {"resume": str(tmp_path / "nowhere")}), say=quietly)
    for text, told in (
        ("iterations: 3\n", "tunekit tune resume="),
        ("[1]", "damaged"),
        ("a: [", "cannot be read"),
    ):
        (tmp_path / "args.yaml").write_text(text)
        with pytest.raises(RunFolderError, match=told):
            train(build_args(TrainArgs, {"resume": str(tmp_path)}), say=quietly)
    folder = train(args(tmp_path, epochs=1), say=quietly)
    with pytest.raises(ArgumentError, match="lr0= cannot be changed while resuming"):
        train(build_args(TrainArgs, {"resume": str(folder), "lr0": 0.1}), say=quietly)
    said: list[str] = []
    train(build_args(TrainArgs, {"resume": str(folder)}), say=said.append)
    assert len(table(folder)) == 1
    assert any("best mAP50-95" in line for line in said)


def test_a_damaged_checkpoint_is_told_when_resuming(tmp_path):
    folder = train(args(tmp_path, epochs=1), say=quietly)
    last = folder / "weights" / "last.pt"
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        train(build_args(TrainArgs, {"resume": str(folder)}), say=quietly)


def test_a_second_training_of_a_name_gets_a_number(tmp_path):
    first = train(args(tmp_path, epochs=1, name="a"), say=quietly)
    second = train(args(tmp_path, epochs=1, name="a"), say=quietly)
    assert (first.name, second.name) == ("a", "a-2")
    third = train(args(tmp_path, epochs=1, name="a", exist_ok=True), say=quietly)
    assert third == first


def test_a_profile_says_where_the_time_goes(tmp_path):
    folder = train(args(tmp_path, epochs=1, profile=True), say=quietly)
    profile = (folder / "profile.txt").read_text()
    assert "training steps after the first 2" in profile
    for part in ("data", "forward", "loss", "backward", "step"):
        assert re.search(rf"^ +{part} ", profile, flags=re.MULTILINE), part


def test_a_training_with_plots_leaves_pictures_and_measures_its_best_weights(tmp_path):
    said: list[str] = []
    folder = train(args(tmp_path, epochs=1, plots=True, save_json=True), say=said.append)
    for name in ("labels.jpg", "train_batch0.jpg", "results.png", "BoxPR_curve.png", "predictions.json"):
        assert (folder / name).stat().st_size > 0, name
    measured = yaml.safe_load((folder / "metrics.yaml").read_text())
    assert f"best F1 at confidence {measured['best_f1_confidence']:.3f}" in said[-1]
    again = train(args(tmp_path, epochs=1, name=folder.name, exist_ok=True, verbose=False), say=quietly)
    assert {path.name for path in again.iterdir()} <= {"args.yaml", "results.csv", "weights", ".lock"}
