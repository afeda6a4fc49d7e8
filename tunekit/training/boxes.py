"""Box sides as the head predicts them: decoding, and how far they are from the truth.

In: raw box predictions (P, 4 * reg_max) around anchors, everything in units of the stride. Out: boxes, and
the loss of their sides. Where reg_max is above 1 a side is the expectation of a distribution over so many
bins (distribution focal loss, arXiv 2006.04388); where it is 1 the prediction is the side (YOLO26).
"""

from __future__ import annotations

import torch
from torch import Tensor


def decoded(raw: Tensor, anchors: Tensor) -> Tensor:
    """(P, 4 * reg_max) predictions around (P, 2) anchors -> (P, 4) xyxy."""
    if raw.shape[-1] > 4:
        logits = raw.unflatten(-1, (4, -1))
        bins = torch.arange(logits.shape[-1], dtype=raw.dtype, device=raw.device)
        raw = logits.softmax(-1) @ bins
    low, high = raw.split(2, -1)
    return torch.cat([anchors - low, anchors + high], -1)


def side_loss(raw: Tensor, anchors: Tensor, target: Tensor, unit: Tensor) -> Tensor:
    """(P,) mean over the four sides; target (P, 4) xyxy. `unit` (P, 4): the stride as a share of the image's
    width, height, width, height, in which YOLO26 measures how far a side is off."""
    low, high = target.split(2, -1)
    sides = torch.cat([anchors - low, high - anchors], -1)
    if raw.shape[-1] > 4:
        return _distribution_loss(raw.unflatten(-1, (4, -1)), sides)
    return ((raw - sides).abs() * unit).mean(-1)


def _distribution_loss(logits: Tensor, sides: Tensor) -> Tensor:
    """(P,): cross-entropy to the two bins around each true side, weighted by nearness; mean of 4."""
    sides = sides.clamp(0, logits.shape[-1] - 1.01)
    left = sides.long().unsqueeze(-1)
    nearness = left + 1 - sides.unsqueeze(-1)
    log_share = logits.log_softmax(-1)
    at_left, at_right = log_share.gather(-1, left), log_share.gather(-1, left + 1)
    return -(at_left * nearness + at_right * (1 - nearness)).mean((-2, -1))
