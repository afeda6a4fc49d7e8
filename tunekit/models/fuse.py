"""A model for inference alone: batch norms folded into the convolutions before them.

In: a DetectionModel. Out: a copy in eval mode with the same outputs up to rounding, with both heads. It has
weights of its own, and the model stays as it is. Making one costs milliseconds, so every validation can have
a fresh one. Its activations work in place: it cannot be trained. Knows nothing of what it is used for.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tunekit.models.blocks import Conv
from tunekit.models.build import DetectionModel

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def fused(
    model: DetectionModel, dtype: torch.dtype | None = None, *, nms_free: bool = False
) -> DetectionModel:
    """The folded copy. With `dtype` its convolutions hold that type: autocast to it then has nothing to
    convert in every batch. `nms_free`: of an end-to-end model's heads, only the one that needs no NMS."""
    twin = _twin(model)
    if nms_free:
        twin.head.drop_one_to_many()
    for module in list(twin.modules()):
        if isinstance(module, Conv):
            _fold(module)
    theirs = {id(parameter) for parameter in model.parameters()}
    for module in twin.modules():
        wanted = dtype if isinstance(module, nn.Conv2d) else None
        for name, value in list(module.named_parameters(recurse=False)):
            own = value.to(wanted or value.dtype, copy=id(value) in theirs)
            setattr(module, name, nn.Parameter(own, requires_grad=False))
    return twin.eval()


def _twin(module: M) -> M:
    """The same modules once more, which may be changed; their weights are still the first ones' own.

    copy.deepcopy would take ten times as long, most of it for the dictionaries of hooks that modules have.
    """
    twin = copy.copy(module)
    twin._parameters = dict(module._parameters)
    twin._buffers = dict(module._buffers)
    twin._modules = {name: None if child is None else _twin(child) for name, child in module._modules.items()}
    return twin


def _fold(module: Conv) -> None:
    """act(norm(conv(x))) becomes act(conv(x)): in eval mode a batch norm scales and shifts each channel."""
    conv, norm = module.conv, module.bn
    if isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None:
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        module.bn = nn.Identity()
    if isinstance(module.act, nn.SiLU):
        module.act = nn.SiLU(inplace=True)
