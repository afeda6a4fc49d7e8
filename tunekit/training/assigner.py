"""Which anchors learn which box: the task-aligned assigner (TOOD, arXiv 2108.07755).

In: predicted class logits and boxes of a batch and its true boxes. Out: the anchors that are
positive, the box each one learns, and the soft score it should reach. Everything is computed on the
pairs (box, anchor inside it), never on a padded (image, box, anchor) block, without Python loops.
Knows nothing of losses or models.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tunekit.training.ciou import complete_iou

TOPK = 10
ALPHA = 0.5
BETA = 6.0
EPS = 1e-9


@dataclass(frozen=True)
class Truth:
    """The true boxes of a batch, flat over its images."""

    image_index: Tensor  # (N,) int64 row of the batch
    classes: Tensor  # (N,) int64
    boxes: Tensor  # (N, 4) float32 xyxy pixels


@dataclass(frozen=True)
class Assignment:
    """The positive anchors of a batch; P of them."""

    image: Tensor  # (P,) int64 row of the batch
    anchor: Tensor  # (P,) int64
    truth: Tensor  # (P,) int64 index into Truth
    score: Tensor  # (P,) float32 soft target of the true class


@torch.no_grad()
def assign(logits: Tensor, boxes: Tensor, centres: Tensor, truth: Truth, least: float) -> Assignment:
    """Positive anchors for every true box.

    logits (B, A, nc) class logits; boxes (B, A, 4) predicted xyxy pixels; centres (A, 2) pixels.
    `least`, pixels: a shorter box side counts as this long when asking which anchors lie inside (STAL),
    so that tiny boxes get anchors at all.
    """
    box, anchor = _inside(centres, truth.boxes, least).nonzero(as_tuple=True)
    image = truth.image_index[box]
    iou = complete_iou(boxes[image, anchor], truth.boxes[box]).clamp_(min=0)
    align = logits[image, anchor, truth.classes[box]].sigmoid().pow_(ALPHA) * iou.pow(BETA)

    claimed = _top_candidates(box, anchor, align, len(truth.boxes), len(centres))
    keep = _one_box_an_anchor(
        box, image * len(centres) + anchor, iou, claimed, logits.shape[0] * len(centres)
    )
    box, anchor, image, iou, align = box[keep], anchor[keep], image[keep], iou[keep], align[keep]

    count = len(truth.boxes)
    best_align = align.new_zeros(count).scatter_reduce_(0, box, align, "amax")
    best_iou = iou.new_zeros(count).scatter_reduce_(0, box, iou, "amax")
    score = align * best_iou[box] / (best_align[box] + EPS)
    return Assignment(image, anchor, box, score)


def _inside(centres: Tensor, boxes: Tensor, least: float) -> Tensor:
    """(N, A) whether an anchor's centre lies strictly inside a box, its sides at least `least` long."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).clamp(min=least) / 2
    low, high = middle - half, middle + half
    x, y = centres[:, 0], centres[:, 1]
    across = (x > low[:, :1] + EPS) & (x < high[:, :1] - EPS)
    down = (y > low[:, 1:] + EPS) & (y < high[:, 1:] - EPS)
    return across & down


def _top_candidates(box: Tensor, anchor: Tensor, align: Tensor, boxes: int, anchors: int) -> Tensor:
    """(pairs,) bool: the pair is among its box's TOPK best aligned ones, and aligned at all: an anchor
    that would teach nothing must not be taken from another box."""
    table = align.new_full((boxes, anchors), -1.0)
    table[box, anchor] = align
    top = table.topk(min(TOPK, anchors), dim=1).indices
    chosen = torch.zeros_like(table, dtype=torch.bool).scatter_(1, top, True)
    return chosen[box, anchor] & (align > 0)


def _one_box_an_anchor(box: Tensor, place: Tensor, iou: Tensor, claimed: Tensor, places: int) -> Tensor:
    """(pairs,) bool: an anchor claimed by several boxes goes to the box around it of highest IoU.

    `place` (pairs,) numbers the anchors over the whole batch. As in the reference, the winner may be a
    box that contains the anchor without having claimed it. Equal IoUs go to the first box.
    """
    claims = torch.zeros(places, dtype=torch.int64, device=box.device).scatter_add_(0, place, claimed.long())
    disputed = claims[place] > 1
    highest = iou.new_full((places,), -1.0).scatter_reduce_(0, place, iou, "amax")
    is_best = iou == highest[place]
    first = torch.full((places,), len(box), dtype=torch.int64, device=box.device)
    order = torch.arange(len(box), device=box.device)
    first.scatter_reduce_(0, place[is_best], order[is_best], "amin")
    return torch.where(disputed, first[place] == order, claimed)
