"""Non-maximum suppression: an image's raw predictions -> the detections that count.

In: boxes (A, 4) xyxy pixels and scores (A, nc), on any device. Out: at most `max_det` boxes (k, 4),
scores (k,) and classes (k,), from the most confident on. Knows nothing of models and truth.

Exact, yet the time hardly grows with the candidates, of which a young model has tens of thousands:
whether a candidate stays depends only on better ones, so the best thousand are settled first, and more
are looked at only while fewer than `max_det` have stayed.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import batched_nms

MAX_CANDIDATES = 30_000
FIRST = 1000  # candidates settled first: enough for 300 detections of a young model
GROWTH = 8


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
    taken = 0
    while True:
        taken = min(taken * GROWTH or max(FIRST, 2 * max_det), count)
        best = _best(confidences, taken)
        kept = best[_separate(boxes[anchors[best]], confidences[best], classes[best], iou)][:max_det]
        if taken == count or len(kept) == max_det:
            return boxes[anchors[kept]], confidences[kept], classes[kept]


def _best(confidences: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest, sorted, equal ones in their own order."""
    if count == len(confidences):
        return confidences.sort(descending=True, stable=True).indices
    least = confidences.topk(count, sorted=False).values.min()
    enough = (confidences >= least).nonzero().squeeze(1)  # more than count, if some are equal to the least
    return enough[confidences[enough].sort(descending=True, stable=True).indices[:count]]


def _separate(boxes: Tensor, confidences: Tensor, classes: Tensor, iou: float) -> Tensor:
    """Indices of sorted candidates that stay, in order. batched_nms moves the classes apart by an offset
    when there are few boxes and goes class by class when there are many; in double precision the offset
    costs no accuracy. It orders equal confidences as it likes, hence the sort."""
    return batched_nms(boxes.double(), confidences.double(), classes, iou).sort().values
