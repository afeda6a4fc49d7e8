"""The fifteen public sizes to the last parameter, forward shapes, decoding, heads, seeds."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch

from tunekit.errors import ModelError
from tunekit.models.blocks import Attention
from tunekit.models.build import DetectionModel, ModelSpec, build_model, load_spec

# Parameters (80 classes, unfused) as published; state-dict entries and the SHA-256 of the sorted lines
# "name shape", which public checkpoints must find.
PUBLIC = {
    "yolov8n": (3_157_200, 355, "fcadced826af1ebd"),
    "yolov8s": (11_166_560, 355, "4edbab139a7c7a37"),
    "yolov8m": (25_902_640, 475, "e5c8ff6c72d06937"),
    "yolov8l": (43_691_520, 595, "86023799cbde2741"),
    "yolov8x": (68_229_648, 595, "26ed408e28d9c3c5"),
    "yolo11n": (2_624_080, 499, "5f29bfb998f618b2"),
    "yolo11s": (9_458_752, 499, "d1c77f3dda19fb55"),
    "yolo11m": (20_114_688, 649, "833fce8c41b7d91c"),
    "yolo11l": (25_372_160, 1015, "13ee9c9350f17889"),
    "yolo11x": (56_966_176, 1015, "4a2aeba3d360a802"),
    "yolo26n": (2_572_280, 708, "73de5294329eb032"),
    "yolo26s": (10_009_784, 708, "2e3eaea8c4e58064"),
    "yolo26m": (21_896_248, 768, "c2003a83cfc2ee8c"),
    "yolo26l": (26_299_704, 1092, "10b5f765d4e59ad5"),
    "yolo26x": (58_993_368, 1092, "4123c28d8180829d"),
}
COCO = [f"class {i}" for i in range(80)]


def on_meta(name: str) -> DetectionModel:
    """Shapes without memory: the x models build in milliseconds."""
    with torch.device("meta"):
        return DetectionModel(load_spec(name), COCO)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_sizes_have_the_published_parameters_and_names(name: str) -> None:
    parameters, entries, digest = PUBLIC[name]
    model = on_meta(f"{name}.yaml")
    assert sum(p.numel() for p in model.parameters()) == parameters
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in model.state_dict().items())
    assert len(lines) == entries
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith(digest)


@pytest.mark.parametrize(
    ("name", "parameters"), [("yolov8p", 1_174_568), ("yolo11p", 858_832), ("yolo26p", 774_344)]
)
def test_pico_is_an_eighth_as_wide(name: str, parameters: int) -> None:
    model = on_meta(f"{name}.yaml")
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.model[0].conv.out_channels == 8


@pytest.mark.parametrize(
    ("name", "columns"), [("yolov8p.yaml", 64), ("yolo11p.yaml", 64), ("yolo26p.yaml", 4)]
)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 160)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_covers_every_cell_of_every_level(
    name: str, columns: int, height: int, width: int, layout: torch.memory_format
) -> None:
    model = build_model(load_spec(name), ["a", "b", "c"], seed=0)
    output = model(torch.rand(2, 3, height, width).to(memory_format=layout))
    cells = sum((height // s) * (width // s) for s in (8, 16, 32))
    assert model.end2end == (output.one_to_one is not None) == (columns == 4)
    for head in filter(None, (output, output.one_to_one)):
        assert head.box.shape == (2, cells, columns)
        assert head.cls.shape == (2, cells, 3)
        assert head.anchors.shape == (cells, 2)
        assert head.strides.shape == (cells, 1)
        boxes, scores = model.decode(head)
        assert boxes.shape == (2, cells, 4)
        assert scores.shape == (2, cells, 3)
        assert boxes.dtype == scores.dtype == torch.float32
    assert model.stride == (8, 16, 32)


def test_a_prediction_comes_from_its_place_in_the_image() -> None:
    """Rows and columns are not swapped when maps are flattened."""
    model = build_model(load_spec("yolov8p.yaml"), ["a"], seed=0)
    # Without the deeper levels, whose view is wide, a change stays where it is.
    head, maps = (
        model.head.eval(),
        [torch.zeros(1, c, 8 // s, 32 // s) for c, s in ((32, 1), (64, 2), (128, 4))],
    )
    with torch.no_grad():
        plain = head(maps).cls[0, :256, 0].view(8, 32)
        maps[0][0, :, 1, 30] = 9
        change = (head(maps).cls[0, :256, 0].view(8, 32) - plain).abs() > 0
    rows, columns = change.nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 3, 28, 31)


def test_decode_is_the_slow_formula() -> None:
    model = build_model(load_spec("yolo11p.yaml"), ["a", "b"], seed=1)
    with torch.no_grad():
        output = model(torch.rand(1, 3, 64, 96))
        boxes, scores = model.decode(output)
    anchor = 0
    for stride in (8, 16, 32):
        for row in range(64 // stride):
            for column in range(96 // stride):
                logits = output.box[0, anchor].tolist()
                distances = []
                for side in range(4):
                    powers = [math.exp(v) for v in logits[side * 16 : side * 16 + 16]]
                    distances.append(sum(i * p for i, p in enumerate(powers)) / sum(powers))
                left, top, right, bottom = (d * stride for d in distances)
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                expected = [x - left, y - top, x + right, y + bottom]
                assert boxes[0, anchor].tolist() == pytest.approx(expected, abs=1e-3)
                expected = [1 / (1 + math.exp(-v)) for v in output.cls[0, anchor].tolist()]
                assert scores[0, anchor].tolist() == pytest.approx(expected, rel=1e-5)
                anchor += 1
    assert anchor == boxes.shape[1]


def test_without_a_distribution_the_predictions_are_the_sides() -> None:
    model = build_model(load_spec("yolo26p.yaml"), ["a", "b"], seed=1)
    with torch.no_grad():
        output = model(torch.rand(1, 3, 64, 96))
        boxes, _ = model.decode(output)
    x, y = (output.anchors * output.strides).unbind(1)
    left, top, right, bottom = (output.box[0] * output.strides).unbind(1)
    torch.testing.assert_close(boxes[0], torch.stack([x - left, y - top, x + right, y + bottom], 1))


def test_the_second_head_begins_as_a_copy_of_the_first() -> None:
    model = build_model(load_spec("yolo26p.yaml"), ["a", "b"], seed=0)
    state = model.head.state_dict()
    second = [name for name in state if name.startswith("one2one_")]
    assert len(second) == len(state) / 2
    assert all(torch.equal(state[name], state[name.removeprefix("one2one_")]) for name in second)
    with torch.no_grad():
        model.head.cv2[0][0].conv.weight.zero_()
    assert model.head.one2one_cv2[0][0].conv.weight.any(), "it is a copy, not the same weights"


def test_the_second_head_does_not_teach_the_backbone() -> None:
    model = build_model(load_spec("yolo26p.yaml"), ["a", "b"], seed=0)
    second = model(torch.rand(2, 3, 64, 64)).one_to_one
    (second.box.square().sum() + second.cls.square().sum()).backward()
    taught = {name for name, p in model.named_parameters() if p.grad is not None}
    assert taught == {name for name, _ in model.named_parameters() if ".one2one_" in name}


def test_attention_is_the_slow_formula() -> None:
    attention = Attention(32, heads=2).eval()
    x = torch.randn(1, 32, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        qkv = attention.qkv(x)[0].flatten(1)  # (64, 6): per head 8 of q, 8 of k, 16 of v
        mixed = torch.empty(32, 6)
        for head in range(2):
            q, k, v = qkv[head * 32 : head * 32 + 32].split((8, 8, 16))
            for cell in range(6):
                weights = torch.softmax(
                    torch.stack([q[:, cell] @ k[:, other] for other in range(6)]) / 8**0.5, 0
                )
                mixed[head * 16 : head * 16 + 16, cell] = sum(
                    weights[other] * v[:, other] for other in range(6)
                )
        v = torch.cat([qkv[16:32], qkv[48:64]]).view(1, 32, 2, 3)
        expected = attention.proj(mixed.view(1, 32, 2, 3) + attention.pe(v))
        assert torch.allclose(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_training_starts_with_boxes_of_some_size_and_few_objects() -> None:
    old, new = (build_model(load_spec(f"{n}.yaml"), ["a"] * 10, seed=0) for n in ("yolo11p", "yolo26p"))
    heads = [
        (old.head.cv2, old.head.cv3),
        (new.head.cv2, new.head.cv3),
        (new.head.one2one_cv2, new.head.one2one_cv3),
    ]
    for boxes, classes in heads:
        assert all((branch[-1].bias == 2.0).all() for branch in boxes)
        for branch, stride in zip(classes, (8, 16, 32), strict=True):
            expected = math.log(5 / 10 / (640 / stride) ** 2)
            assert branch[-1].bias.tolist() == pytest.approx([expected] * 10)
    norms = [m for m in old.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.03)}
    assert [n for n, p in old.named_parameters() if not p.requires_grad] == ["model.23.dfl.conv.weight"]
    assert all(p.requires_grad for p in new.parameters())


def test_a_seed_gives_the_same_weights_and_leaves_the_global_state_alone() -> None:
    spec = load_spec("yolo11p.yaml")
    before = torch.get_rng_state()
    first = build_model(spec, ["a"], seed=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(1)  # the global state has moved on
    same, other = build_model(spec, ["a"], seed=3), build_model(spec, ["a"], seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.model[0].conv.weight, other.model[0].conv.weight)


@pytest.mark.parametrize("name", ["yolo11p.yaml", "yolo26p.yaml"])
def test_gradients_reach_every_trained_parameter_under_bf16(name: str) -> None:
    model = build_model(load_spec(name), ["a"], seed=0).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.rand(2, 3, 64, 64).to(memory_format=torch.channels_last))
    heads = filter(None, (output, output.one_to_one))
    sum(h.box.float().square().sum() + h.cls.float().square().sum() for h in heads).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_validation_in_inference_mode_does_not_spoil_training_after_it() -> None:
    model = build_model(load_spec("yolo11p.yaml"), ["a"], seed=0)
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        model.decode(model(images))
    boxes, scores = model.decode(model(images))
    (boxes.sum() + scores.sum()).backward()


def test_changing_image_sizes_get_their_own_cells() -> None:
    model = build_model(load_spec("yolo11p.yaml"), ["a"], seed=0).eval()
    with torch.no_grad():
        for size in (64, 96, 64):
            anchors = model(torch.rand(1, 3, size, size)).anchors
            assert anchors.max() == size / 8 - 0.5


def test_a_detector_needs_classes() -> None:
    with pytest.raises(ModelError, match="at least one class"):
        build_model(load_spec("yolo11p.yaml"), [])


def test_a_spec_made_by_hand_is_checked_too() -> None:
    spec = load_spec("yolo11p.yaml")
    table = {**spec.yaml, "head": spec.yaml["head"][:-1]}
    with pytest.raises(ModelError, match=r"model mine, layer 22: the last layer must be Detect"):
        build_model(ModelSpec("mine", table, "p"), ["a"])
