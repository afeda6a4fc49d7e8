"""The independent judge: faster-coco-eval on the same detections, and sets to try it on."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from tunekit.evaluation.metrics import DetectionMetrics, Matcher


@dataclass(frozen=True)
class Scene:
    """An image's detections and truth."""

    boxes: np.ndarray  # (n, 4) xyxy
    scores: np.ndarray
    classes: np.ndarray
    true_boxes: np.ndarray
    true_classes: np.ndarray


def scene(detections: list[tuple], truth: list[tuple]) -> Scene:
    """From rows (x1, y1, x2, y2, score, class) and (x1, y1, x2, y2, class)."""
    found = np.array(detections, dtype=np.float32).reshape(-1, 6)
    true = np.array(truth, dtype=np.float32).reshape(-1, 5)
    return Scene(found[:, :4], found[:, 4], found[:, 5].astype(int), true[:, :4], true[:, 4].astype(int))


def ours(scenes: list[Scene], nc: int) -> DetectionMetrics:
    matcher = Matcher()
    for one in scenes:
        matcher.update(one.boxes, one.scores, one.classes, one.true_boxes, one.true_classes)
    return matcher.compute([f"class {index}" for index in range(nc)])


def coco(scenes: list[Scene], nc: int) -> tuple[float, float, dict[int, tuple[float, float]]]:
    """(mAP50, mAP50-95, {class: (AP50, AP)}) by faster-coco-eval; zeros where COCO says -1: no truth."""
    annotations, results = [], []
    for image, one in enumerate(scenes):
        for box, index in zip(one.true_boxes, one.true_classes, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(index),
                    "bbox": _xywh(box),
                    "area": float(np.prod(_xywh(box)[2:])),
                    "iscrowd": 0,
                }
            )
        for box, score, index in zip(one.boxes, one.scores, one.classes, strict=True):
            results.append(
                {"image_id": image, "category_id": int(index), "bbox": _xywh(box), "score": float(score)}
            )
    if not annotations or not results:
        return 0.0, 0.0, {int(a["category_id"]): (0.0, 0.0) for a in annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(
            {
                "images": [{"id": i, "width": 640, "height": 640} for i in range(len(scenes))],
                "categories": [{"id": i, "name": str(i)} for i in range(nc)],
                "annotations": annotations,
            }
        )
        judge = COCOeval_faster(truth, truth.loadRes(results), "bbox")
        judge.params.maxDets = [300]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    precision = np.asarray(judge.eval["precision"])[:, :, :, 0, 0]  # overlap, recall, class
    present = sorted({int(a["category_id"]) for a in annotations})
    per_class = {c: (float(precision[0, :, c].mean()), float(precision[:, :, c].mean())) for c in present}
    map50, map_all = np.mean(list(per_class.values()), axis=0)
    return float(map50), float(map_all), per_class


def _xywh(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = (float(v) for v in box)
    return [x1, y1, x2 - x1, y2 - y1]


def random_scenes(
    rng: np.random.Generator, images: int, nc: int, truths: int, detections: int, score_levels: int = 0
) -> list[Scene]:
    """Detections that are jittered truth, some of the wrong class, doubled, or nowhere.

    Coordinates are quarters of a pixel so that xyxy and xywh are the same numbers in every precision.
    """
    scenes = []
    for _ in range(images):
        m = int(rng.integers(0, truths + 1))
        true_boxes = _quarter(_random_boxes(rng, m))
        true_classes = rng.integers(0, nc, m)
        n = int(rng.integers(0, detections + 1))
        boxes, classes = _random_boxes(rng, n), rng.integers(0, nc, n)
        if m:
            near = rng.random(n) < 0.7
            source = rng.integers(0, m, n)
            jitter = rng.normal(0, 1, (n, 4)) * rng.choice([0, 1, 4, 12], (n, 1))
            boxes[near] = (true_boxes[source] + jitter)[near]
            classes = np.where(near & (rng.random(n) < 0.9), true_classes[source], classes)
        boxes = _quarter(boxes)
        boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
        scores = rng.random(n)
        if score_levels:
            scores = np.round(scores * score_levels) / score_levels
        scenes.append(Scene(boxes, scores.astype(np.float32), classes, true_boxes, true_classes))
    return scenes


def _random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 500, (count, 2))
    return np.concatenate((corner, corner + rng.uniform(4, 120, (count, 2))), 1)


def _quarter(boxes: np.ndarray) -> np.ndarray:
    return (np.round(boxes * 4) / 4).astype(np.float32)
