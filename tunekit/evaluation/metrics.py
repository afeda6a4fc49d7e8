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

from tunekit.evaluation.curves import (
    CONFIDENCES,
    FINE_RECALLS,
    RECALLS,
    Curves,
    at_confidences,
    at_recalls,
    best_confidence,
    recall_precision,
)
from tunekit.evaluation.matching import THRESHOLDS, box_iou, match


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

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


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
    def f1(self) -> float:
        """The classes' mean at `f1_conf`."""
        return sum(row.f1 for row in self.classes) / max(len(self.classes), 1)

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
        found = self._found()
        if not found:
            return DetectionMetrics(0.0, 0.0, 0.0, 0.0, 0.0, ())
        images = np.bincount(np.concatenate(self._classes_of_images))
        aps = np.array([_average_precision(one) for one in found])
        precisions, recalls = _by_confidence(found)
        best = best_confidence(precisions, recalls)
        per_class = tuple(
            ClassMetrics(
                index=one.index,
                name=names[one.index],
                images=int(images[one.index]),
                instances=one.instances,
                precision=float(precisions[row, best]),
                recall=float(recalls[row, best]),
                map50=float(aps[row, 0]),
                map=float(aps[row].mean()),
            )
            for row, one in enumerate(found)
        )
        return DetectionMetrics(
            precision=float(precisions[:, best].mean()),
            recall=float(recalls[:, best].mean()),
            map50=float(aps[:, 0].mean()),
            map=float(aps.mean()),
            f1_conf=float(CONFIDENCES[best]),
            classes=per_class,
        )

    def curves(self, names: Sequence[str]) -> Curves:
        """What `compute` reads single numbers from, to be looked at as a whole."""
        found = self._found()
        precisions, recalls = _by_confidence(found)
        envelope = np.zeros((len(found), len(FINE_RECALLS)))
        for row, one in enumerate(found):
            if len(one.true):
                recall, precision = recall_precision(one.true[:, :1], one.instances)
                envelope[row] = at_recalls(recall, precision, FINE_RECALLS)[0]
        step = (len(FINE_RECALLS) - 1) // (len(RECALLS) - 1)
        return Curves(
            classes=tuple(one.index for one in found),
            names=tuple(names[one.index] for one in found),
            confidences=CONFIDENCES,
            precision=precisions,
            recall=recalls,
            recalls=FINE_RECALLS,
            envelope=envelope,
            ap50=envelope[:, ::step].mean(1),
            best=float(CONFIDENCES[best_confidence(precisions, recalls)]) if found else 0.0,
        )

    def _found(self) -> list[_Found]:
        """What was found of each class that the truth contains."""
        present, instances = np.unique(np.concatenate(self._true_classes), return_counts=True)
        detection, truth, iou = (np.concatenate(part) for part in zip(*self._pairs, strict=True))
        true = match(detection, truth, iou, self._detections, self._truths)
        scores, classes = np.concatenate(self._scores), np.concatenate(self._classes)
        found = []
        for index, count in zip(present.tolist(), instances.tolist(), strict=True):
            mine = np.flatnonzero(classes == index)
            mine = mine[np.argsort(-scores[mine], kind="stable")]
            found.append(_Found(index, count, scores[mine], true[mine]))
        return found


@dataclass(frozen=True)
class _Found:
    """One class's detections, from the most confident on; there may be none."""

    index: int
    instances: int  # in the truth
    scores: np.ndarray  # (n,)
    true: np.ndarray  # (n, thresholds) bool


def _rank_in_class(classes: np.ndarray) -> np.ndarray:
    """How many of the same class come before each."""
    by_class = np.argsort(classes, kind="stable")
    grouped = classes[by_class]
    rank = np.empty(len(classes), dtype=np.int64)
    rank[by_class] = np.arange(len(classes)) - np.searchsorted(grouped, grouped)
    return rank


def _average_precision(one: _Found) -> np.ndarray:
    """(thresholds,)"""
    if not len(one.true):
        return np.zeros(len(THRESHOLDS))
    return at_recalls(*recall_precision(one.true, one.instances), RECALLS).mean(1)


def _by_confidence(found: list[_Found]) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall at overlap .5, (classes, confidences) each; 0 where nothing was found."""
    precisions = np.zeros((len(found), len(CONFIDENCES)))
    recalls = np.zeros_like(precisions)
    for row, one in enumerate(found):
        if len(one.true):
            recall, precision = recall_precision(one.true[:, :1], one.instances)
            precisions[row] = at_confidences(one.scores, precision[:, 0], above=1.0)
            recalls[row] = at_confidences(one.scores, recall[:, 0], above=0.0)
    return precisions, recalls
