"""Model YAMLs: a user's own loads, and each fault is told with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tunekit.errors import ModelError
from tunekit.models.build import build_model, load_spec
from tunekit.models.spec import shipped_models

TINY = """\
nc: 80
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 2], 1, Concat, [1]]
  - [-1, 2, C2f, [32]]
  - [[6, 3], 1, Detect, [nc]]
"""


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def tiny_with(old: str, new: str) -> str:
    assert TINY.count(old) == 1, old
    return TINY.replace(old, new)


@pytest.mark.parametrize("name", shipped_models())
def test_every_shipped_name_loads(name: str) -> None:
    spec = load_spec(name)
    assert f"{spec.name}.yaml" == name
    assert spec.scale == name[-6]


def test_a_users_table_loads_and_runs(tmp_path: Path) -> None:
    model = build_model(load_spec(write(tmp_path, TINY)), ["a", "b"], seed=0)
    assert model.stride == (8, 16)
    assert model(torch.rand(1, 3, 64, 32)).box.shape == (1, 8 * 4 + 4 * 2, 64)


def test_every_module_of_the_format_works_with_text_args_and_activation(tmp_path: Path) -> None:
    text = """\
nc: 3
activation: nn.LeakyReLU(0.1)
scales: {q: [0.5, 0.5, 64]}
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, DWConv, ['32', 3, 2]]
  - [-1, 2, C3k2, [32, 'True', 0.25]]
  - [-1, 1, Conv, [48, 3, 2, None, 1, 1, 'False']]
  - [-1, 4, C3k, [48]]
  - [-1, 4, Bottleneck, [128]]
  - [-1, 1, SPPF, [128, 5]]
  - [-1, 2, C2PSA, [128]]
head:
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, nn.Upsample, [None, 2, 'nearest']]
  - [[-1, 7], 1, Concat, [1]]
  - [-1, 3, C2f, [64, True]]
  - [[11], 1, Detect, ['nc']]
"""
    model = build_model(load_spec(write(tmp_path, text)), ["a"], seed=0)
    assert model.spec.scale == "q"
    assert model(torch.rand(1, 3, 64, 64)).cls.shape == (1, 64, 1)
    assert model.model[0].conv.out_channels == 8
    assert model.model[3].conv.out_channels == 24
    assert model.model[5][-1].cv2.conv.out_channels == 32  # 128, at most 64, half of it
    assert len(model.model[5]) == 2
    assert len(model.model[4].m) == 2
    activations = {type(m).__name__ for m in model.modules() if type(m).__name__ in ("SiLU", "LeakyReLU")}
    assert activations == {"LeakyReLU"}
    assert isinstance(model.model[3].act, torch.nn.Identity)


def test_levels_from_stride_4_to_64_are_supported(tmp_path: Path) -> None:
    text = """\
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
head:
  - [[1, 2, 3, 4, 5], 1, Detect, [nc]]
