"""How precision, recall and F1 move with the confidence, and precision with recall, class by class.

In: of one class, which of its detections are true, from the most confident on, and their scores. Out:
arrays read at fixed confidences or recalls, and a frozen Curves that holds those of all classes. numpy
only; knows nothing of boxes, images or plots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONFIDENCES = np.linspace(0, 1, 1000)
RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads a class's precision; their mean is its AP."""
FINE_RECALLS = np.linspace(0, 1, 1001)
"""For curves to look at: every tenth is one of RECALLS."""
SMOOTHING = 101  # points of the moving average over the mean F1 curve: a tenth of it


@dataclass(frozen=True)
class Curves:
    """Of the C classes that the truth contains, by index; all at overlap .5."""

    classes: tuple[int, ...]  # C
    names: tuple[str, ...]
    confidences: np.ndarray  # (1000,) from 0 to 1
    precision: np.ndarray  # (C, 1000) by confidence
    recall: np.ndarray  # (C, 1000)
    recalls: np.ndarray  # (1001,) from 0 to 1
    envelope: np.ndarray  # (C, 1001) by recall: the best precision at this recall or a higher one
    ap50: np.ndarray  # (C,) the envelope's mean at COCO's 101 recalls
    best: float  # the confidence with the highest mean F1

    @property
    def f1(self) -> np.ndarray:
        """(C, 1000) by confidence."""
        return f1_of(self.precision, self.recall)


def f1_of(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """The harmonic mean; 0 where both are 0."""
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)


def recall_precision(true: np.ndarray, instances: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, thresholds) each, after every detection; `true` comes from the most confident on."""
    found = np.cumsum(true, axis=0)
    return found / instances, found / np.arange(1, len(true) + 1)[:, None]


def at_recalls(recall: np.ndarray, precision: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """(thresholds, recalls): the envelope of precision, read at `recalls`; 0 where they are never reached."""
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    envelope = np.vstack((envelope, np.zeros(envelope.shape[1])))
    columns = range(envelope.shape[1])
    return np.array([envelope[np.searchsorted(recall[:, t], recalls), t] for t in columns])


def at_confidences(scores: np.ndarray, values: np.ndarray, above: float) -> np.ndarray:
    """A curve over detections read at CONFIDENCES; `above` the highest score it is `above`."""
    return np.interp(-CONFIDENCES, -scores, values, left=above)


def best_confidence(precisions: np.ndarray, recalls: np.ndarray) -> int:
    """Index into CONFIDENCES of the highest mean F1, averaged over its neighbours.

    The raw maximum of few detections is a spike that one detection moves; the moving average chooses a
    plateau. Without a true detection it is the lowest confidence.
    """
    padded = np.pad(f1_of(precisions, recalls).mean(0), SMOOTHING // 2, mode="edge")
    return int(np.argmax(np.convolve(padded, np.full(SMOOTHING, 1 / SMOOTHING), mode="valid")))
