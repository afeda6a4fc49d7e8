"""A running mean of the weights (EMA): smoother than the weights themselves, and what is validated.

decay(t) = 0.9999 · (1 − e^(−t/2000)) after t optimizer steps: early weights fade quickly.
"""

from __future__ import annotations

import copy
import math

import torch

from tunekit.models.build import DetectionModel

DECAY = 0.9999
RAMP = 2000.0


class WeightAverage:
    """Follows a model's parameters and buffers; `.model` is the averaged one, in eval mode."""

    def __init__(self, model: DetectionModel) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.updates = 0
        self._source = _floats(model)
        self._average = _floats(self.model)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the followed model's present weights."""
        self.updates += 1
        share = 1 - DECAY * (1 - math.exp(-self.updates / RAMP))
        torch._foreach_lerp_(self._average, self._source, share)


def _floats(model: DetectionModel) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in model.state_dict().values() if tensor.is_floating_point()]
