"""`tunekit val`: what it measures with, what it shows, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from tunekit.args import ValArgs
from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.data.loader import ValLoader
from tunekit.errors import ArgumentError, CheckpointError, DataError, ModelError
from tunekit.evaluation.metrics import ClassMetrics, DetectionMetrics
from tunekit.evaluation.run import fitness_of, table_text, val
from tunekit.evaluation.validator import Evaluation, evaluate
from tunekit.models.build import DetectionModel, build_model, load_spec
from tunekit.models.heads import HeadOutput
from tunekit.models.weights import load_model, save_model
from tunekit.training.device import autocast_dtype


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images of 64 px with one bright square each, of two classes; test has one of them."""
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split, count in (("val", 5), ("test", 1)):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
            image[16:48, 16:48] = 250
            cv2.imwrite(str(tmp_path / f"images/{split}/{number}.png"), image)
            (tmp_path / f"labels/{split}/{number}.txt").write_text(f"{number % 2} .5 .5 .5 .5\n")
    source = tmp_path / "squares.yaml"
    source.write_text("train: images/val\nval: images/val\ntest: images/test\nnames: ['red[0]', blue]\n")
    return source


@pytest.fixture
def checkpoint(data: Path) -> Path:
    """An untrained model of the two classes that says it was trained on `data` at 64 px."""
    path = data.parent / "best.pt"
    model = build_model(load_spec("yolo11p.yaml"), ("red[0]", "blue"), seed=0)
    save_model(path, model, train_args={"data": str(data), "imgsz": 64}, metrics={})
    return path


def settings(checkpoint: Path, **more: object) -> ValArgs:
    """Of a call that writes nothing, unless `more` says so."""
    given = {"threads": 1, "loader_workers": 0, "device": "cpu", "plots": False}
    project = str(checkpoint.parent / "runs")
    return ValArgs(model=str(checkpoint), project=project, **{**given, **more})  # type: ignore[arg-type]


