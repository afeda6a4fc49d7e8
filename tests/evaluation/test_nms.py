"""Suppression keeps what the plain definition keeps, in the same order."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.evaluation.nms import suppress, top_detections


def _plain(boxes, scores, conf, iou, max_det):
    """The definition: one candidate after another by confidence, dropped if a kept one is too near."""
    pairs = [(a, c) for a in range(len(boxes)) for c in range(scores.shape[1])]
    rows = [(float(scores[a, c]), a, c) for a, c in pairs if scores[a, c] > conf]
    kept = []
    for score, a, c in sorted(rows, key=lambda row: (-row[0], row[1], row[2])):
        if all(c != other or _iou(boxes[a].tolist(), boxes[b].tolist()) <= iou for _, b, other in kept):
            kept.append((score, a, c))
    return kept[:max_det]


def _iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def _predictions(seed, anchors, nc, levels=0, side=300.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(anchors, 2, generator=generator) * side
    boxes = torch.cat((corner, corner + 20 + torch.rand(anchors, 2, generator=generator) * 80), 1)
    scores = torch.rand(anchors, nc, generator=generator)
    return boxes, (scores * levels).round() / levels if levels else scores


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    anchors=st.integers(0, 60),
    nc=st.integers(1, 4),
    levels=st.sampled_from([0, 3]),
    conf=st.sampled_from([0.001, 0.5]),
    iou=st.sampled_from([0.3, 0.7]),
    max_det=st.sampled_from([1, 10, 300]),
)
def test_kept_detections_are_those_of_the_definition(seed, anchors, nc, levels, conf, iou, max_det):
    boxes, scores = _predictions(seed, anchors, nc, levels)
    expected = _plain(boxes, scores, conf, iou, max_det)
    kept_boxes, kept_scores, kept_classes = suppress(boxes, scores, conf, iou, max_det)
    assert kept_scores.tolist() == [row[0] for row in expected]
    assert kept_classes.tolist() == [row[2] for row in expected]
    assert torch.equal(kept_boxes, boxes[[row[1] for row in expected]])


def test_settling_in_portions_gives_what_settling_all_at_once_gives(monkeypatch):
    for crowd in (
        10.0,
        40.0,
        600.0,
    ):  # nearly everything suppressed, so that it must look further; hardly anything
        for max_det in (3, 300):
            boxes, scores = _predictions(7, 2000, 5, levels=500, side=crowd)
            portions = suppress(boxes, scores, 0.001, 0.5, max_det)
            monkeypatch.setattr("tunekit.evaluation.nms.FIRST_PORTION", 10**6)
            at_once = suppress(boxes, scores, 0.001, 0.5, max_det)
            monkeypatch.undo()
            assert all(torch.equal(a, b) for a, b in zip(portions, at_once, strict=True))


def test_an_anchor_can_give_several_classes_and_classes_do_not_suppress_each_other():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    scores = torch.tensor([[0.9, 0.8], [0.7, 0.0]])
    _, kept, classes = suppress(boxes, scores, 0.001, 0.7, 300)
    assert classes.tolist() == [0, 1]
    assert kept.tolist() == scores[0].tolist()


def test_a_young_model_with_30000_candidates_is_suppressed_in_milliseconds():
    boxes, scores = _predictions(8, 3000, 10)
    start = time.process_time()
    assert len(suppress(boxes, scores, 0.001, 0.7, 300)[0]) == 300
    assert time.process_time() - start < 0.1  # 0.003 s on a free core; 0.3 s without stages


@pytest.mark.parametrize(("max_det", "conf"), [(1, 0.0), (7, 0.4), (60, 0.9), (300, 0.001)])
def test_a_head_without_nms_gives_its_best_pairs_of_its_best_anchors(max_det, conf):
    boxes, scores = (
        torch.stack(pair) for pair in zip(*(_predictions(s, 60, 4) for s in (1, 2)), strict=True)
    )
    found = top_detections(boxes, scores, conf, max_det)
    assert len(found) == 2
    for image, (kept_boxes, kept_scores, kept_classes) in enumerate(found):
        table = scores[image].tolist()
        anchors = sorted(range(60), key=lambda a: -max(table[a]))[:max_det]
        pairs = sorted(((table[a][c], a, c) for a in anchors for c in range(4)), reverse=True)
        expected = [pair for pair in pairs[: min(max_det, 60)] if pair[0] > conf]
        assert kept_scores.tolist() == [pair[0] for pair in expected]
        assert kept_classes.tolist() == [pair[2] for pair in expected]
        assert torch.equal(kept_boxes, boxes[image][[pair[1] for pair in expected]])


def test_a_head_without_nms_keeps_boxes_that_overlap():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10]]])
    scores = torch.tensor([[[0.9], [0.8]]])
    assert len(top_detections(boxes, scores, 0.5, 300)[0][0]) == 2
