"""mAP agrees with faster-coco-eval; precision and recall with their definition."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.coco import coco, ours, random_scenes, scene
from tunekit.evaluation.metrics import Matcher

TOLERANCE = 0.002


def _assert_agrees(scenes, nc):
    mine, (map50, map_all, per_class) = ours(scenes, nc), coco(scenes, nc)
    assert mine.map50 == pytest.approx(map50, abs=TOLERANCE)
    assert mine.map == pytest.approx(map_all, abs=TOLERANCE)
    assert {c.index: c.map50 for c in mine.classes} == pytest.approx(
        {index: aps[0] for index, aps in per_class.items()}, abs=TOLERANCE
    )
    assert {c.index: c.map for c in mine.classes} == pytest.approx(
        {index: aps[1] for index, aps in per_class.items()}, abs=TOLERANCE
    )
    numbers = [mine.precision, mine.recall, mine.map50, mine.map, mine.f1_conf]
    assert all(0 <= value <= 1 for value in numbers), "also no NaN"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    images=st.integers(1, 8),
    nc=st.integers(1, 6),
    truths=st.sampled_from([1, 5, 30]),
    detections=st.sampled_from([0, 3, 40, 120]),
    score_levels=st.sampled_from([0, 1, 4, 20]),  # 0: all different; else many ties, also across images
)
def test_random_sets_agree_with_coco(seed, images, nc, truths, detections, score_levels):
    rng = np.random.default_rng(seed)
    _assert_agrees(random_scenes(rng, images, nc, truths, detections, score_levels), nc)


A, B, SMALL = (10, 10, 50, 50), (100, 100, 180, 180), (10, 10, 49, 50)
ADVERSARIAL = {
    "nothing at all": [scene([], [])],
    "no detections": [scene([], [(*A, 0)]), scene([], [(*B, 1)])],
    "no truth": [scene([(*A, 0.9, 0), (*B, 0.8, 1)], [])],
    "truth in one image, detections in the other": [scene([(*A, 0.9, 0)], []), scene([], [(*A, 0)])],
    "a perfect set": [scene([(*A, 0.9, 0), (*B, 0.8, 1)], [(*A, 0), (*B, 1)])],
    "every detection doubled": [scene([(*A, 0.9, 0)] * 2 + [(*B, 0.8, 0)] * 2, [(*A, 0), (*B, 0)])],
    "the doubled one first": [scene([(*SMALL, 0.9, 0), (*A, 0.8, 0)], [(*A, 0)])],
    "truth doubled": [scene([(*A, 0.9, 0)], [(*A, 0), (*A, 0)])],
    "right place, wrong class": [scene([(*A, 0.9, 1)], [(*A, 0)])],
    "a class without truth": [scene([(*A, 0.9, 0), (*B, 0.99, 2)], [(*A, 0)])],
    "a class that is never detected": [scene([(*A, 0.9, 0)], [(*A, 0), (*B, 1)])],
    "all confidences equal, the wrong image first": [
        scene([(*B, 0.5, 0)], [(*A, 0)]),
        scene([(*A, 0.5, 0)], [(*A, 0)]),
    ],
    "all confidences equal, the right image first": [
        scene([(*A, 0.5, 0)], [(*A, 0)]),
        scene([(*B, 0.5, 0)], [(*A, 0)]),
    ],
    "equal confidences in an image": [scene([(*B, 0.5, 0), (*A, 0.5, 0), (*B, 0.5, 0)], [(*A, 0)])],
    "detections of no size": [scene([(10, 10, 10, 10, 0.9, 0), (*A, 0.8, 0)], [(*A, 0)])],
    "truth of no size": [scene([(10, 10, 10, 10, 0.9, 0), (*A, 0.8, 0)], [(*A, 0), (10, 10, 10, 10, 0)])],
    "confidences of 0 and 1": [scene([(*A, 0.0, 0), (*B, 1.0, 0)], [(*A, 0), (*B, 0)])],
    "overlap exactly one half": [scene([(0, 0, 10, 5, 0.9, 0)], [(0, 0, 10, 10, 0)])],
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_sets_agree_with_coco(name):
    _assert_agrees(ADVERSARIAL[name], nc=3)


def test_only_the_300_most_confident_of_a_class_and_image_count():
    rng = np.random.default_rng(1)
    found = [(*B, 0.5 + 0.4 * rng.random(), 0) for _ in range(310)] + [(*A, 0.1, 0), (*A, 0.1, 1)]
    scenes = [scene(found, [(*A, 0), (*A, 1), (*B, 0)])]
    _assert_agrees(scenes, nc=2)
    assert ours(scenes, 2).classes[1].map == 1, "another class has its own 300"


def test_a_crowd_of_overlapping_truths_of_one_class_agrees_with_coco():
    rng = np.random.default_rng(2)
    corner = rng.integers(0, 40, (80, 2))
    truth = [(*xy, *(xy + 30), 0) for xy in corner]
    found = [(*(xy + rng.integers(-3, 4, 2)), *(xy + 30), rng.integers(1, 9) / 10, 0) for xy in corner] * 3
    _assert_agrees([scene(found, truth)] * 2, nc=1)


def test_precision_and_recall_at_the_confidence_of_the_best_f1():
    # Three truths; found with .9 and .8, then nothing but mistakes: best to stop above the mistakes.
    boxes = [(100 * k, 0, 100 * k + 50, 50) for k in range(3)]
    mistakes = [(0, 300, 50, 350, 0.3, 0)] * 5
    found = [(*boxes[0], 0.9, 0), (*boxes[1], 0.8, 0), *mistakes]
    result = ours([scene(found, [(*box, 0) for box in boxes])], 1)
    assert result.precision == pytest.approx(1, abs=0.05)  # the curve's moving average shifts it a little
    assert result.recall == pytest.approx(2 / 3, abs=0.01)
    assert 0.3 < result.f1_conf < 0.9


def test_classes_carry_names_and_counts_of_the_truth():
    scenes = [scene([], [(*A, 2), (*B, 2)]), scene([], [(*A, 2), (*A, 0)]), scene([(*A, 0.9, 1)], [])]
    classes = [(c.index, c.name, c.images, c.instances) for c in ours(scenes, 3).classes]
    assert classes == [(0, "class 0", 1, 1), (2, "class 2", 2, 3)]


def test_fitness_is_map():
    result = ours(ADVERSARIAL["the doubled one first"], 1)
    assert result.fitness == result.map > 0


def test_compute_between_updates_does_not_change_the_result():
    rng = np.random.default_rng(3)
    scenes = random_scenes(rng, 6, 3, 10, 40)
    matcher = Matcher()
    for one in scenes:
        matcher.update(one.boxes, one.scores, one.classes, one.true_boxes, one.true_classes)
        matcher.compute(["a", "b", "c"])
    assert matcher.compute(["class 0", "class 1", "class 2"]) == ours(scenes, 3)


def test_100_images_of_300_detections_take_a_fraction_of_a_second():
    rng = np.random.default_rng(4)
    matcher = Matcher()
    seconds = 0.0
    for _ in range(100):
        corner = rng.uniform(0, 500, (20, 2))
        true_boxes = np.concatenate((corner, corner + rng.uniform(20, 120, (20, 2))), 1)
        true_classes = rng.integers(0, 10, 20)
        source = rng.integers(0, 20, 300)
        boxes = true_boxes[source] + rng.normal(0, 6, (300, 4))
        scores = rng.random(300)
        start = time.process_time()
        matcher.update(boxes, scores, true_classes[source], true_boxes, true_classes)
        seconds += time.process_time() - start
    start = time.process_time()
    assert matcher.compute([str(k) for k in range(10)]).map50 > 0.1
    assert seconds + time.process_time() - start < 0.3  # 0.02 s on a free core
