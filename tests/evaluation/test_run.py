"""`tunekit val`: what it measures with, what it shows, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tunekit.args import ValArgs
from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.data.loader import ValLoader
from tunekit.errors import ArgumentError, CheckpointError, DataError
from tunekit.evaluation.run import val
from tunekit.evaluation.validator import evaluate
from tunekit.models.build import build_model, load_spec
from tunekit.models.weights import load_model, save_model


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
    return ValArgs(model=str(checkpoint), threads=1, loader_workers=0, device="cpu", **more)  # type: ignore[arg-type]


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
    assert f"{checkpoint} on val of {data}: 64 px, cpu" in shown
    rows = [line.split()[:3] for line in shown.splitlines()]
    assert ["all", "5", "5"] in rows
    assert ["red[0]", "3", "3"] in rows
    assert ["blue", "2", "2"] in rows


def test_the_call_may_name_other_data_another_size_and_split(
    data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data.with_name("other.yaml")
    other.write_text(data.read_text())
    val(settings(checkpoint, data=str(other), imgsz=96, split="test"))
    assert f"on test of {other}: 96 px" in capsys.readouterr().out


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
