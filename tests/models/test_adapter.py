"""Public checkpoints: the model that was saved comes back without its package, and any other is refused."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.models.lookalike import classes_of_theirs, model_of_theirs, translated, write
from tunekit.errors import CheckpointError
from tunekit.models.checkpoint import Checkpoint
from tunekit.models.weights import load_model, model_from, read_checkpoint, save_model

MODELS = ("yolov8p.yaml", "yolo11p.yaml", "yolo26p.yaml")


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_and_the_outputs_come_back(name: str, tmp_path: Path) -> None:
    ours = model_of_theirs(name)
    path = write(tmp_path / "best.pt", ours)
    assert "ultralytics" not in sys.modules
    before = torch.get_rng_state()
    loaded = load_model(path)
    assert torch.equal(before, torch.get_rng_state())
    expected = ours.half().float()
    assert {key: (t.dtype, t.shape) for key, t in loaded.state_dict().items()} == {
        key: (t.dtype, t.shape) for key, t in expected.state_dict().items()
    }
    assert all(torch.equal(t, expected.state_dict()[key]) for key, t in loaded.state_dict().items())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        a, b = loaded.eval()(images), expected.eval()(images)
    assert torch.equal(a.box, b.box)
    assert torch.equal(a.cls, b.cls)
    assert loaded.end2end is (name == "yolo26p.yaml")


def test_what_it_says_of_itself_comes_along_as_plain_data(tmp_path: Path) -> None:
    path = write(
        tmp_path / "best.pt",
        model_of_theirs(classes=2),
        train_args={"data": "coco.yaml", "imgsz": [640, 480], "freeze": [1, 2], "odd": torch.zeros(1), 3: 4},
        epoch=12,
    )
    found = read_checkpoint(path)
    assert found.names == ("class 0", "class 1")
    assert (found.spec.name, found.spec.scale) == ("yolo11p", "p")
    assert found.train_args == {"data": "coco.yaml", "imgsz": 640, "freeze": [1, 2]}
    assert found.metrics == {"metrics/mAP50-95(B)": 0.5, "fitness": 0.5}
    facts = {"version": "8.0.0", "date": "2023-01-01", "epoch": 12, "best_fitness": None}
    assert found.extra == {"ultralytics": facts}


def test_a_public_model_is_saved_as_one_of_ours(tmp_path: Path) -> None:
    found = read_checkpoint(write(tmp_path / "public.pt", model_of_theirs()))
    model = model_from(found, tmp_path / "public.pt")
    save_model(
        tmp_path / "own.pt", model, train_args=found.train_args, metrics=found.metrics, extra=found.extra
    )
    again = read_checkpoint(tmp_path / "own.pt")
    assert (again.spec, again.names, again.train_args) == (found.spec, found.names, found.train_args)
    assert all(torch.equal(again.weights[name], weight) for name, weight in found.weights.items())


def test_the_averaged_weights_of_a_training_under_way_are_taken(tmp_path: Path) -> None:
    averaged, other = model_of_theirs(seed=1), model_of_theirs(seed=2)
    path = write(tmp_path / "last.pt", other, ema=lambda classes: translated(averaged, classes))
    weights = read_checkpoint(path).weights
    assert torch.equal(weights["model.0.conv.weight"], averaged.half().float().model[0].conv.weight)


def test_float32_weights_stay_exact_and_names_may_be_a_list(tmp_path: Path) -> None:
    ours = model_of_theirs()
    names = ["cat", "dog", "cow"]
    path = write(tmp_path / "a.pt", ours, change=lambda m: m.float(), state={"names": names})
    weight = ours.model[0].conv.weight
    ours.model[0].conv.weight.data.copy_(weight.half().float())
    found = read_checkpoint(path)
    assert found.names == ("cat", "dog", "cow")
    assert found.weights["model.0.conv.weight"].dtype == torch.float32


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_pickled_module_tells_whether_the_first_pooling_convolution_is_active(
    name: str, active: bool, tmp_path: Path
) -> None:
    ours = model_of_theirs(name)
    ours.model[9].cv1.act = nn.SiLU() if active else nn.Identity()
    path = write(tmp_path / "a.pt", ours)
    loaded = load_model(path)
    assert read_checkpoint(path).spec.yaml["sppf_act"] is active
    assert isinstance(loaded.model[9].cv1.act, nn.SiLU if active else nn.Identity)


def test_a_class_branch_of_another_width_is_kept(tmp_path: Path) -> None:
    wide = model_of_theirs(classes=80)
    for branch in wide.head.cv3:
        branch[-1] = nn.Conv2d(branch[-1].in_channels, 3, 1)
    path = write(tmp_path / "a.pt", wide, state={"names": {0: "a", 1: "b", 2: "c"}})
    found = read_checkpoint(path)
    assert found.spec.yaml["cls_width"] == wide.head.cv3[0][-1].in_channels
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        outputs = model_from(found, path).eval()(images), wide.half().float().eval()(images)
    assert torch.equal(outputs[0].cls, outputs[1].cls)


def test_a_depthwise_class_branch_of_an_older_table_is_kept(tmp_path: Path) -> None:
    """As Ultralytics 8.3.0 built YOLOv8."""
    ours = model_of_theirs("yolov8p.yaml")
    channels = [branch[0].conv.in_channels for branch in ours.head.cv3]
    width = ours.head.cv3[0][-1].in_channels
    ours.head.cv3 = nn.ModuleList(ours.head._depthwise_branch(c, width, 3) for c in channels)
    path = write(tmp_path / "a.pt", ours)
    assert read_checkpoint(path).spec.yaml["cls_depthwise"] is True
    assert torch.equal(
        load_model(path).head.cv3[0][0][0].conv.weight, ours.half().float().head.cv3[0][0][0].conv.weight
    )


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("SegmentationModel", "a segmentation model"),
        ("PoseModel", "a pose model"),
        ("OBBModel", "a model of oriented boxes"),
        ("ClassificationModel", "a classification model"),
        ("RTDETRDetectionModel", "an RT-DETR model"),
        ("WorldModel", "a YOLO-World model"),
        ("C2f", "a ultralytics.nn.modules.block.C2f"),
    ],
)
def test_a_model_of_another_task_is_named(kind: str, told: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", model_of_theirs(), kind)
    with pytest.raises(CheckpointError, match=f"{path}: it holds {told}; only detection models"):
        read_checkpoint(path)


def set_to(path: str, name: str, value: object) -> Callable[[nn.Module], None]:
    return lambda model: setattr(model.get_submodule(path), name, value)


def delete(model: nn.Module) -> None:
    del model.model[4]._modules["cv1"]


def fold(model: nn.Module) -> None:
    for module in model.modules():
        if "bn" in module._modules:
            del module._modules["bn"]
            module.conv.bias = nn.Parameter(torch.zeros(module.conv.out_channels))


def cycle(model: nn.Module) -> None:
    model.model[4]._modules["again"] = model


def many(model: nn.Module) -> None:
    for _ in range(22):
        outer = nn.Sequential()
        outer._modules = {"a": model.model[4]._modules.get("deep"), "b": model.model[4]._modules.get("deep")}
        model.model[4]._modules["deep"] = outer


def table(**changes: Any) -> Callable[[nn.Module], None]:
    return lambda model: model.yaml.update(changes)


def row(index: int, value: Any) -> Callable[[nn.Module], None]:
    return lambda model: model.yaml["backbone"].__setitem__(index, value)


UNFIT: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "lacking a layer": (delete, r"it has no model\.4\.cv1\.conv\.weight, .*6 tensors are missing"),
    "with one too many": (
        lambda m: m.model[4].add_module("x", nn.Linear(1, 1)),
        r"its 'model\.4\.x\.weight' has no place .*2 tensors are left over",
    ),
    "of another shape": (
        set_to("model.0.conv", "weight", nn.Parameter(torch.zeros(9, 3, 3, 3).half())),
        r"its model\.0\.conv\.weight has the shape \(9, 3, 3, 3\)",
    ),
    "of whole numbers": (
        lambda m: m.model[0].conv._parameters.update(weight=torch.zeros(8, 3, 3, 3).long()),
        r"its model\.0\.conv\.weight is stored as torch\.int64",
    ),
    "folded for inference": (fold, "its batch norms are folded away"),
    "of other strides": (
        set_to("", "stride", torch.tensor([8.0, 16.0, 64.0])),
        "its strides are not 8, 16, 32",
    ),
    "without strides": (set_to("", "stride", None), "its strides are not"),
    "of other bins": (
        lambda m: m.model[-1].dfl.conv.weight.data.add_(1),
        r"dfl\.conv\.weight\) were altered",
    ),
    "of another activation": (
        set_to("model.3", "act", nn.ReLU()),
        r"its model\.3\.act is torch.*\.ReLU, where",
    ),
    "of another kind of norm": (set_to("model.3.bn", "eps", 1e-5), r"its model\.3\.bn has another eps"),
    "of other convolutions": (set_to("model.3.conv", "stride", (1, 1)), r"model\.3\.conv has another stride"),
    "of an odd attribute": (set_to("model.3.bn", "eps", torch.zeros(3)), "has another eps"),
    "of other heads": (
        lambda m: setattr(m.model[10].m[0].attn, "num_heads", 7),
        r"attn has another num_heads",
    ),
    "without shortcuts": (
        lambda m: setattr(m.model[2].m[0], "add", not m.model[2].m[0].add),
        "has another add",
    ),
    "without names": (set_to("", "names", None), "does not name its classes"),
    "with a gap in its names": (set_to("", "names", {0: "a", 2: "b", 3: "c"}), "does not name its classes"),
    "with other names": (set_to("", "names", {0: "a"}), "has the shape"),
    "with odd names": (set_to("", "names", {0: "a", 1: "b\n", 2: "c"}), "cannot be shown"),
    "with nested names": (set_to("", "names", {0: "a", 1: ["b"], 2: "c"}), "cannot be shown"),
    "without a table": (set_to("", "yaml", None), "yaml is missing"),
    "of unknown modules": (
        row(4, [-1, 1, "C3Ghost", [128]]),
        "cannot be built here: .*unknown module 'C3Ghost'",
    ),
    "of grey images": (table(ch=1), "images have 3 channels"),
    "of many repeats": (row(4, [-1, 10**9, "C3k2", [128]]), "more than 2000 blocks"),
    "of a scale that is not there": (table(scale="z"), "its layer table is damaged"),
    "of no rows": (table(backbone=7), "cannot be built here"),
    "of scales without end": (table(scales={"p": [1e300, 1e300, 1e300]}), "cannot be built here"),
    "of a row of words": (row(4, ["a"] * 4), "cannot be built here"),
    "of a long word": (row(4, [-1, 1, "C3k2", ["(" * 10_000]]), "word of more than 200 letters"),
    "of modules within themselves": (cycle, "nested without end"),
    "of modules without number": (many, "nested without end"),
    "of odd modules": (set_to("model.4", "_modules", [1]), "is incomplete"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_model_that_is_not_its_own_description_is_refused(case: str, tmp_path: Path) -> None:
    change, message = UNFIT[case]
    path = write(tmp_path / "a.pt", model_of_theirs(), change=change)
    with pytest.raises(CheckpointError, match=message) as fault:
        read_checkpoint(path)
    assert str(fault.value).startswith(str(path))
    assert len(str(fault.value)) < 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": None}, "it is no checkpoint of tunekit and holds no Ultralytics model"),
        ({"model": torch.ones(3)}, "holds no Ultralytics model"),
        ({"modelopt": {"a": 1}}, "trained for quantisation"),
    ],
)
def test_a_file_without_a_plain_model_is_refused(
    content: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.pt", model_of_theirs(), **content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_the_class_of_a_bare_module_is_told(tmp_path: Path) -> None:
    torch.save({"model": nn.SiLU()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"it holds a torch\.nn\.modules\.activation\.SiLU"):
        read_checkpoint(tmp_path / "a.pt")


def test_old_modules_without_later_attributes_are_read(tmp_path: Path) -> None:
    def older(model: nn.Module) -> None:
        model.model[11].__dict__.pop("recompute_scale_factor", None)
        for module in model.modules():
            module.__dict__.pop("_non_persistent_buffers_set", None)

    read_checkpoint(write(tmp_path / "a.pt", model_of_theirs(), change=older))


def test_buffers_that_are_not_kept_need_no_place(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.pt",
        model_of_theirs(),
        change=lambda m: m.model[-1].register_buffer("anchors", torch.zeros(3), persistent=False),
    )
    assert "model.23.anchors" not in read_checkpoint(path).weights


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("public") / "best.pt", model_of_theirs())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.99, 0.99999])
def test_a_public_file_cut_short_is_refused(public: Path, share: float, tmp_path: Path) -> None:
    data = public.read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint(tmp_path / "cut.pt")


@functools.cache
def right(path: Path) -> Checkpoint:
    return read_checkpoint(path)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3))
def test_flipped_bytes_of_a_public_file_are_noticed_or_harmless(
    public: Path, flips: list[tuple[float, int]]
) -> None:
    data = bytearray(public.read_bytes())
    for share, byte in flips:
        data[int(share * len(data))] ^= byte
    path = public.with_name("flipped.pt")
    path.write_bytes(data)
    expected = right(public)
    try:
        found = read_checkpoint(path)
    except CheckpointError:
        return
    assert (found.names, found.spec.yaml) == (expected.names, expected.spec.yaml)
    assert all(torch.equal(found.weights[name], weight) for name, weight in expected.weights.items())


def test_look_alikes_leave_no_trace() -> None:
    with classes_of_theirs():
        assert "ultralytics.nn.tasks" in sys.modules
    assert not [name for name in sys.modules if name.startswith("ultralytics")]
