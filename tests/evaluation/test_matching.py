"""Matching all images at once finds what COCO's loop over detections finds."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.evaluation.matching import THRESHOLDS, box_iou, match


def _loop(iou: np.ndarray, threshold: float) -> np.ndarray:
    """COCO's rule, word by word: `iou` is (detections by confidence, truths)."""
    free = np.ones(iou.shape[1], dtype=bool)
    taken = np.zeros(iou.shape[0], dtype=bool)
    for detection, row in enumerate(iou):
        best, choice = threshold, -1
        for truth, overlap in enumerate(row):
            if free[truth] and overlap >= best:
                best, choice = overlap, truth
        if choice >= 0:
            free[choice] = False
            taken[detection] = True
    return taken


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    images=st.integers(1, 4),
    detections=st.integers(0, 25),
    truths=st.integers(0, 12),
    levels=st.sampled_from([4, 10, 1000]),  # few levels: many equal overlaps, some exactly on a threshold
)
def test_deferred_acceptance_equals_the_greedy_loop(seed, images, detections, truths, levels):
    rng = np.random.default_rng(seed)
    overlaps = [np.round(rng.random((detections, truths)) * levels) / levels for _ in range(images)]
    pairs = []
    for image, iou in enumerate(overlaps):
        detection, truth = np.nonzero(iou >= 0.5)
        pairs.append((detection + image * detections, truth + image * truths, iou[detection, truth]))
    detection, truth, iou = (np.concatenate(part) for part in zip(*pairs, strict=True))
    shuffled = rng.permutation(len(iou))

    taken = match(detection[shuffled], truth[shuffled], iou[shuffled], images * detections, images * truths)

    for column, threshold in enumerate(THRESHOLDS):
        expected = np.concatenate([_loop(iou, threshold) for iou in overlaps])
        np.testing.assert_array_equal(taken[:, column], expected)


def test_overlap_of_boxes_worked_out_by_hand():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 30]], dtype=np.float32)
    expected = [[1, 50 / 150, 0], [50 / 150, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(box_iou(boxes, boxes), expected)
