"""The confusion matrix counts as YOLO's does: greedy, one to one, whatever the class."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.coco import random_scenes, scene
from tunekit.evaluation.confusion import ConfusionMatrix
from tunekit.evaluation.matching import box_iou

# Of the seeded set below, by Ultralytics 8.4.190's ConfusionMatrix.
REFERENCE = [[11, 0, 1, 33], [0, 9, 0, 33], [1, 0, 15, 32], [5, 11, 8, 0]]

A, B, NEAR_A = (10, 10, 50, 50), (100, 100, 180, 180), (12, 10, 50, 50)


def _counts(scenes, nc):
    matrix = ConfusionMatrix([str(index) for index in range(nc)])
    for one in scenes:
        matrix.update(one.boxes, one.scores, one.classes, one.true_boxes, one.true_classes)
    return matrix.counts.tolist()


def _counted_slowly(scenes, nc):
    counts = [[0] * (nc + 1) for _ in range(nc + 1)]
    for one in scenes:
        free = set(range(len(one.true_boxes)))
        iou = box_iou(one.boxes, one.true_boxes)
        for row in sorted(range(len(one.boxes)), key=lambda row: (-one.scores[row], row)):
            if one.scores[row] <= 0.25:
                continue
            choices = [(iou[row, truth], -truth) for truth in free if iou[row, truth] > 0.45]
            true = nc
            if choices:
                chosen = -max(choices)[1]
                free.remove(chosen)
                true = one.true_classes[chosen]
            counts[one.classes[row]][true] += 1
        for truth in free:
            counts[nc][one.true_classes[truth]] += 1
    return counts


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), nc=st.integers(1, 6), levels=st.sampled_from([0, 1, 4]))
def test_random_sets_agree_with_a_slow_count(seed, nc, levels):
    scenes = random_scenes(np.random.default_rng(seed), 4, nc, 10, 30, levels)
    assert _counts(scenes, nc) == _counted_slowly(scenes, nc)


def test_a_seeded_set_has_the_counts_of_the_reference():
    rng = np.random.default_rng(11)
    scenes = random_scenes(rng, 8, 3, 12, 40)
    assert _counts(scenes, 3) == REFERENCE


@pytest.mark.parametrize(
    ("detections", "truth", "cell"),
    [
        ([(*A, 0.9, 0)], [(*A, 0)], (0, 0)),
        ([(*A, 0.9, 1)], [(*A, 0)], (1, 0)),  # right place, wrong class
        ([], [(*A, 0)], (2, 0)),  # missed
        ([(*A, 0.9, 1)], [], (1, 2)),  # nothing is there
        ([(*A, 0.25, 0)], [(*A, 0)], (2, 0)),  # not confident enough
    ],
)
def test_each_case_has_its_cell(detections, truth, cell):
    counts = np.array(_counts([scene(detections, truth)], 2))
    assert counts[cell] == 1
    assert counts.sum() == 1


def test_the_more_confident_detection_takes_the_object_and_the_other_finds_nothing():
    counts = _counts([scene([(*A, 0.6, 0), (*NEAR_A, 0.9, 1)], [(*A, 0)])], 2)
    assert counts[1][0] == 1
    assert counts[0][2] == 1


def test_shares_are_of_what_is_there_and_a_class_that_is_not_there_has_none():
    matrix = ConfusionMatrix(["a", "b", "c"])
    matrix.counts[:] = [[3, 0, 0, 1], [1, 2, 0, 1], [0, 0, 0, 0], [0, 2, 0, 0]]
    shares = matrix.normalized()
    assert shares[:, 0].tolist() == [0.75, 0.25, 0, 0]
    assert shares[:, 1].tolist() == [0, 0.5, 0, 0.5]
    assert shares[:, 2].tolist() == [0, 0, 0, 0]


def test_the_table_names_rows_and_columns():
    matrix = ConfusionMatrix(["cat, black", "猫"])
    matrix.counts[1, 0] = 7
    rows = list(csv.reader(io.StringIO(matrix.csv())))
    assert rows[0][1:] == ["cat, black", "猫", "background"]
    assert rows[2] == ["猫", "7", "0", "0"]
    assert len(rows) == 4
