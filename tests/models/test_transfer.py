"""Weights into another model: what fits moves to the bit, classes move by name, the rest stays fresh."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tunekit.models.build import DetectionModel, build_model, load_spec
from tunekit.models.checkpoint import Checkpoint
from tunekit.models.transfer import Transfer, transfer


def checkpoint_of(model: DetectionModel) -> Checkpoint:
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return Checkpoint(model.spec, model.names, weights, {}, {}, {})


def model(table: str, names: str, seed: int) -> DetectionModel:
    return build_model(load_spec(table), names.split(), seed=seed)


def moved(
    source: str, target: str, table: str = "yolo11p.yaml", other: str | None = None
) -> tuple[DetectionModel, DetectionModel, DetectionModel, Transfer]:
    """The source, the target before and after, and what was told."""
    old = model(table, source, seed=1)
    with torch.no_grad():
        for parameter in old.parameters():
            if parameter.requires_grad:
                parameter.add_(0.25)
    new = model(other or table, target, seed=2)
    told = transfer(new, checkpoint_of(old))
    return old, model(other or table, target, seed=2), new, told


def outputs(detector: DetectionModel) -> list[torch.nn.Conv2d]:
    heads = [detector.head.cv3, *([detector.head.one2one_cv3] if detector.end2end else [])]
    return [branch[-1] for head in heads for branch in head]


def test_the_same_classes_take_everything() -> None:
    old, _, new, told = moved("a b c", "a b c")
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in new.state_dict().items())
    assert (told.loaded, told.fresh, told.same_classes) == (told.total, (), True)


def test_names_that_differ_in_case_and_blanks_are_the_same() -> None:
    old = model("yolo11p.yaml", "a b", seed=1)
    new = build_model(load_spec("yolo11p.yaml"), (" A", "B "), seed=2)
    assert transfer(new, checkpoint_of(old)).same_classes


@pytest.mark.parametrize("target", ["x y", "x y z u"])
@pytest.mark.parametrize("table", ["yolov8p.yaml", "yolo11p.yaml", "yolo26p.yaml"])
def test_other_classes_leave_only_their_outputs_fresh(table: str, target: str) -> None:
    old, before, new, told = moved("a b c", target, table)
    kept, fresh, found = (m.state_dict() for m in (old, before, new))
    expected = {
        f"model.{len(new.model) - 1}.cv3.{level}.2.{kind}"
        for level in range(3)
        for kind in ("weight", "bias")
    }
    if new.end2end:
        expected |= {name.replace("cv3", "one2one_cv3") for name in expected}
    assert set(told.fresh) == expected
    assert all(torch.equal(found[name], fresh[name]) for name in expected)
    assert all(torch.equal(found[name], kept[name]) for name in found.keys() - expected)
    assert (told.total - told.loaded, told.same_classes, told.known) == (len(expected), False, ())


@pytest.mark.parametrize("table", ["yolov8p.yaml", "yolo26p.yaml"])
@pytest.mark.parametrize("target", ["c b a", "new c", "a new b other c"])
def test_classes_known_by_name_keep_their_outputs_wherever_they_stand(table: str, target: str) -> None:
    old, before, new, told = moved("a b c", target, table)
    for theirs, fresh, ours in zip(outputs(old), outputs(before), outputs(new), strict=True):
        for row, name in enumerate(target.split()):
            source = (theirs, old.names.index(name)) if name in old.names else (fresh, row)
            assert torch.equal(ours.weight[row], source[0].weight[source[1]])
            assert torch.equal(ours.bias[row], source[0].bias[source[1]])
    assert told.known == tuple(name for name in target.split() if name in old.names)


def test_of_two_classes_of_one_name_the_first_counts() -> None:
    old, _, new, told = moved("a a b", "b a")
    assert torch.equal(outputs(new)[0].weight[1], outputs(old)[0].weight[0])
    assert told.known == ("b", "a")


def test_another_table_takes_what_has_its_name_and_shape(tmp_path: Path) -> None:
    old, before, new, told = moved("a b", "a b", "yolov8p.yaml", "yolo11p.yaml")
    kept, fresh, found = (m.state_dict() for m in (old, before, new))
    for name, tensor in found.items():
        like = name.replace("num_batches_tracked", "running_mean")
        fits = like in kept and kept[like].shape == fresh[like].shape
        assert torch.equal(tensor, kept[name] if fits else fresh[name]), name
        assert fits is (name not in told.fresh)
    assert 0 < told.loaded < told.total


def test_a_wider_model_takes_no_outputs_of_a_narrower_one() -> None:
    _, before, new, told = moved("a b c", "c d", "yolo11p.yaml", "yolo11n.yaml")
    assert all(torch.equal(a.bias, b.bias) for a, b in zip(outputs(before), outputs(new), strict=True))
    assert told.known == ()


def test_gradients_are_asked_for_as_before() -> None:
    _, before, new, _ = moved("a b", "c")
    assert [p.requires_grad for p in new.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(p.is_leaf and p.grad_fn is None for p in new.parameters())
