"""Predictions -> the detections that count: by non-maximum suppression, or without where a head needs none.

In: boxes (A, 4) xyxy pixels and scores (A, nc), on any device. Out: at most `max_det` boxes (k, 4),
scores (k,) and classes (k,), from the most confident on. Knows nothing of models and truth.

Suppression is exact, yet the time hardly grows with the candidates, of which a young model has tens of
thousands: whether a candidate stays depends only on better ones that stay, so they are settled in portions,
from the best on, until `max_det` have stayed.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

MAX_CANDIDATES = 30_000
FIRST_PORTION = 4 / 3  # times max_det candidates: a CPU's time grows with the square of a portion,
FIRST_PORTION_GPU = 7  # a GPU's with the number of portions


def suppress(
    boxes: Tensor, scores: Tensor, conf: float, iou: float, max_det: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Detections above `conf` of which no two of a class overlap by more than `iou`.

    An anchor counts once for every class it is confident of. At equal confidence the earlier anchor
    wins. Only the best 30,000 candidates are considered.
    """
    anchors, classes = (scores > conf).nonzero(as_tuple=True)
    confidences = scores[anchors, classes]
    count = min(len(confidences), MAX_CANDIDATES)
    portion = int(max_det * (FIRST_PORTION if boxes.device.type == "cpu" else FIRST_PORTION_GPU)) + 1
    ranked = _best(confidences, min(count, 3 * portion))
    kept, settled = ranked[:0], 0
    while settled < count and len(kept) < max_det:
        if settled + portion > len(ranked):
            ranked = _best(confidences, min(count, 8 * (settled + portion)))
        rivals = torch.cat((kept, ranked[settled : settled + portion]))
        kept = rivals[_separate(boxes[anchors[rivals]], confidences[rivals], classes[rivals], iou)]
        settled += portion
        # As many as are likely to fill up what is missing, and some more.
        missing = max_det - len(kept)
        portion = max(portion // 2, int(1.5 * missing * settled / max(len(kept), 1)))
    kept = kept[:max_det]
    return boxes[anchors[kept]], confidences[kept], classes[kept]


def top_detections(
    boxes: Tensor, scores: Tensor, conf: float, max_det: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Each image's detections above `conf`, without suppression; boxes (B, A, 4), scores (B, A, nc).

    They are the best pairs of anchor and class, among the `max_det` anchors that are most confident of their
    best class: YOLO26's rule.
    """
    count, nc = min(max_det, scores.shape[1]), scores.shape[2]
    anchors = scores.amax(2).topk(count, dim=1).indices  # (B, count)
    pairs = scores.gather(1, anchors.unsqueeze(2).expand(-1, -1, nc)).flatten(1)
    confidences, pair = pairs.topk(count, dim=1)
    boxes = boxes.gather(1, anchors.gather(1, pair // nc).unsqueeze(2).expand(-1, -1, 4))
    ends = (confidences > conf).sum(1).tolist()  # they are sorted
    images = zip(boxes, confidences, pair % nc, ends, strict=True)
    return [(box[:end], confidence[:end], cls[:end]) for box, confidence, cls, end in images]


def _best(confidences: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest, sorted, equal ones in their own order."""
    if count == len(confidences):
        return confidences.sort(descending=True, stable=True).indices
    least = confidences.topk(count, sorted=False).values.min()
    enough = (confidences >= least).nonzero().squeeze(1)  # more than count, if some are equal to the least
    return enough[confidences[enough].sort(descending=True, stable=True).indices[:count]]


def _separate(boxes: Tensor, confidences: Tensor, classes: Tensor, iou: float) -> Tensor:
    """Indices of sorted candidates that stay, in order. Classes are moved apart, so that they do not meet; in
    double precision this costs no accuracy. nms orders equal confidences as it likes, hence the sort."""
    apart = boxes.double() + (classes * (boxes.max() - boxes.min() + 1).double()).unsqueeze(1)
    return _nms()(apart, confidences.double(), iou).sort().values


@functools.cache
def _nms() -> Callable[[Tensor, Tensor, float], Tensor]:
    """torchvision's, by its native library alone: its Python imports torch's compiler, 2 s and 160 MB."""
    found = importlib.util.find_spec("torchvision")
    if found is not None and found.origin is not None:
        for library in sorted(Path(found.origin).parent.glob("_C*")):
            torch.ops.load_library(library)
            return torch.ops.torchvision.nms
    from torchvision.ops import nms  # where it is built otherwise

    return nms
