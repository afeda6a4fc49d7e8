"""Freezing: what `freeze` names stays as it is, all else trains."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError
from tunekit.models.build import DetectionModel, build_model, load_spec
from tunekit.models.freeze import frozen_modules
from tunekit.training.optim import build_optimizer

NAMES = ("cat", "dog")


def model(name: str = "yolo11p.yaml") -> DetectionModel:
    return build_model(load_spec(name), NAMES, seed=0)


def fixed(detector: DetectionModel) -> set[str]:
    return {name for name, parameter in detector.named_parameters() if not parameter.requires_grad}


def of_layers(detector: DetectionModel, *prefixes: str) -> set[str]:
    return {name for name, _ in detector.named_parameters() if name.startswith(prefixes)}


DFL = "model.23.dfl.conv.weight"


@pytest.mark.parametrize(
    ("freeze", "prefixes"),
    [
        (None, ()),
        (0, ()),
        (3, ("model.0.", "model.1.", "model.2.")),
        ((0, 22), ("model.0.", "model.22.")),
        ((2, "23.cv2"), ("model.2.", "model.23.cv2.")),
        (("model.23.cv3.0",), ("model.23.cv3.0.",)),
        (("1.conv.weight",), ("model.1.conv.weight",)),
        ((11, 1), ("model.1.",)),  # 11 is an upsampling without weights
    ],
)
def test_exactly_the_named_layers_and_the_dfl_need_no_gradients(freeze, prefixes):
    detector = model()
    frozen_modules(detector, freeze)
    assert fixed(detector) == {DFL} | (of_layers(detector, *prefixes) if prefixes else set())


def test_the_dfl_is_frozen_whatever_it_was():
    detector = model().requires_grad_(True)
    frozen_modules(detector, None)
    assert fixed(detector) == {DFL}


def test_a_training_step_leaves_frozen_layers_and_their_statistics_alone_and_moves_the_rest():
    detector = model()
    norms = frozen_modules(detector, (0, 2, "23.cv2"))
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    optimizer = build_optimizer(detector, build_args(TrainArgs, {"optimizer": "SGD"}))
    detector.train()
    for norm in norms:
        norm.eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    output = detector(images)
    (output.box.square().mean() + output.cls.square().mean()).backward()
    optimizer.step()
    changed = {
        name for name, tensor in detector.state_dict().items() if not torch.equal(tensor, before[name])
    }
    kept = ("model.0.", "model.2.", "model.23.cv2.", "model.23.dfl.")
    assert changed == {name for name in before if not name.startswith(kept)}


def test_the_norms_handed_back_are_those_of_the_named_layers():
    detector = model()
    norms = frozen_modules(detector, 2)
    assert norms == (detector.model[0].bn, detector.model[1].bn)
    assert len(frozen_modules(model(), (22,))) == sum(
        isinstance(module, nn.BatchNorm2d) for module in detector.model[22].modules()
    )


def test_frozen_parameters_are_in_no_group():
    detector = model()
    frozen_modules(detector, 5)
    for optimizer in ("AdamW", "MuSGD"):
        groups = build_optimizer(detector, build_args(TrainArgs, {"optimizer": optimizer})).param_groups
        held = {id(parameter) for group in groups for parameter in group["params"]}
        assert held == {id(parameter) for parameter in detector.parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("freeze", "told"),
    [
        (25, "freeze=25: .* yolo11p.* has 24 layers, 0 to 23"),
        (-1, "freeze=-1: .* 24 layers"),
        ((0, 24), "freeze=0,24: there is no 24; .* has 24 layers, 0 to 23"),
        ((-2,), "there is no -2"),
        (("22.cv9",), "there is no 22.cv9; .*Did you mean 22.cv[123]"),
        (("23.cv2.",), "there is no 23.cv2.; .*Did you mean 23.cv2"),
        (("backbone",), "there is no backbone; .*24 layers, 0 to 23$"),
        ((11,), "freeze=11 freezes nothing.*24 layers"),
        (24, "freeze=24 leaves nothing to train: .*24 layers"),
        (tuple(range(24)), "leaves nothing to train"),
    ],
)
def test_what_cannot_be_frozen_is_told_with_what_there_is(freeze, told):
    with pytest.raises(ArgumentError, match=told):
        frozen_modules(model(), freeze)
