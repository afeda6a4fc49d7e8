"""Folding batch norms into convolutions changes nothing but the time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tunekit.models.build import DetectionModel, build_model, load_spec
from tunekit.models.fuse import fused
from tunekit.models.heads import HeadOutput


def trained(name: str) -> DetectionModel:
    """A model whose batch norms have seen something, in training mode."""
    model = build_model(load_spec(name), ["a", "b", "c"], seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_mean, module.bias):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
                for tensor in (module.running_var, module.weight):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        for parameter in model.head.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def heads(output: HeadOutput) -> list[HeadOutput]:
    return [output] if output.one_to_one is None else [output, output.one_to_one]


@pytest.mark.parametrize("name", ["yolov8p.yaml", "yolo11p.yaml", "yolo26p.yaml"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_both_heads_of_the_copy_say_the_same(name: str, layout: torch.memory_format) -> None:
    model = trained(name).to(memory_format=layout)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(2)).to(memory_format=layout)
    with torch.no_grad():
        found, expected = fused(model)(images), model.eval()(images)
    for ours, theirs in zip(heads(found), heads(expected), strict=True):
        torch.testing.assert_close(ours.box, theirs.box, atol=1e-4, rtol=0)
        torch.testing.assert_close(ours.cls, theirs.cls, atol=1e-4, rtol=0)
        assert torch.equal(ours.anchors, theirs.anchors)


def test_no_batch_norm_is_left_and_nothing_is_trained() -> None:
    copy = fused(trained("yolo26p.yaml"))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copy.modules())
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert not any(module.training for module in copy.modules())
    assert copy.end2end
    assert copy.names == ("a", "b", "c")


def test_the_model_stays_as_it_is_and_the_copy_does_not_follow_it() -> None:
    model = trained("yolo26p.yaml")
    model.model[0].bn.eval()  # a frozen part
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.rand(1, 3, 64, 64)
    copy = fused(model)
    with torch.no_grad():
        first = copy(images)
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert all(p.requires_grad for p in model.parameters())
        for parameter in model.parameters():
            parameter.zero_()
        again = copy(images)
    assert torch.equal(first.box, again.box)
    assert torch.equal(first.one_to_one.cls, again.one_to_one.cls)


@pytest.mark.parametrize("name", ["yolo11p.yaml", "yolo26p.yaml"])
def test_a_copy_of_another_type_says_what_autocast_says(name: str) -> None:
    model = trained(name)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    typed = fused(model, torch.bfloat16)
    assert {p.dtype for p in typed.parameters()} == {torch.bfloat16}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, expected = typed(images), fused(model)(images)
    assert found.cls.dtype == torch.bfloat16
    for ours, theirs in zip(heads(found), heads(expected), strict=True):
        assert torch.equal(ours.box, theirs.box)
        assert torch.equal(ours.cls, theirs.cls)


def test_the_head_that_needs_no_nms_can_be_had_alone() -> None:
    model = trained("yolo26p.yaml")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    alone = fused(model, nms_free=True)
    with torch.no_grad():
        found, expected = alone(images), fused(model)(images).one_to_one
    assert found.one_to_one is None
    assert torch.equal(found.box, expected.box)
    assert torch.equal(found.cls, expected.cls)
    assert torch.equal(alone.decode(found)[0], model.decode(expected)[0])
    assert model.end2end
    assert model(images).one_to_one is not None


def test_a_model_with_one_head_keeps_it() -> None:
    model = trained("yolo11p.yaml")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(fused(model, nms_free=True)(images).box, fused(model)(images).box)


def test_copies_can_be_folded_again_and_used_in_inference_mode() -> None:
    model = trained("yolo11p.yaml")
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        once = fused(model)
        assert torch.equal(fused(once)(images).cls, once(images).cls)
    model(images).cls.sum().backward()  # training goes on afterwards
