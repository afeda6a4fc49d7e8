"""The detection loss: box (CIoU), class (BCE) and distribution focal loss (arXiv 2006.04388).

In: the model's raw HeadOutput and a batch's true boxes. Out: the sum to differentiate and its three
parts. Only anchors that the assigner made positive are decoded and compared; the BCE over all
anchors is written as softplus(x) − x·t, so that no dense target is ever built.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tunekit.data.loader import Batch
from tunekit.models.heads import HeadOutput
from tunekit.training.assigner import Truth, assign
from tunekit.training.ciou import complete_iou


@dataclass(frozen=True)
class DetectionLoss:
    """Gains of the parts, bins of the box distribution and optional weights of the classes."""

    box: float
    cls: float
    dfl: float
    reg_max: int
    class_weights: Tensor | None = None  # (nc,)

    def __call__(self, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor]:
        """(loss to differentiate: the parts' sum × images, parts (3,) detached: box, cls, dfl)."""
        logits, box_logits = output.cls.float(), output.box.float()
        device = logits.device
        truth = Truth(batch.image_index.to(device), batch.classes.to(device), batch.boxes.to(device))
        centres = output.anchors * output.strides
        images = logits.shape[0]
        if len(truth.boxes) == 0:
            # No positives: the class logits alone learn; the zero keeps the box branch in the graph.
            parts = torch.stack([box_logits.sum() * 0, self._class_sum(logits), box_logits.sum() * 0])
            return self._weighted(parts, images)

        with torch.no_grad():
            predicted = self._decode(box_logits, output.anchors) * output.strides.repeat(1, 4)
        found = assign(logits, predicted, centres, truth, least=2 * float(output.strides.min()))
        normaliser = found.score.sum().clamp(min=1)

        distances = box_logits[found.image, found.anchor]  # (P, 4 * reg_max)
        anchors, strides = output.anchors[found.anchor], output.strides[found.anchor]
        target = truth.boxes[found.truth] / strides  # (P, 4) xyxy in units of the stride
        ciou = complete_iou(self._decode(distances, anchors), target)
        box = ((1 - ciou) * found.score).sum() / normaliser
        dfl = (self._distribution_loss(distances, anchors, target) * found.score).sum() / normaliser

        classes = truth.classes[found.truth]
        pulled = logits[found.image, found.anchor, classes] * found.score
        if self.class_weights is not None:
            pulled = pulled * self.class_weights[classes]
        cls = (self._class_sum(logits) - pulled.sum()) / normaliser
        return self._weighted(torch.stack([box, cls, dfl]), images)

    def _class_sum(self, logits: Tensor) -> Tensor:
        """Σ softplus(x): the BCE of every anchor and class against zero."""
        negative = F.softplus(logits)
        return (negative if self.class_weights is None else negative * self.class_weights).sum()

    def _decode(self, distances: Tensor, anchors: Tensor) -> Tensor:
        """(..., 4 * reg_max) logits around (..., 2) anchors -> (..., 4) xyxy in units of the stride."""
        bins = torch.arange(self.reg_max, dtype=distances.dtype, device=distances.device)
        sides = distances.unflatten(-1, (4, self.reg_max)).softmax(-1) @ bins
        low, high = sides.split(2, -1)
        return torch.cat([anchors - low, anchors + high], -1)

    def _distribution_loss(self, distances: Tensor, anchors: Tensor, target: Tensor) -> Tensor:
        """(P,): cross-entropy to the two bins around each true side, weighted by nearness; mean of 4."""
        low, high = target.split(2, -1)
        sides = torch.cat([anchors - low, high - anchors], -1).clamp(0, self.reg_max - 1.01)
        left = sides.long()
        nearness = left + 1 - sides
        log_share = distances.unflatten(-1, (4, self.reg_max)).log_softmax(-1)
        at_left = log_share.gather(-1, left.unsqueeze(-1)).squeeze(-1)
        at_right = log_share.gather(-1, left.unsqueeze(-1) + 1).squeeze(-1)
        return -(at_left * nearness + at_right * (1 - nearness)).mean(-1)

    def _weighted(self, parts: Tensor, images: int) -> tuple[Tensor, Tensor]:
        weighted = parts * parts.new_tensor([self.box, self.cls, self.dfl])
        return weighted.sum() * images, weighted.detach()


def class_weights(counts: Tensor, power: float) -> Tensor | None:
    """Weights ∝ (1 / count)^power with mean 1, None when power is 0; counts (nc,) of instances."""
    if power == 0:
        return None
    weights = counts.float().clamp(min=1).pow(-power)
    return weights / weights.mean()
