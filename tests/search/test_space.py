"""Space files: what is read, what is refused and how it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunekit.args import TrainArgs, tunable_names
from tunekit.checks import build_args
from tunekit.errors import SpaceError
from tunekit.search.space import Parameter, Space, load_space
from tunekit.search_args import TuneArgs

# What tuners of YOLO detectors usually search: the standard set of hyperparameters.
STANDARD = """
lr0 lrf momentum weight_decay warmup_epochs warmup_momentum box cls cls_pw dfl hsv_h hsv_s hsv_v degrees
translate scale shear perspective flipud fliplr bgr mosaic mixup cutmix copy_paste close_mosaic
"""
WRITTEN = """
# mine
lr0: {range: [1e-4, 1e-1], scale: log}
close_mosaic: {range: [0, 20], scale: int, prior: 4}
optimizer:
  choice: [SGD, AdamW]
  prior: AdamW
batch: {choice: [8, 16]}
"""


def write(folder: Path, text: str) -> str:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("name", "size"), [("default", 26), ("quick", 8), ("augment", 16), ("scales", 9)])
def test_shipped_spaces_start_from_the_defaults_of_training(name: str, size: int) -> None:
    space = load_space(name)
    assert space.name == name
    assert len(space.parameters) == size
    assert space.defaults() == {key: TrainArgs.model_fields[key].default for key in space.defaults()}
    for unit in (0.0, 0.5, 1.0):  # the whole range is legal for a training
        build_args(TuneArgs, {p.name: p.from_unit(unit) for p in space.parameters})


def test_the_default_space_has_the_standard_names() -> None:
    assert set(load_space("default").defaults()) == set(STANDARD.split())


def test_scales_is_the_quick_space_and_the_model() -> None:
    scales, quick = load_space("scales"), load_space("quick")
    assert scales.without(["model"]).parameters == quick.parameters
    assert set(scales.options("model")) > {"yolo11n.yaml"}
    assert quick.options("model") == ()


@pytest.mark.parametrize("name", ["default", "quick"])
def test_lr0_holds_what_sgd_and_adamw_need(name: str) -> None:
    lr0 = next(parameter for parameter in load_space(name).parameters if parameter.name == "lr0")
    assert lr0.scale == "log"
    for value in (0.01, 0.0003, 0.002):
        assert lr0.low <= value <= lr0.high


def test_a_space_file_is_read(tmp_path: Path) -> None:
    space = load_space(write(tmp_path, WRITTEN))
    assert space == Space(
        "space",
        (
            Parameter(name="lr0", kind="float", low=1e-4, high=0.1, scale="log", prior=0.01),
            Parameter(name="close_mosaic", kind="int", low=0, high=20, prior=4),
            Parameter(name="optimizer", kind="choice", choices=("SGD", "AdamW"), prior="AdamW"),
            Parameter(name="batch", kind="choice", choices=(8, 16), prior=16),
        ),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr: {range: [0.1, 1]}", ":1: unknown argument 'lr': did you mean 'lrf'?"),
        ("\n\nmixupp: {range: [0, 1]}", ":3: unknown argument 'mixupp': did you mean 'mixup'?"),
        ("epochs: {range: [1, 9]}", ":1: epochs: is not an argument that can be tuned"),
        ("? [a]\n: {range: [0, 1]}", ":1: unknown argument"),
        ("lr0: {range: [0.1, 0.01]}", ":1: lr0: low 0.1 is above high 0.01"),
        ("lr0: {range: [0.1, 0.1]}", "give lr0=0.1 to the command"),
        ("weight_decay: {range: [0, 0.1], scale: log}", "needs a range above 0"),
        ("momentum: {range: [0, 0.9], scale: logit}", "inside (0, 1)"),
        ("lr0: {range: [1e-5, 1e-3]}", "prior 0.01 is outside the range [1e-05, 0.001]"),
        ("lr0: {range: [1e-5, 1e-1], prior: 0.5}", "prior 0.5 is outside"),
        ("lr0: {range: [1e-5, 2]}", "lr0=2:"),
        ("momentum: {range: [0.5, 1]}", "momentum=1:"),
        ("lr0: {range: [a, 0.1]}", "lr0=a:"),
        ("lr0: {range: [.nan, 0.1]}", "lr0=nan:"),
        ("lr0: {range: [true, 0.1]}", "True is not a number"),
        ("lr0: {range: [0.1]}", "must be [low, high]"),
        ("lr0: {range: 0.1}", "must be [low, high]"),
        ("lr0: {range: [0.001, 0.1], scale: lag}", "did you mean 'log'?"),
        ("lr0: {range: [0.001, 0.1], scale: int}", "takes fractions"),
        ("lr0: {range: [0.001, 0.1], scale: [log]}", "scale"),
        ("close_mosaic: {range: [0, 10.5]}", "close_mosaic=10.5:"),
        ("lr0: {range: [0.001, 0.1], priro: 0.01}", "unknown key 'priro': did you mean 'prior'?"),
        ("lr0: {scale: log}", "needs either range"),
        ("lr0: {range: [0.001, 0.1], choice: [0.01, 0.02]}", "needs either range"),
        ("lr0: [0.001, 0.1]", "write lr0: {range: [low, high]}"),
        ("cos_lr: {range: [0, 1]}", "use choice: [true, false]"),
        ("optimizer: {range: [0, 1]}", "use choice: [SGD, "),
        ("model: {range: [0, 1]}", "use choice: [...]"),
        ("model: {choice: [a.pt, b.pt]}", "default 'yolo11n.yaml' is not among the choices"),
        ("optimizer: {choice: [SGD, auto], prior: SGD}", "auto sets lr0 and momentum itself"),
        ("optimizer: {choice: [SGD, AdamWW], prior: SGD}", "optimizer=AdamWW"),
        ("optimizer: {choice: [SGD, AdamW]}", "default 'auto' is not among the choices"),
        ("batch: {choice: [8, 32], prior: 16}", "prior 16 is not among the choices"),
        ("batch: {choice: [16]}", "at least two"),
        ("batch: {choice: 16}", "must be a list"),
        ("batch: {choice: [8, 16], scale: log}", "no scale"),
        ("lr0: {range: [0.001, 0.1]}\nlr0: {range: [0.001, 0.1]}", ":2: lr0: is already in line 1"),
        ("", "is empty"),
        ("# only words\n", "is empty"),
        ("[lr0]", "must be a mapping"),
        ("{}", "must be a mapping"),
        ("lr0", "must be a mapping"),
        ("lr0: {range: [0.1\nlrf: 2", "is not YAML"),
        ("lr0: !!python/object:os.x {}", ":1: is not YAML"),
        ("lr0: &a {range: *a}", "is not YAML"),
        ("a\0b", "is not YAML"),
    ],
)  # fmt: skip
def test_faults_name_the_file_the_line_and_the_way_out(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SpaceError) as fault:
        load_space(path)
    assert str(fault.value).startswith(path)
    assert words in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_missing_file_an_unknown_name_a_folder_and_bytes_are_told(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00lr0")
    for space, words in {
        "defualt": "did you mean default?",
        "nonsense": "augment, default, quick",
        str(tmp_path / "gone.yaml"): "no such file",
        str(tmp_path): "cannot be read",
        str(tmp_path / "bytes.yaml"): "UTF-8",
    }.items():
        with pytest.raises(SpaceError) as fault:
            load_space(space)
        assert words in str(fault.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["lr0", "cos_lr", "optimizer", "close_mosaic", "lr", "epochs", ""]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-9, 9)
            | st.floats()
            | st.sampled_from(["log", "1e-5", "x"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["range", "choice", "scale", "prior", "x"]), inner, max_size=4
                )
            ),
            max_leaves=8,
        ),
        max_size=3,
    )
)
def test_any_yaml_is_a_space_or_a_space_error(tmp_path: Path, content: dict[str, object]) -> None:
    path = write(tmp_path, yaml.safe_dump(content))
    try:
        space = load_space(path)
    except SpaceError:
        return
    assert {parameter.name for parameter in space.parameters} <= set(tunable_names())


@pytest.mark.parametrize("name", ["default", "quick", "augment", "scales"])
def test_a_written_space_reads_back_the_same(tmp_path: Path, name: str) -> None:
    space = load_space(name)
    assert load_space(write(tmp_path, space.to_yaml())).parameters == space.parameters


def test_a_written_choice_reads_back_the_same(tmp_path: Path) -> None:
    text = "optimizer: {choice: [SGD, AdamW], prior: SGD}\ncos_lr: {choice: [true, false]}\n"
    space = load_space(write(tmp_path, text + "batch: {range: [2, 64], scale: log}\n"))
    assert load_space(write(tmp_path, space.to_yaml())).parameters == space.parameters


def test_priors_can_be_replaced_by_what_the_call_says() -> None:
    space = load_space("quick").with_priors({"lr0": 0.002, "momentum": 0.9, "epochs": 3})
    assert space.defaults() == load_space("quick").defaults() | {"lr0": 0.002, "momentum": 0.9}
    with pytest.raises(SpaceError, match=r"lr0: prior 0\.5 is outside"):
        space.with_priors({"lr0": 0.5})


def test_parameters_can_be_left_out_but_not_all() -> None:
    space = load_space("quick")
    assert set(space.without(["lr0", "degrees"]).defaults()) == set(space.defaults()) - {"lr0"}
    with pytest.raises(SpaceError, match="nothing to tune"):
        space.without(space.defaults())


def test_a_name_twice_is_no_space() -> None:
    lr0 = load_space("quick").parameters[0]
    with pytest.raises(SpaceError, match="twice"):
        Space("mine", (lr0, lr0))
