"""Detections and truth -> mAP50, mAP50-95, precision and recall, in all and per class.

In: an image at a time, boxes (n, 4) xyxy pixels, scores (n,), classes (n,), and the true boxes and
classes. Out: frozen DetectionMetrics; plain floats, never NaN. numpy only: no torch, no files.

mAP is COCO's: greedy matching at ten overlaps, the precision envelope read at 101 recalls, the mean
over the classes that the truth contains. Ties in confidence are ordered as COCO orders them: by image,
and inside an image as they came. Precision and recall are those at one confidence for all classes,
the one with the highest mean F1 at overlap .5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunekit.evaluation.matching import THRESHOLDS, box_iou, match

RECALLS = np.linspace(0, 1, 101)
CONFIDENCES = np.linspace(0, 1, 1000)
SMOOTHING = 101  # points of the moving average over the mean F1 curve: a tenth of it


@dataclass(frozen=True)
class ClassMetrics:
    """One class that the truth contains."""

    index: int
    name: str
    images: int  # that show it
    instances: int
    precision: float
    recall: float
    map50: float
    map: float


@dataclass(frozen=True)
class DetectionMetrics:
    """Means over the classes that the truth contains; all zero where it contains none."""

    precision: float
    recall: float
    map50: float
    map: float
    f1_conf: float  # the confidence with the highest mean F1, where precision and recall are taken
    classes: tuple[ClassMetrics, ...]

    @property
    def fitness(self) -> float:
        return self.map


class Matcher:
    """Collects images; `compute` may be called at any time, and again."""

    def __init__(self, max_det: int = 300) -> None:
        self._max_det = max_det  # of a class in an image, as COCO counts
        self._scores = [np.zeros(0)]
        self._classes = [np.zeros(0, dtype=np.int64)]
        self._true_classes = [np.zeros(0, dtype=np.int64)]
        self._classes_of_images = [np.zeros(0, dtype=np.int64)]
        self._pairs = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))]
        self._detections = 0
        self._truths = 0

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        true_boxes: np.ndarray,
        true_classes: np.ndarray,
    ) -> None:
        """Add an image; the boxes may come in any order and there may be none."""
        order = np.argsort(-scores, kind="stable")
        if len(order) > self._max_det:
            order = order[_rank_in_class(classes[order]) < self._max_det]
        boxes, scores, classes = boxes[order], scores[order], classes[order].astype(np.int64)
        true_classes = true_classes.astype(np.int64)
        iou = box_iou(boxes, true_boxes)
        detection, truth = np.nonzero((iou >= THRESHOLDS[0]) & (classes[:, None] == true_classes))
        self._pairs.append((detection + self._detections, truth + self._truths, iou[detection, truth]))
        self._scores.append(scores.astype(np.float64))
        self._classes.append(classes)
        self._true_classes.append(true_classes)
        self._classes_of_images.append(np.unique(true_classes))
        self._detections += len(classes)
        self._truths += len(true_classes)

    def compute(self, names: Sequence[str]) -> DetectionMetrics:
        """The metrics of all images so far; `names` are the data set's classes by index."""
        true_classes = np.concatenate(self._true_classes)
        present, instances = np.unique(true_classes, return_counts=True)
        if not len(present):
            return DetectionMetrics(0.0, 0.0, 0.0, 0.0, 0.0, ())
        images = np.bincount(np.concatenate(self._classes_of_images))[present]
        detection, truth, iou = (np.concatenate(part) for part in zip(*self._pairs, strict=True))
        true = match(detection, truth, iou, self._detections, self._truths)
        scores, classes = np.concatenate(self._scores), np.concatenate(self._classes)

        precisions = np.zeros((len(present), len(CONFIDENCES)))
        recalls = np.zeros_like(precisions)
        aps = np.zeros((len(present), len(THRESHOLDS)))
        for row, (index, count) in enumerate(zip(present, instances, strict=True)):
            mine = np.flatnonzero(classes == index)
            if len(mine):
                mine = mine[np.argsort(-scores[mine], kind="stable")]
                recall, precision = _recall_precision(true[mine], count)
                aps[row] = _average_precision(recall, precision)
                precisions[row] = _at_confidences(scores[mine], precision[:, 0], above=1.0)
                recalls[row] = _at_confidences(scores[mine], recall[:, 0], above=0.0)

        best = _best_confidence(precisions, recalls)
        per_class = tuple(
            ClassMetrics(
                index=int(index),
                name=names[index],
                images=int(images[row]),
                instances=int(instances[row]),
                precision=float(precisions[row, best]),
                recall=float(recalls[row, best]),
                map50=float(aps[row, 0]),
                map=float(aps[row].mean()),
            )
            for row, index in enumerate(present)
        )
        return DetectionMetrics(
            precision=float(precisions[:, best].mean()),
            recall=float(recalls[:, best].mean()),
            map50=float(aps[:, 0].mean()),
            map=float(aps.mean()),
            f1_conf=float(CONFIDENCES[best]),
            classes=per_class,
        )


def _rank_in_class(classes: np.ndarray) -> np.ndarray:
    """How many of the same class come before each."""
    by_class = np.argsort(classes, kind="stable")
    grouped = classes[by_class]
    rank = np.empty(len(classes), dtype=np.int64)
    rank[by_class] = np.arange(len(classes)) - np.searchsorted(grouped, grouped)
    return rank


def _recall_precision(true: np.ndarray, instances: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, thresholds) each, after every detection; `true` comes from the most confident on."""
    found = np.cumsum(true, axis=0)
    return found / instances, found / np.arange(1, len(true) + 1)[:, None]


def _average_precision(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """(thresholds,) means of the envelope (the best precision at this recall or a higher one)."""
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    envelope = np.vstack((envelope, np.zeros(envelope.shape[1])))  # recalls never reached count 0
    columns = range(envelope.shape[1])
    return np.array([envelope[np.searchsorted(recall[:, t], RECALLS), t].mean() for t in columns])


def _at_confidences(scores: np.ndarray, values: np.ndarray, above: float) -> np.ndarray:
    """A curve over detections read at CONFIDENCES; `above` the highest score it is `above`."""
    return np.interp(-CONFIDENCES, -scores, values, left=above)


def _best_confidence(precisions: np.ndarray, recalls: np.ndarray) -> int:
    """Index into CONFIDENCES of the highest mean F1, averaged over its neighbours.

    The raw maximum of few detections is a spike that one detection moves; the moving average chooses a
    plateau. Without a true detection it is the lowest confidence.
    """
    total = precisions + recalls
    f1 = np.divide(2 * precisions * recalls, total, out=np.zeros_like(total), where=total > 0).mean(0)
    padded = np.pad(f1, SMOOTHING // 2, mode="edge")
    return int(np.argmax(np.convolve(padded, np.full(SMOOTHING, 1 / SMOOTHING), mode="valid")))
