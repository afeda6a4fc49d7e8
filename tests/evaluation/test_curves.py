"""Curves agree with counting by hand at every confidence, and with the metrics that are read from them."""

import numpy as np
import pytest

from tests.evaluation.coco import random_scenes, scene
from tunekit.evaluation.curves import CONFIDENCES
from tunekit.evaluation.matching import box_iou
from tunekit.evaluation.metrics import Matcher

NC = 3
NAMES = ("a", "b", "c")


def _matcher(scenes):
    matcher = Matcher()
    for one in scenes:
        matcher.update(one.boxes, one.scores, one.classes, one.true_boxes, one.true_classes)
    return matcher


@pytest.fixture(scope="module")
def scenes():
    """Their scores are points of CONFIDENCES, so that curves need no interpolation there."""
    rng = np.random.default_rng(5)
    made = random_scenes(rng, 12, NC, 8, 25)
    for one in made:
        one.scores[:] = CONFIDENCES[rng.integers(1, 999, len(one.scores))]
    return made


def _counted(scenes, index, confidence):
    """(precision, recall) of a class: greedy matching at .5 of the detections that are confident enough."""
    true = found = instances = 0
    for one in scenes:
        mine = np.flatnonzero((one.classes == index) & (one.scores >= confidence - 1e-6))
        mine = mine[np.argsort(-one.scores[mine], kind="stable")]
        truth = one.true_boxes[one.true_classes == index]
        iou = box_iou(one.boxes[mine], truth)
        instances, found = instances + len(truth), found + len(mine)
        for row in iou:
            if len(row) and row.max() >= 0.5:
                true += 1
                iou[:, row.argmax()] = 0
    return (true / found if found else 1.0), true / instances


def test_precision_and_recall_are_those_of_the_detections_above_each_confidence(scenes):
    curves = _matcher(scenes).curves(NAMES)
    scores = sorted({float(score) for one in scenes for score in one.scores})
    for row, index in enumerate(curves.classes):
        for confidence in scores[:: len(scores) // 25]:
            point = int(np.argmin(abs(CONFIDENCES - confidence)))
            own = [s for one in scenes for s in one.scores[one.classes == index]]
            if not any(abs(confidence - s) < 1e-6 for s in own):
                continue  # between its scores a class's curve is interpolated
            expected = _counted(scenes, index, confidence)
            assert (curves.precision[row, point], curves.recall[row, point]) == pytest.approx(
                expected, abs=1e-6
            )


def test_the_metrics_are_points_of_the_curves(scenes):
    matcher = _matcher(scenes)
    metrics, curves = matcher.compute(NAMES), matcher.curves(NAMES)
    assert curves.names == tuple(one.name for one in metrics.classes)
    assert curves.best == metrics.f1_conf
    point = int(np.argmin(abs(curves.confidences - curves.best)))
    for row, one in enumerate(metrics.classes):
        assert curves.ap50[row] == pytest.approx(one.map50, abs=1e-12)
        assert curves.envelope[row, ::10].mean() == pytest.approx(one.map50, abs=1e-12)
        assert curves.precision[row, point] == one.precision
        assert curves.recall[row, point] == one.recall
        assert curves.f1[row, point] == pytest.approx(one.f1)
    assert curves.f1[:, point].mean() == pytest.approx(metrics.f1)


def test_precision_over_recall_only_falls(scenes):
    envelope = _matcher(scenes).curves(NAMES).envelope
    assert (np.diff(envelope, axis=1) <= 0).all()
    assert envelope.max() <= 1
    assert envelope.min() >= 0


def test_above_the_surest_detection_nothing_is_wrong_and_nothing_found(scenes):
    curves = _matcher(scenes).curves(NAMES)
    for row, index in enumerate(curves.classes):
        surest = max(score for one in scenes for score in one.scores[one.classes == index])
        above = curves.confidences > surest + 1e-6
        assert (curves.precision[row, above] == 1).all()
        assert (curves.recall[row, above] == 0).all()


def test_a_class_that_is_never_found_is_flat_and_one_without_truth_is_absent():
    box = (10, 10, 50, 50)
    curves = _matcher([scene([(*box, 0.9, 0), (*box, 0.8, 2)], [(*box, 0), (*box, 1)])]).curves(NAMES)
    assert curves.names == ("a", "b")
    assert curves.classes == (0, 1)
    assert not curves.recall[1].any()
    assert not curves.f1[1].any()
    assert curves.ap50.tolist() == [1, 0]


def test_without_truth_there_are_no_curves():
    curves = _matcher([scene([(1, 1, 5, 5, 0.9, 0)], [])]).curves(NAMES)
    assert curves.names == ()
    assert curves.precision.shape == (0, 1000)
    assert curves.best == 0
