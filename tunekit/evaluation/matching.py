"""Which detections are true: COCO's greedy matching, for a whole data set at once.

In: boxes as (n, 4) xyxy pixels and sparse pairs (detection, truth, IoU) of one class in one image.
Out: (n detections, n thresholds) booleans. numpy only; knows nothing of images, classes or models.

COCO's rule: detections of an image and class go in order of confidence, and each takes the free truth
it overlaps most (of equal ones the last), if the overlap reaches the threshold. Taken one by one this
is a slow loop. But it is also the one stable matching in which detections prefer by overlap and every
truth prefers by confidence, so deferred acceptance (Gale and Shapley, 1962) finds the same pairs: all
detections propose at once, a truth keeps its most confident proposer, the others go on to their next
choice. That takes a handful of rounds, each a few array operations over all images.
"""

from __future__ import annotations

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's overlaps, as the very floats that COCO compares with."""


def match(
    detection: np.ndarray, truth: np.ndarray, iou: np.ndarray, detections: int, truths: int
) -> np.ndarray:
    """`detections` x thresholds: whether each detection takes a truth.

    The arrays are parallel, one entry a pair; detections of an image are numbered from the most to the
    least confident, truths in the order of their file.
    """
    order = np.lexsort((-truth, -iou, detection))
    detection, truth, iou = detection[order], truth[order], iou[order]
    taken = np.zeros((detections, len(THRESHOLDS)), dtype=bool)
    for column, threshold in enumerate(THRESHOLDS):
        enough = iou >= threshold
        taken[_propose(detection[enough], truth[enough], truths), column] = True
    return taken


def _propose(detection: np.ndarray, truth: np.ndarray, truths: int) -> np.ndarray:
    """The detections that end up with a truth; pairs come by detection, its best choice first."""
    if not len(detection):
        return detection
    first = np.flatnonzero(np.r_[True, detection[1:] != detection[:-1]])
    end = np.r_[first[1:], len(detection)]
    choice = first.copy()  # where each proposer stands in its list
    nobody = len(first)
    holder = np.full(truths, nobody)  # the proposer that each truth keeps
    active = np.arange(len(first))
    while len(active):
        wanted = truth[choice[active]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, active)  # a smaller number is a higher confidence
        now = holder[wanted]
        refused = active[now != active]
        displaced = np.unique(before[(before != now) & (before != nobody)])
        active = np.concatenate((refused, displaced))
        choice[active] += 1
        active = active[choice[active] < end[active]]
    return detection[first[holder[holder != nobody]]]


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n, m) intersection over union in double precision; boxes without an area overlap nothing."""
    boxes, others = boxes.astype(np.float64), others.astype(np.float64)
    width = _overlap(boxes[:, 0::2], others[:, 0::2])
    height = _overlap(boxes[:, 1::2], others[:, 1::2])
    intersection = width * height
    union = _areas(boxes)[:, None] + _areas(others) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)


def _overlap(spans: np.ndarray, others: np.ndarray) -> np.ndarray:
    ends = np.minimum(spans[:, 1, None], others[:, 1])
    return np.maximum(ends - np.maximum(spans[:, 0, None], others[:, 0]), 0)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
