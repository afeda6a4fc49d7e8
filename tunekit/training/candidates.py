"""Which anchors could learn which true box: those whose centre lies inside it.

In: the anchors as HeadOutput orders them and the true boxes of a batch. Out: pairs (box, anchor). They are
counted out level by level from the cells that a box covers, so that the work grows with the pairs and not
with boxes × anchors. Knows nothing of predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Truth:
    """The true boxes of a batch, flat over its images."""

    image_index: Tensor  # (N,) int64 row of the batch
    classes: Tensor  # (N,) int64
    boxes: Tensor  # (N, 4) float32 xyxy pixels


@dataclass(frozen=True)
class Candidates:
    """The pairs of a batch; P of them, box by box, and of a box in the order of the anchors."""

    box: Tensor  # (P,) int64 index into Truth
    anchor: Tensor  # (P,) int64
    place: Tensor  # (P,) int64 the anchor as counted through the whole batch: image * A + anchor
    rank: Tensor  # (P,) int64 which of its box's pairs it is, from 0
    most: int  # pairs of the box that has most of them
    places: int  # anchors of the whole batch


def candidates(
    anchors: Tensor, strides: Tensor, levels: Sequence[int], truth: Truth, images: int
) -> Candidates:
    """The anchors in every true box, of which there is at least one, in a batch of `images`.

    anchors (A, 2) in units of their strides (A, 1); `levels` are the strides of the levels, finest first.

    A box side shorter than the second stride counts as that long (STAL): tiny boxes get anchors at all.
    """
    sizes = torch.tensor(levels, dtype=torch.float32, device=anchors.device)  # (L,)
    shape = _shapes(anchors, strides, sizes)  # (L, 2) columns, rows
    ends = shape.prod(1).cumsum(0)

    low, high = _sides(truth.boxes, least=float(levels[min(1, len(levels) - 1)]))
    # Cell c of a level has its centre at (c + 0.5) * stride; boundaries themselves are outside.
    scale = sizes[:, None]
    first = ((low[:, None] / scale - 0.5).floor() + 1).long().clamp(min=0)  # (N, L, 2)
    last = torch.minimum(((high[:, None] / scale - 0.5).ceil() - 1).long(), shape - 1)
    extent = (last - first + 1).clamp(min=0)
    counts = extent.prod(2)  # (N, L)
    total, most = torch.stack((counts.sum(), counts.sum(1).amax())).tolist()

    patches = counts.flatten()  # cells that a box covers on a level
    starts = patches.cumsum(0) - patches
    patch = torch.repeat_interleave(patches, output_size=total)
    order = torch.arange(total, device=anchors.device)
    within = order - starts[patch]
    box, level = patch // len(levels), patch % len(levels)
    corner, width = first.flatten(0, 1)[patch], extent[..., 0].flatten()[patch]
    row = corner[:, 1] + within // width
    column = corner[:, 0] + within % width
    anchor = (ends - shape.prod(1))[level] + row * shape[level, 0] + column
    return Candidates(
        box=box,
        anchor=anchor,
        place=truth.image_index[box] * len(anchors) + anchor,
        rank=order - starts[box * len(levels)],
        most=most,
        places=images * len(anchors),
    )


def _shapes(anchors: Tensor, strides: Tensor, sizes: Tensor) -> Tensor:
    """(L, 2) int64 columns and rows of every level: its last cell's numbers, plus one."""
    own = (strides == sizes).unsqueeze(2)  # (A, L, 1)
    return torch.where(own, anchors.unsqueeze(1), 0).amax(0).add(0.5).long()


def _sides(boxes: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Both corners (N, 2), with sides of at least `least` around the same middle."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).clamp(min=least) / 2
    return middle - half, middle + half
