"""Which anchors learn which box: the task-aligned assigner (TOOD, arXiv 2108.07755).

In: for every candidate pair of a true box and an anchor inside it, how confident of the box's class the model
is there and the box it predicts. Out: the anchors that are positive, the box each one learns, and the soft
score it should reach. Everything is computed on the pairs, never on a padded (image, box, anchor) block, and
without Python loops. Knows nothing of losses or models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tunekit.training.candidates import Candidates, Truth
from tunekit.training.ciou import complete_iou

ALPHA = 0.5
BETA = 6.0
EPS = 1e-9


@dataclass(frozen=True)
class Assignment:
    """The positive anchors of a batch; P of them, each once."""

    anchor: Tensor  # (P,) int64
    place: Tensor  # (P,) int64 the anchor as counted through the whole batch
    truth: Tensor  # (P,) int64 index into Truth
    score: Tensor  # (P,) float32 soft target of the true class


@torch.no_grad()
def assign(
    scores: Tensor, boxes: Tensor, truth: Truth, pairs: Candidates, *, topk: int, single: bool = False
) -> Assignment:
    """Positive anchors of every true box: those among its `topk` best aligned that no other box takes.

    scores (pairs,) of the true box's class, 0..1; boxes (pairs, 4) predicted xyxy pixels. `single`: of those,
    the best alone, so that every box is learned by one anchor at most.
    """
    count = len(truth.boxes)
    iou = complete_iou(boxes, truth.boxes[pairs.box]).clamp_(min=0)
    iou.nan_to_num_(nan=math.inf, posinf=math.inf)  # as a winner a broken prediction shows in the loss
    align = scores.pow(ALPHA) * iou.pow(BETA)

    claimed = _top_candidates(pairs, align, count, topk)
    kept = _one_box_an_anchor(pairs, iou, claimed).nonzero().squeeze(1)
    if single:
        kept = kept[_first_highest(pairs.box[kept], align[kept], count)]
    box, iou, align = pairs.box[kept], iou[kept], align[kept]
    best_align = align.new_zeros(count).scatter_reduce_(0, box, align, "amax")
    best_iou = iou.new_zeros(count).scatter_reduce_(0, box, iou, "amax")
    score = align * best_iou[box] / (best_align[box] + EPS)
    return Assignment(pairs.anchor[kept], pairs.place[kept], box, score)


def _top_candidates(pairs: Candidates, align: Tensor, boxes: int, topk: int) -> Tensor:
    """(pairs,) bool: the pair is among its box's `topk` best aligned ones, and aligned at all: an anchor
    that would teach nothing must not be taken from another box."""
    table = align.new_zeros(boxes, pairs.most)
    table[pairs.box, pairs.rank] = align
    chosen = torch.zeros_like(table, dtype=torch.bool)
    chosen.scatter_(1, table.topk(min(topk, pairs.most), dim=1, sorted=False).indices, True)
    return chosen[pairs.box, pairs.rank] & (align > 0)


def _one_box_an_anchor(pairs: Candidates, iou: Tensor, claimed: Tensor) -> Tensor:
    """(pairs,) bool: an anchor claimed by several boxes goes to the box around it of highest IoU.

    As in the reference, the winner may be a box that contains the anchor without having claimed it. Equal
    IoUs go to the first box.
    """
    claims = torch.zeros(pairs.places, dtype=torch.int64, device=iou.device)
    claims.scatter_add_(0, pairs.place, claimed.long())
    disputed = (claims[pairs.place] > 1).nonzero().squeeze(1)
    won = _first_highest(pairs.place[disputed], iou[disputed], pairs.places)
    return claimed.index_put_((disputed,), won)


def _first_highest(group: Tensor, value: Tensor, groups: int) -> Tensor:
    """bool: whether an element has the highest value of its group, the first one where several have it."""
    highest = value.new_full((groups,), -1.0).scatter_reduce_(0, group, value, "amax")
    order = torch.arange(len(value), device=value.device)
    behind = len(value)
    best = torch.where(value == highest[group], order, behind)
    first = torch.full((groups,), behind, device=value.device).scatter_reduce_(0, group, best, "amin")
    return first[group] == order
