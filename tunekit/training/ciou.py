"""Complete IoU of boxes in pairs: IoU − ρ²/c² − αv (arXiv 1911.08287).

torchvision's `complete_box_iou_loss` gives 1 − CIoU but lets the gradient flow through α; the paper
(and YOLO) hold α constant, so it is written out here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPS = 1e-7


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """CIoU of a[i] with b[i]: (N, 4) and (N, 4) xyxy in the same unit -> (N,), in (-1.5, 1]."""
    ax1, ay1, ax2, ay2 = a.unbind(-1)
    bx1, by1, bx2, by2 = b.unbind(-1)
    aw, ah = ax2 - ax1, ay2 - ay1 + EPS
    bw, bh = bx2 - bx1, by2 - by1 + EPS
    overlap_w = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    overlap_h = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    overlap = overlap_w * overlap_h
    iou = overlap / (aw * ah + bw * bh - overlap + EPS)

    hull_w = torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)
    hull_h = torch.maximum(ay2, by2) - torch.minimum(ay1, by1)
    diagonal = hull_w.square() + hull_h.square() + EPS
    distance = ((bx1 + bx2 - ax1 - ax2).square() + (by1 + by2 - ay1 - ay2).square()) / 4
    v = (4 / math.pi**2) * (torch.atan(bw / bh) - torch.atan(aw / ah)).square()
    with torch.no_grad():
        alpha = v / (v - iou + (1 + EPS))
    return iou - distance / diagonal - alpha * v
