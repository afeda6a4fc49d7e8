"""Which class is taken for which: counts over (what was said, what is there), background included.

In: an image at a time, detections (n, 4) xyxy pixels with scores and classes, and the true boxes and
classes. Out: counts (nc + 1, nc + 1), predicted class by true class; the last row holds objects that were
missed, the last column detections where nothing is. numpy only; knows nothing of plots or files.

As YOLO counts: only detections above a confidence of .25 take part. From the most confident on, each
takes the free object that it overlaps most, of whatever class, if the overlap is above .45.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from tunekit.evaluation.matching import box_iou

CONFIDENCE = 0.25
OVERLAP = 0.45
BACKGROUND = "background"


class ConfusionMatrix:
    """Collects images; `counts` may be read at any time."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.counts = np.zeros((len(names) + 1, len(names) + 1), dtype=np.int64)

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        true_boxes: np.ndarray,
        true_classes: np.ndarray,
    ) -> None:
        """Add an image; the boxes may come in any order and there may be none."""
        sure = np.flatnonzero(scores > CONFIDENCE)
        sure = sure[np.argsort(-scores[sure], kind="stable")]
        background = len(self.names)
        predicted = np.full(len(true_classes), background)
        for detection, truth in _pairs(box_iou(boxes[sure], true_boxes)):
            predicted[truth] = classes[sure[detection]]
            sure[detection] = -1
        np.add.at(self.counts, (predicted, true_classes.astype(np.int64)), 1)
        rest = classes[sure[sure >= 0]].astype(np.int64)
        self.counts[:, background] += np.bincount(rest, minlength=len(self.counts))

    def normalized(self) -> np.ndarray:
        """Shares of each column: of what is there, how much was taken for what. Empty columns stay 0."""
        return self.counts / np.maximum(self.counts.sum(0), 1)

    def csv(self) -> str:
        """The counts as a table: a row a predicted class, a column a true one."""
        labels = [*self.names, BACKGROUND]
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["predicted \\ true", *labels])
        writer.writerows([label, *row] for label, row in zip(labels, self.counts.tolist(), strict=True))
        return table.getvalue()


def _pairs(iou: np.ndarray) -> list[tuple[int, int]]:
    """(detection, truth): each detection in turn, of those that overlap a truth enough."""
    free = np.where(iou > OVERLAP, iou, 0.0)
    pairs = []
    for detection in np.flatnonzero(free.any(1)).tolist():
        truth = int(free[detection].argmax())
        if free[detection, truth] > 0:
            pairs.append((detection, truth))
            free[:, truth] = 0.0
    return pairs
