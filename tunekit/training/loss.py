"""The detection loss: boxes (CIoU), classes (BCE) and box sides (distribution focal loss; L1 in YOLO26).

In: the model's raw HeadOutput and a batch's true boxes. Out: the sum to differentiate and its three parts.
Only anchors that could learn a box are decoded and compared; the BCE over all anchors is written as
softplus(x) − x·t, so that no dense target is ever built.

Several workers hold a share of each batch. What normalises the loss is summed over all of them, so that each
worker's loss and parts are shares, too: their sum is what one worker with all the images would have had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tunekit.args import TrainArgs
from tunekit.data.loader import Batch
from tunekit.models.build import DetectionModel
from tunekit.models.heads import HeadOutput
from tunekit.training.assigner import Assignment, assign
from tunekit.training.boxes import decoded, side_loss
from tunekit.training.candidates import Candidates, Truth, candidates
from tunekit.training.ciou import complete_iou

TOPK = 10
TOPK_SINGLE = 7  # in the head that needs no NMS, before the best of them is chosen
FIRST_SHARE, LAST_SHARE = 0.8, 0.1  # of the one-to-many head in an end-to-end loss


def alone(values: Tensor) -> Tensor:
    """The `total` of a single worker."""
    return values


def make_loss(
    args: TrainArgs,
    model: DetectionModel,
    counts: Tensor | None,
    *,
    epoch: int,
    epochs: int,
    total: Callable[[Tensor], Tensor] = alone,
) -> DetectionLoss | EndToEndLoss:
    """The loss of epoch `epoch`, counted from 0, of `epochs`. `counts` (nc,): true boxes of every class."""
    weights = None if counts is None else class_weights(counts, args.cls_pw)
    one_to_many = DetectionLoss(
        box=args.box,
        cls=args.cls,
        dfl=args.dfl,
        strides=model.stride,
        class_weights=None if weights is None else weights.to(next(model.parameters()).device),
        label_smoothing=args.label_smoothing,
        total=total,
    )
    if not model.end2end:
        return one_to_many
    one_to_one = replace(one_to_many, topk=TOPK_SINGLE, single=True)
    return EndToEndLoss(one_to_many, one_to_one, one_to_many_share(epoch, epochs))


@dataclass(frozen=True)
class DetectionLoss:
    """The loss of one head: gains of its parts, and what else they depend on."""

    box: float
    cls: float
    dfl: float
    strides: tuple[int, ...]  # of the levels, finest first
    class_weights: Tensor | None = None  # (nc,)
    label_smoothing: float = 0.0  # class targets t become t·(1 − s) + s/2
    topk: int = TOPK  # anchors that learn a box, at most
    single: bool = False  # the best of these alone
    total: Callable[[Tensor], Tensor] = alone  # sums a small tensor over all workers

    def __call__(self, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor]:
        """(loss to differentiate: the parts' sum × images, parts (3,) detached: box, cls, dfl)."""
        parts, score = self.sums(output, *_matchable(output, batch, self.strides))
        score, images = self.total(torch.stack([score, _images(output)])).unbind()
        parts = parts / score.clamp(min=1)
        return parts.sum() * images, parts.detach()

    def sums(self, output: HeadOutput, truth: Truth, pairs: Candidates | None) -> tuple[Tensor, Tensor]:
        """The parts (3,) with their gains, not yet normalised; the sum of target scores that normalises."""
        logits = output.cls.float()
        if pairs is None:
            # No positives: the class logits alone learn; the zero keeps the box branch in the graph.
            cls, zero = self._negatives(logits), output.box.float().sum() * 0
            return torch.stack([zero, self.cls * cls, zero]), logits.new_zeros(())

        with torch.no_grad():
            raw, anchors, strides = _at(pairs, output)
            scores = _logits_of(truth.classes[pairs.box], pairs, logits).sigmoid()
            boxes = decoded(raw, anchors) * strides
            found = assign(scores, boxes, truth, pairs, topk=self.topk, single=self.single)

        raw, anchors, strides = _at(found, output)
        target = truth.boxes[found.truth] / strides  # (P, 4) xyxy in units of the stride
        box = (1 - complete_iou(decoded(raw, anchors), target)) * found.score
        dfl = side_loss(raw, anchors, target, strides / _size(output)) * found.score

        classes = truth.classes[found.truth]
        pull = _logits_of(classes, found, logits) * found.score * (1 - self.label_smoothing)
        if self.class_weights is not None:
            pull = pull * self.class_weights[classes]
        cls = self._negatives(logits) - pull.sum()
        return torch.stack([self.box * box.sum(), self.cls * cls, self.dfl * dfl.sum()]), found.score.sum()

    def _negatives(self, logits: Tensor) -> Tensor:
        """The BCE of every anchor and class against a target of zero, summed: Σ softplus(x)."""
        losses = F.softplus(logits)
        if self.label_smoothing:
            losses = losses - logits * (self.label_smoothing / 2)
        return (losses if self.class_weights is None else losses * self.class_weights).sum()


@dataclass(frozen=True)
class EndToEndLoss:
    """YOLO26's: the head that learns one anchor for a box takes over from the one that learns many, epoch
    by epoch. The parts that are shown are those of the former, which is the one that detects."""

    one_to_many: DetectionLoss
    one_to_one: DetectionLoss
    share: float  # of the one-to-many head, 0..1

    def __call__(self, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor]:
        """As of DetectionLoss. An output without one_to_one is that of the NMS-free head alone, as in
        validation; so is its loss then."""
        if output.one_to_one is None:
            return self.one_to_one(output, batch)
        truth, pairs = _matchable(output, batch, self.one_to_one.strides)
        many, many_score = self.one_to_many.sums(output, truth, pairs)
        one, one_score = self.one_to_one.sums(output.one_to_one, truth, pairs)
        scores = torch.stack([many_score, one_score, _images(output)])
        many_score, one_score, images = self.one_to_one.total(scores).unbind()
        many, one = many / many_score.clamp(min=1), one / one_score.clamp(min=1)
        loss = (self.share * many.sum() + (1 - self.share) * one.sum()) * images
        # Where the other head's loss is no number, the parts are to show it, too.
        return loss, one.detach() + 0 * loss.detach()


def one_to_many_share(epoch: int, epochs: int) -> float:
    """The one-to-many head's share of the loss: linear from the first epoch to the last."""
    left = 1 - epoch / max(epochs - 1, 1)
    return LAST_SHARE + max(left, 0.0) * (FIRST_SHARE - LAST_SHARE)


def class_weights(counts: Tensor, power: float) -> Tensor | None:
    """Weights ∝ (1 / count)^power with mean 1; counts (nc,) of true boxes. None: all classes are alike.

    Classes that were not seen weigh as much as the others do in the mean.
    """
    seen = counts > 0
    if power == 0 or not seen.any():
        return None
    weights = counts.clamp(min=1).float().pow(-power)
    weights = torch.where(seen, weights, weights[seen].mean())
    return weights / weights.mean()


def _matchable(output: HeadOutput, batch: Batch, strides: tuple[int, ...]) -> tuple[Truth, Candidates | None]:
    """The batch's true boxes on the output's device, and the anchors that could learn them."""
    device = output.cls.device
    truth = Truth(
        batch.image_index.to(device, non_blocking=True),
        batch.classes.to(device, non_blocking=True),
        batch.boxes.to(device, non_blocking=True),
    )
    if len(truth.boxes) == 0:
        return truth, None
    return truth, candidates(output.anchors, output.strides, strides, truth, len(output.cls))


def _at(spots: Candidates | Assignment, output: HeadOutput) -> tuple[Tensor, Tensor, Tensor]:
    """The raw boxes (P, 4 * reg_max) there, the anchors (P, 2) and their strides (P, 1)."""
    # index_select, not indexing: several times faster on CPUs.
    raw = output.box.flatten(0, 1).index_select(0, spots.place).float()
    anchors = output.anchors.index_select(0, spots.anchor)
    return raw, anchors, output.strides.index_select(0, spots.anchor)


def _logits_of(classes: Tensor, spots: Candidates | Assignment, logits: Tensor) -> Tensor:
    """(P,) the logit of one class at each spot."""
    return logits.flatten().gather(0, spots.place * logits.shape[2] + classes)


def _images(output: HeadOutput) -> Tensor:
    return torch.full((), len(output.cls), dtype=torch.float32, device=output.cls.device)


def _size(output: HeadOutput) -> Tensor:
    """(4,) width, height, width, height of the input in pixels: where the finest level's last cell ends."""
    finest = output.strides[0]
    ends = torch.where(output.strides == finest, output.anchors + 0.5, 0).amax(0) * finest
    return ends.repeat(2)
