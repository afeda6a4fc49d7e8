"""What a training begins with: weights of a checkpoint or fresh ones by the seed, and a sentence about it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models.lookalike import model_of_theirs, write
from tunekit.args import TrainArgs
from tunekit.errors import ArgumentError, CheckpointError, ModelError
from tunekit.models.build import DetectionModel, build_model, load_spec
from tunekit.models.start import check_model, starting_model
from tunekit.models.weights import load_model, save_model

NAMES = ("class 0", "class 1", "class 2")  # of model_of_theirs


def same(one: DetectionModel, other: DetectionModel) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def public(tmp_path: Path) -> str:
    return str(write(tmp_path / "public.pt", model_of_theirs()))


@pytest.fixture
def own(tmp_path: Path) -> str:
    save_model(tmp_path / "own.pt", model_of_theirs(seed=3), train_args={}, metrics={})
    return str(tmp_path / "own.pt")


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_yaml_alone_begins_fresh_by_the_seed(pretrained: bool) -> None:
    args = TrainArgs(model="yolo11p.yaml", pretrained=pretrained, seed=5)
    model, told = starting_model(args, ("a", "b"))
    assert told is None
    assert same(model, build_model(load_spec("yolo11p.yaml"), ("a", "b"), seed=5))


@pytest.mark.parametrize("kind", ["public", "own"])
def test_a_checkpoint_for_its_own_classes_goes_on_to_the_bit(
    kind: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind)
    model, told = starting_model(TrainArgs(model=path), NAMES)
    assert same(model, load_model(Path(path)))
    assert (model.names, model.spec) == (NAMES, load_model(Path(path)).spec)
    assert told == f"begins with all 499 tensors of {path}"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("x", "y"), "its 3 classes give way to 2, whose outputs begin anew"),
        (("x", "y", "z"), "its 3 classes give way to 3, whose outputs begin anew"),
        (("CLASS 2", "new"), "its 3 classes give way to 2, of which it knows 1 by name (CLASS 2)"),
    ],
)
def test_a_checkpoint_for_other_classes_keeps_all_but_their_outputs(
    names: tuple[str, ...], sentence: str, public: str
) -> None:
    model, told = starting_model(TrainArgs(model=public, seed=4), names)
    old = load_model(Path(public))
    assert model.names == names
    assert told == f"begins with 493 of 499 tensors of {public}; {sentence}"
    differing = [
        name for name, tensor in model.state_dict().items() if not equal(tensor, old.state_dict()[name])
    ]
    assert differing == [
        f"model.23.cv3.{level}.2.{kind}" for level in range(3) for kind in ("weight", "bias")
    ]
    fresh = build_model(model.spec, names, seed=4)
    row = len(names) - 1
    assert torch.equal(model.head.cv3[1][-1].weight[row], fresh.head.cv3[1][-1].weight[row])
    assert torch.equal(model.head.cv3[1][-1].bias[row], fresh.head.cv3[1][-1].bias[row])


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def test_both_heads_of_yolo26_come_over(tmp_path: Path) -> None:
    path = str(write(tmp_path / "26.pt", model_of_theirs("yolo26p.yaml")))
    model, told = starting_model(TrainArgs(model=path), ("x",))
    old = load_model(Path(path))
    assert torch.equal(model.head.one2one_cv2[0][0].conv.weight, old.head.one2one_cv2[0][0].conv.weight)
    assert torch.equal(model.head.one2one_cv3[0][0][0].conv.weight, old.head.one2one_cv3[0][0][0].conv.weight)
    assert told is not None
    assert told.startswith("begins with 696 of 708 tensors")


def test_the_class_branch_keeps_the_width_that_its_weights_were_trained_at(tmp_path: Path) -> None:
    """80 classes make it wider than 2 do: as narrow as that, none of it could come over."""
    path = str(write(tmp_path / "coco.pt", model_of_theirs(classes=80)))
    for args in (TrainArgs(model=path), TrainArgs(model="yolo11p.yaml", pretrained=path)):
        model, told = starting_model(args, ("x", "y"))
        assert model.head.cv3[0][-1].in_channels == 80
        assert told is not None
        assert told.startswith("begins with 493 of 499 tensors")
        save_model(tmp_path / "again.pt", model, train_args={}, metrics={})
        assert same(load_model(tmp_path / "again.pt"), model)
        model, _ = starting_model(TrainArgs(model=str(tmp_path / "again.pt")), ("x", "y", "z"))
        assert model.head.cv3[0][-1].in_channels == 80


def test_a_start_is_the_same_for_the_same_seed_and_leaves_chance_alone(public: str) -> None:
    before = torch.get_rng_state()
    first, second, other = (
        starting_model(TrainArgs(model=public, seed=seed), ("x", "y"))[0] for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert same(first, second)
    assert not same(first, other)


def test_pretrained_false_takes_the_architecture_alone(public: str) -> None:
    model, told = starting_model(TrainArgs(model=public, pretrained=False, seed=6), NAMES)
    spec = load_model(Path(public)).spec
    assert same(model, build_model(spec, NAMES, seed=6))
    assert told == f"{public}: its architecture with fresh weights (pretrained=False)"


def test_a_yaml_takes_what_fits_of_a_checkpoint(public: str) -> None:
    args = TrainArgs(model="yolov8p.yaml", pretrained=public, seed=1)
    model, told = starting_model(args, NAMES)
    assert told is not None
    loaded = int(told.split()[2])
    assert told == f"begins with {loaded} of 355 tensors of {public}"
    weights = load_model(Path(public)).state_dict()
    ours = model.state_dict()

    def fits(name: str) -> bool:
        return name in weights and weights[name].shape == ours[name].shape

    expected = [n for n in ours if fits(n) and fits(n.replace("num_batches_tracked", "running_mean"))]
    assert 20 < len(expected) == loaded
    assert all(torch.equal(ours[name], weights[name]) for name in expected)


def test_a_checkpoint_of_which_nothing_fits_is_refused(public: str, tmp_path: Path) -> None:
    table = tmp_path / "mine.yaml"
    table.write_text(
        "backbone:\n  - [-1, 1, Conv, [24, 5, 2]]\n  - [-1, 1, Conv, [24, 5, 2]]\n"
        "head:\n  - [[1], 1, Detect, [nc]]\n"
    )
    with pytest.raises(CheckpointError, match="none of its weights fits model="):
        starting_model(TrainArgs(model=str(table), pretrained=public), NAMES)


def test_what_cannot_be_begun_with_is_told_before_anything_is_built(public: str, tmp_path: Path) -> None:
    check_model(public, True)
    check_model(public, False)
    check_model("yolo11p.yaml", public)
    with pytest.raises(ArgumentError, match="brings its own weights: leave pretrained="):
        check_model(public, public)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        check_model(str(tmp_path / "none.pt"), True)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        check_model("yolo11p.yaml", str(tmp_path / "none.pt"))
    with pytest.raises(ModelError, match="there is no such file"):
        check_model("yolo99n.yaml", True)


def test_own_weights_that_do_not_fit_their_table_are_told(own: str) -> None:
    content = torch.load(own, weights_only=True)
    content["weights"]["model.0.conv.weight"] = torch.zeros(1)
    torch.save(content, own)
    with pytest.raises(CheckpointError, match=r"its model\.0\.conv\.weight does not fit"):
        starting_model(TrainArgs(model=own), NAMES)