def test_it_measures_on_the_data_and_at_the_size_of_the_training(
    data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = val(settings(checkpoint))
    source = open_split(load_data_config(str(data)), "val", 64, "disk")
    expected = evaluate(
        load_model(checkpoint), ValLoader(source, batch=16, workers=0), device=torch.device("cpu")
    )
    assert metrics == expected.metrics
    shown = capsys.readouterr().out
    assert f"{checkpoint} on val of {data}: 64 px, cpu float32" in shown
    rows = [line.split()[:3] for line in shown.splitlines()]
    assert ["all", "5", "5"] in rows
    assert ["red[0]", "3", "3"] in rows
    assert ["blue", "2", "2"] in rows
    assert f"best F1 {metrics.f1:.4f} at confidence {metrics.f1_conf:.3f}" in shown
    assert "ms an image" in shown
    assert not (checkpoint.parent / "runs").exists(), "nothing was to be written"


def test_the_call_may_name_other_data_another_size_and_split(
    data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data.with_name("other.yaml")
    other.write_text(data.read_text())
    val(settings(checkpoint, data=str(other), imgsz=96, split="test"))
    assert f"on test of {other}: 96 px" in capsys.readouterr().out


def test_a_run_leaves_its_arguments_figures_curves_and_pictures(
    data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = val(settings(checkpoint, plots=True, save_json=True, name="mine", conf=0.0))
    folder = checkpoint.parent / "runs" / "mine"
    assert str(folder) in capsys.readouterr().out.replace("\n", "")
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        "args.yaml",
        "metrics.yaml",
        "BoxPR_curve.png",
        "BoxF1_curve.png",
        "BoxP_curve.png",
        "BoxR_curve.png",
        "confusion_matrix.png",
        "confusion_matrix_normalized.png",
        "confusion_matrix.csv",
        "val_batch0_labels.jpg",
        "val_batch0_pred.jpg",
        "predictions.json",
        "ground_truth.json",
    }
    args = yaml.safe_load((folder / "args.yaml").read_text())
    assert (args["data"], args["imgsz"], args["threads"]) == (str(data), 64, 1)
    written = yaml.safe_load((folder / "metrics.yaml").read_text())
    assert written["images"] == 5
    assert written["mAP50-95"] == pytest.approx(metrics.map, abs=1e-6)
    assert written["best_f1_confidence"] == pytest.approx(metrics.f1_conf, abs=1e-6)
    assert [row["name"] for row in written["classes"]] == ["red[0]", "blue"]
    assert [row["recall"] for row in written["classes"]] == pytest.approx(
        [row.recall for row in metrics.classes], abs=1e-6
    )
    truth = json.loads((folder / "ground_truth.json").read_text())
    assert [entry["bbox"] for entry in truth["annotations"]] == [[16, 16, 32, 32]] * 5
    assert len(json.loads((folder / "predictions.json").read_text())) > 5


def test_what_is_not_asked_for_is_not_written_and_the_folder_may_be_used_again(checkpoint: Path) -> None:
    for _ in range(2):
        val(settings(checkpoint, save_json=True, name="mine", exist_ok=True))
    val(settings(checkpoint, save_json=True, name="mine"))
    runs = checkpoint.parent / "runs"
    assert sorted(path.name for path in runs.iterdir()) == ["mine", "mine-2"]
    written = {path.name for path in (runs / "mine").iterdir() if not path.name.startswith(".")}
    assert written == {"args.yaml", "metrics.yaml", "predictions.json", "ground_truth.json"}


class Squares(DetectionModel):
    """Knows where the squares are, and is sure of the wrong class, a little less of the right one."""

    def forward(self, images: torch.Tensor) -> HeadOutput:
        output: HeadOutput = super().forward(images)
        cls = torch.full_like(output.cls, -20.0)
        middle = (
            (output.anchors * output.strides - torch.tensor(images.shape[:1:-1]) / 2).norm(dim=1).argmin()
        )
        cls[:, middle, 0], cls[:, middle, 1] = 2.0, 1.0
        return replace(output, cls=cls)


def test_with_single_cls_an_object_counts_whatever_class_it_is_given(
    data: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def squares(*_: object) -> Squares:
        model = Squares(load_spec("yolo11p.yaml"), ("red[0]", "blue"))
        model.load_state_dict(load_model(checkpoint).state_dict())
        return model

    monkeypatch.setattr("tunekit.evaluation.run.model_from", squares)
    two = val(settings(checkpoint, conf=0.1))
    one = val(settings(checkpoint, conf=0.1, single_cls=True, save_json=True, name="one"))
    assert [row.name for row in two.classes] == ["red[0]", "blue"]
    assert [(row.name, row.instances) for row in one.classes] == [("item", 5)]
    found = json.loads((checkpoint.parent / "runs/one/predictions.json").read_text())
    assert len(found) == 5, "one detection an image: the less sure class of the same anchor is no second one"
    assert {entry["category_id"] for entry in found} == {1}
    assert found[0]["score"] == pytest.approx(torch.tensor(2.0).sigmoid().item())


def test_the_table_is_there_as_plain_lines_too() -> None:
    row = ClassMetrics(0, "a name that is far wider than a terminal " * 4, 3, 7, 0.5, 0.25, 0.4, 0.3)
    lines = table_text(
        Evaluation(DetectionMetrics(0.5, 0.25, 0.4, 0.3, 0.1, (row,)), None, 9, 1.0)
    ).splitlines()
    assert lines[0].split() == ["class", "images", "instances", "P", "R", "mAP50", "mAP50-95"]
    assert lines[1].split() == ["all", "9", "7", "0.5000", "0.2500", "0.4000", "0.3000"]
    assert lines[2].startswith(row.name.strip())


def test_with_single_cls_the_data_may_have_other_classes(data: Path, checkpoint: Path) -> None:
    data.write_text(data.read_text().replace("['red[0]', blue]", "[square, circle, cross]"))
    assert [row.name for row in val(settings(checkpoint, single_cls=True)).classes] == ["item"]


def test_half_says_what_it_computes_in(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    val(settings(checkpoint, half=True))
    dtype = autocast_dtype(torch.device("cpu"), True)
    assert f"cpu {'float32' if dtype is None else str(dtype)[6:]}" in capsys.readouterr().out


def test_end2end_needs_a_model_that_has_such_a_head(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="end2end"):
        val(settings(checkpoint, end2end=True))
    assert val(settings(checkpoint, end2end=False)) == val(settings(checkpoint))


def test_bad_labels_are_counted_in_the_output(
    data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data.parent / "labels/val/0.txt").write_text("0 .5 .5 .5 .5\n7 .5 .5 .5 .5\n")
    val(settings(checkpoint))
    assert "labels/val/0.txt:2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "sentence"),
    [("['red[0]', blue, green]", "has 3 classes"), ("[blue, red]", "class 0 is 'blue'")],
)
def test_data_of_other_classes_is_refused(data: Path, checkpoint: Path, names: str, sentence: str) -> None:
    text = data.read_text().replace("['red[0]', blue]", names)
    data.write_text(text)
    with pytest.raises(DataError, match=r".*".join(sentence.split())):
        val(settings(checkpoint))


def test_a_checkpoint_that_does_not_name_its_data_needs_data_given(checkpoint: Path) -> None:
    save_model(checkpoint, load_model(checkpoint), train_args={}, metrics={})
    with pytest.raises(ArgumentError, match="give data="):
        val(settings(checkpoint))


def test_a_missing_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        val(settings(tmp_path / "none.pt"))


def test_the_fitness_alone_is_the_same_number_without_a_word(checkpoint, capsys):
    metrics = val(settings(checkpoint, split="test"))
    capsys.readouterr()
    assert fitness_of(settings(checkpoint, split="test")) == metrics.fitness
    assert capsys.readouterr().out == ""
    assert not (checkpoint.parent / "runs").exists()