"""
    model = build_model(load_spec(write(tmp_path, text)), ["a"], seed=0)
    assert model.stride == (4, 8, 16, 32, 64)
    assert model(torch.rand(2, 3, 64, 64)).cls.shape[1] == 16 * 16 + 8 * 8 + 4 * 4 + 2 * 2 + 1


def test_old_tables_scale_by_their_multiples(tmp_path: Path) -> None:
    text = "depth_multiple: 0.33\nwidth_multiple: 0.5\n" + TINY.replace("2, C2f", "6, C2f")
    model = build_model(load_spec(write(tmp_path, text)), ["a"], seed=0)
    assert model.model[3].conv.out_channels == 32
    assert len(model.model[6].m) == 2


def test_the_class_branch_follows_the_modules_of_the_table(tmp_path: Path) -> None:
    plain = build_model(load_spec(write(tmp_path, TINY)), ["a"], seed=0)
    modern = build_model(load_spec(write(tmp_path, tiny_with("C2f", "C3k2"))), ["a"], seed=0)
    assert "model.7.cv3.0.0.conv.weight" in plain.state_dict()
    assert "model.7.cv3.0.0.0.conv.weight" in modern.state_dict()


def test_a_table_may_choose_another_class_branch(tmp_path: Path) -> None:
    keys = "cls_depthwise: true\ncls_width: 24\n"
    head = build_model(load_spec(write(tmp_path, keys + TINY)), ["a"], seed=0).head
    assert [branch[0][1].conv.out_channels for branch in head.cv3] == [24, 24]
    text = "cls_depthwise: false\n" + tiny_with("C2f", "C3k2")
    assert "cv3.0.0.conv.weight" in build_model(load_spec(write(tmp_path, text)), ["a"]).head.state_dict()


@pytest.mark.parametrize(
    ("args", "key", "active"),
    [
        ("[64]", "", True),
        ("[64, 5]", "", True),
        ("[64, 5, 3]", "", False),
        ("[64, 5, 3, True]", "", False),
        ("[64, 5]", "sppf_act: false\n", False),
        ("[64, 5, 3, True]", "sppf_act: true\n", True),
    ],
)
def test_the_first_pooling_convolution_is_active_unless_the_row_names_its_repeats_or_the_table_says(
    tmp_path: Path, args: str, key: str, active: bool
) -> None:
    text = key + tiny_with("- [-1, 1, Conv, [64, 3, 2]]", f"- [-1, 1, SPPF, {args}]").replace(
        "2, nearest", "1, nearest"
    )
    layer = build_model(load_spec(write(tmp_path, text)), ["a"], seed=0).model[3]
    assert isinstance(layer.cv1.act, torch.nn.SiLU) is active
    assert (layer.n, layer.add) == (3, False)  # 32 channels come in and 64 leave: nothing to add


def test_pooling_repeats_and_adds_as_its_row_says(tmp_path: Path) -> None:
    text = tiny_with("- [-1, 1, Conv, [64, 3, 2]]", "- [-1, 1, SPPF, [32, 3, 2, True]]").replace(
        "2, nearest", "1, nearest"
    )
    layer = build_model(load_spec(write(tmp_path, text)), ["a"], seed=0).model[3]
    assert (layer.m.kernel_size, layer.n, layer.add, layer.cv2.conv.in_channels) == (3, 2, True, 3 * 16)


@pytest.mark.parametrize(
    ("keys", "end2end", "columns"),
    [
        ("end2end: True\nreg_max: 1\n", True, 4),
        ("end2end: true\n", True, 64),
        ("end2end: False\nreg_max: 1\n", False, 4),
        ("end2end:\nreg_max: 8\n", False, 32),
    ],
)
def test_a_table_chooses_its_heads_and_their_box_sides(
    tmp_path: Path, keys: str, end2end: bool, columns: int
) -> None:
    model = build_model(load_spec(write(tmp_path, keys + TINY)), ["a"], seed=0)
    output = model(torch.rand(1, 3, 32, 32))
    assert model.end2end is end2end
    assert (output.one_to_one is not None) is end2end
    assert (model.reg_max, output.box.shape[2]) == (columns // 4, columns)


def test_a_block_with_attention_may_be_written_in_a_row(tmp_path: Path) -> None:
    text = tiny_with("2, C2f, [32]", "2, C3k2, [128, True, 0.5, True]")
    model = build_model(load_spec(write(tmp_path, text)), ["a"], seed=0)
    assert [type(part).__name__ for part in model.model[6].m[1]] == ["Bottleneck", "PSABlock"]
    assert model(torch.rand(1, 3, 32, 32)).cls.shape == (1, 20, 1)


@pytest.mark.parametrize(
    ("name", "scales", "expected"),
    [
        ("yolov8s-mine.yaml", "{n: [1, .5, 64], s: [1, 1, 64]}\nscale: n", "s"),
        ("mine.yaml", "{n: [1, .5, 64], s: [1, 1, 64]}\nscale: s", "s"),
        ("mine.yaml", "{s: [1, .5, 64], t: [1, 1, 64]}", "s"),
    ],
)
def test_the_scale_comes_from_the_file_name_then_the_key_then_the_first(
    tmp_path: Path, name: str, scales: str, expected: str
) -> None:
    assert load_spec(write(tmp_path, f"scales: {scales}\n{TINY}", name)).scale == expected


def test_a_family_file_beside_the_asked_name_serves_its_scales(tmp_path: Path) -> None:
    write(tmp_path, f"scales: {{n: [1, .5, 64], s: [1, 1, 64]}}\n{TINY}", "yolov8-mine.yaml")
    assert load_spec(str(tmp_path / "yolov8s-mine.yaml")).scale == "s"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("C2f", "C2F", 10, r"unknown module 'C2F': did you mean C2f\?"),
        ("C2f", "[C2f]", 10, "unknown module"),
        ("[[-1, 2]", "[[-1, 9]", 9, "from 9 is out of range: layers 0 to 4 come before it"),
        ("[[-1, 2]", "[[-1, -7]", 9, "from -7 is out of range"),
        (
            "[[-1, 2]",
            "[[-1, 1]",
            9,
            "Concat joins maps of one size, but layer 4 has stride 8, layer 1 has stride 4",
        ),
        ("- [-1, 2, C2f, [32]]", "- [[-1, 2], 2, C2f, [32]]", 10, "C2f takes one input"),
        ("- [-1, 2, C2f, [32]]", "- [-1, 2, C2PSA, [32]]", 10, "C2PSA keeps its channels: 96 come in and 32"),
        ("C2f, [32]", "C2f, []", 10, r"C2f takes 1 to 4 args \(c2, shortcut, g, e\), not 0"),
        ("C2f, [32]", "C2f, [32, 1, 2, 3, 4]", 10, "not 5"),
        ("C2f, [32]", "C2f, [wide]", 10, "output channels, not 'wide'"),
        ("[-1, 2, C2f, [32]]", "[-1, 2, C2f]", 10, "a layer is"),
        ("[-1, 2, C2f", "[-1, 0, C2f", 10, "repeats must be a whole number from 1, not 0"),
        ("[-1, 2, C2f", "[x, 2, C2f", 10, "from must be a layer number"),
        ("[None, 2, nearest]", "[None, half]", 8, "nn.Upsample takes"),
        ("[None, 2, nearest]", "[None, 2, closest]", 8, "no mode 'closest'"),
        ("[64, 3, 2]", "[64, 3, 0]", 6, "stride must be a whole number from 1"),
        ("  - [[6, 3], 1, Detect, [nc]]\n", "", 10, "the last layer must be Detect, not C2f"),
        ("[nc]", "[nc, 16]", 11, "Detect takes one arg"),
        ("2, C2f, [32]", "1, Detect, [nc]", 10, "Detect must be the last layer"),
        ("C2f, [32]", "SPPF, [32, 4]", 10, r"SPPF takes \[c2, k, n, shortcut\].* odd k, not \[32, 4\]"),
        ("C2f, [32]", "SPPF, [32, 5, 0]", 10, "SPPF takes"),
        ("C2f, [32]", "SPPF, [32, 5, 3, 1]", 10, "SPPF takes"),
    ],
)
def test_a_wrong_layer_is_told_with_file_and_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    path = write(tmp_path, tiny_with(old, new))
    with pytest.raises(ModelError, match=message) as fault:
        load_spec(path)
    assert str(fault.value).startswith(f"{path}:{line}: layer {line - 3 - (line > 7)}: ")


def test_args_that_torch_refuses_name_the_layer(tmp_path: Path) -> None:
    path = write(tmp_path, tiny_with("Conv, [64, 3, 2]", "Conv, [64, 3, 2, None, 5]"))
    with pytest.raises(ModelError, match="layer 3: Conv cannot be built"):
        build_model(load_spec(path), ["a"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must map backbone and head"),
        ("- 1\n- 2\n", "must map backbone and head"),
        ("backbone: [1, 2\nhead: []\n", r":2 is not valid YAML"),
        ("nc: 80\nbackbone: []\n", "it needs `head:`"),
        ("backbone: []\nhead: []\n", "no layers"),
        (f"scales: {{n: [1, 1]}}\n{TINY}", r"scales: n must be \[depth, width, max channels\]"),
        (f"width_multiple: -1\n{TINY}", "must be positive"),
        (f"scale: z\nscales: {{n: [1, 1, 64]}}\n{TINY}", "has no scale 'z', only n"),
        (f"activation: os.system('x')\n{TINY}", "unknown activation"),
        (f"ch: 1\n{TINY}", "images have 3 channels"),
        (f"end2end: 2\n{TINY}", ":1: end2end must be true or false, not 2"),
        (f"# mine\nend2end: yes please\n{TINY}", ":2: end2end must be true or false, not 'yes please'"),
        (f"sppf_act: 1\n{TINY}", ":1: sppf_act must be true or false, not 1"),
        (f"cls_depthwise: 1\n{TINY}", ":1: cls_depthwise must be true or false, not 1"),
        (f"cls_width: 0\n{TINY}", ":1: cls_width must be a whole number from 1, not 0"),
        (f"reg_max: 2.5\n{TINY}", ":1: reg_max must be a whole number from 1, not 2.5"),
        (f"reg_max: 0\n{TINY}", ":1: reg_max must be a whole number from 1, not 0"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ModelError, match=message) as fault:
        load_spec(path)
    assert path in str(fault.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("yolo11q.yaml", "no scale 'q', only p, n, s, m, l, x"),
        ("yolo12n.yaml", "there is no such file: did you mean yolo26n.yaml"),
        ("yolo11n", "not a model YAML: did you mean yolo11n.yaml"),
        ("nowhere/yolo11n.yaml", "there is no such file"),
        ("resnet.yaml", r"Shipped are yolo11\[pnsmlx\].yaml, yolo26.* and yolov8\[pnsmlx\].yaml"),
    ],
)
def test_an_unknown_name_says_what_there_is(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_spec(model)


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00nc")
    with pytest.raises(ModelError, match="not valid YAML"):
        load_spec(str(path))
