"""Checkpoints: what is saved comes back to the bit, and what is no good is refused."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tunekit.errors import CheckpointError
from tunekit.models.build import DetectionModel, build_model, load_spec
from tunekit.models.weights import load_model, read_checkpoint, save_model


@pytest.fixture
def model() -> DetectionModel:
    return build_model(load_spec("yolo11p.yaml"), ["a", "b"], seed=0)


@pytest.fixture
def saved(model: DetectionModel, tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    extra = {"training": {"epoch": 3, "average": [torch.arange(4)]}}
    save_model(path, model, train_args={"lr0": 0.01, "model": None}, metrics={"map": 0.5}, extra=extra)
    return path


def test_a_model_comes_back_to_the_bit(model: DetectionModel, saved: Path) -> None:
    before = torch.get_rng_state()
    loaded = load_model(saved)
    assert torch.equal(before, torch.get_rng_state())
    assert (loaded.spec, loaded.names, loaded.stride) == (model.spec, model.names, model.stride)
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = model.eval()(images), loaded.eval()(images)
    assert torch.equal(expected.box, found.box)
    assert torch.equal(expected.cls, found.cls)
    trained = [p.requires_grad for p in loaded.parameters()]
    assert trained == [p.requires_grad for p in model.parameters()]


def test_everything_beside_the_weights_comes_back(saved: Path) -> None:
    checkpoint = read_checkpoint(saved)
    assert checkpoint.train_args == {"lr0": 0.01, "model": None}
    assert checkpoint.metrics == {"map": 0.5}
    assert checkpoint.extra["training"]["epoch"] == 3
    assert checkpoint.extra["training"]["average"][0].tolist() == [0, 1, 2, 3]


def test_weights_are_stored_as_float32_in_the_plain_layout(model: DetectionModel, tmp_path: Path) -> None:
    model.to(memory_format=torch.channels_last).half()
    save_model(tmp_path / "m.pt", model, train_args={}, metrics={})
    weights = read_checkpoint(tmp_path / "m.pt").weights
    assert {w.dtype for w in weights.values()} == {torch.float32, torch.int64}
    assert all(w.is_contiguous() for w in weights.values())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_checkpoint_is_told_as_damaged(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"best\.pt is damaged"):
        load_model(saved)


def test_a_flipped_bit_in_the_weights_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    content[largest.header_offset + largest.file_size // 2] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(saved)


def test_a_foreign_pickle_is_refused_before_its_code_runs(tmp_path: Path) -> None:
    target = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (target,))

    torch.save({"model": Evil()}, tmp_path / "yolo11n.pt")
    with pytest.raises(
        CheckpointError, match=r"yolo11n\.pt is refused: it asks for pathlib\.Path\.touch|getattr"
    ):
        read_checkpoint(tmp_path / "yolo11n.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_checkpoint(tmp_path / "old.pt")
    assert not target.exists()


@pytest.mark.parametrize("content", [b"not a checkpoint at all", b"{}", b"\x00" * 100])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_checkpoint(tmp_path / "x.pt")


def test_somebody_elses_plain_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of tunekit and holds no Ultralytics model"):
        read_checkpoint(tmp_path / "x.pt")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.pt")


def altered(saved: Path, **changes: object) -> Path:
    torch.save({**torch.load(saved, weights_only=True), **changes}, saved)
    return saved


def test_a_later_format_asks_for_the_version_that_wrote_it(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="has format 99, written by tunekit"):
        read_checkpoint(altered(saved, version=99))


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {"name": "a"}},
        {"spec": None},
        {"names": 3},
        {"names": [1, 2]},
        {"weights": [1]},
        {"weights": {"a": 1}},
        {"train_args": None},
    ],
)
def test_entries_of_the_wrong_kind_are_told(saved: Path, changes: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match=r"is incomplete|was altered"):
        read_checkpoint(altered(saved, **changes))


@pytest.mark.parametrize("table", [{}, {"backbone": 1, "head": []}, {"backbone": [[-1, 10**9, "C2f", [8]]]}])
def test_a_description_that_cannot_be_built_is_told(saved: Path, table: dict[str, object]) -> None:
    spec = {"name": "a", "yaml": {"head": [[[-1], 1, "Detect", ["nc"]]], **table}, "scale": ""}
    with pytest.raises(CheckpointError, match="do not fit its model description"):
        load_model(altered(saved, spec=spec))


def test_weights_that_do_not_fit_their_description_are_told(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="do not fit its model description"):
        load_model(altered(saved, names=["a", "b", "c"]))


def test_what_could_not_be_loaded_is_not_saved(model: DetectionModel, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(TypeError, match=r"checkpoint\['metrics'\]\['map'\]: float64 is not plain data"):
        save_model(saved, model, train_args={}, metrics={"map": np.float64(0.5)})
    for unreadable in (torch.zeros(1).expand(9), torch.zeros(2, dtype=torch.complex64), {"x" * 1000: 1}):
        with pytest.raises(TypeError, match=r"checkpoint\['metrics'\]\['odd'\]: "):
            save_model(saved, model, train_args={}, metrics={"odd": unreadable})
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["best.pt"]
