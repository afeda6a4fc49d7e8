"""The sparse assigner against the definition, written out box by box and anchor by anchor."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import complete_box_iou

from tunekit.models.heads import make_grid
from tunekit.training.assigner import ALPHA, BETA, EPS, assign
from tunekit.training.candidates import Truth, candidates

LEVELS = (8, 16)
LEAST = 16.0  # a side of a box counts at least as much when asking which anchors are inside


def slow_assignment(logits, boxes, centres, truth, topk, single=False):
    """{(image, anchor): (truth, score)} by loops over the definition in TOOD and the reference's rules."""
    least = LEAST
    positives: dict[tuple[int, int], tuple[int, float]] = {}
    for image in range(logits.shape[0]):
        own = [n for n in range(len(truth.boxes)) if truth.image_index[n] == image]
        inside, iou, align = {}, {}, {}
        for n in own:
            x1, y1, x2, y2 = truth.boxes[n].tolist()
            for axis in (0, 1):
                low, high = (x1, x2) if axis == 0 else (y1, y2)
                if high - low < least:
                    middle = (low + high) / 2
                    low, high = middle - least / 2, middle + least / 2
                if axis == 0:
                    x1, x2 = low, high
                else:
                    y1, y2 = low, high
            for a, (x, y) in enumerate(centres.tolist()):
                inside[n, a] = x1 < x < x2 and y1 < y < y2
                value = complete_box_iou(boxes[image, a][None], truth.boxes[n][None]).item()
                iou[n, a] = max(value, 0.0) if inside[n, a] else 0.0
                score = logits[image, a, truth.classes[n]].sigmoid().item()
                align[n, a] = score**ALPHA * iou[n, a] ** BETA
        claims: dict[int, list[int]] = {}
        for n in own:
            able = [a for a in range(len(centres)) if align[n, a] > 0]
            for a in sorted(able, key=lambda a: -align[n, a])[:topk]:
                claims.setdefault(a, []).append(n)
        winner = {
            a: ns[0] if len(ns) == 1 else max((n for n in own if inside[n, a]), key=lambda n: iou[n, a])
            for a, ns in claims.items()
        }
        for n in own:
            mine = [a for a, chosen in winner.items() if chosen == n]
            if single:
                mine = sorted(mine, key=lambda a: -align[n, a])[:1]
            top_align = max((align[n, a] for a in mine), default=0.0)
            top_iou = max((iou[n, a] for a in mine), default=0.0)
            for a in mine:
                positives[image, a] = (n, align[n, a] * top_iou / (top_align + EPS))
    return positives


def grid(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return make_grid([(size // s, size // s) for s in LEVELS], LEVELS, torch.device("cpu"))


def assigned(logits, predicted, anchors, strides, truth, topk, single=False):
    pairs = candidates(anchors, strides, LEVELS, truth, images=len(logits))
    image = truth.image_index[pairs.box]
    scores = logits[image, pairs.anchor, truth.classes[pairs.box]].sigmoid()
    return assign(scores, predicted[image, pairs.anchor], truth, pairs, topk=topk, single=single)


def random_case(seed: int, boxes: int, images: int = 3, nc: int = 4, size: int = 96):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    anchors, strides = grid(size)
    centres = anchors * strides
    middle, side = uniform(boxes, 2) * size, 4 + uniform(boxes, 2) * 50
    truth = Truth(
        torch.randint(images, (boxes,), generator=generator).sort().values,
        torch.randint(nc, (boxes,), generator=generator),
        torch.cat([(middle - side / 2).clamp(0, size - 5), (middle + side / 2).clamp(5, size)], 1),
    )
    spread = uniform(images, len(centres), 4) * 25 + 2
    predicted = torch.cat([centres - spread[..., :2], centres + spread[..., 2:]], -1)
    return uniform(images, len(centres), nc) * 6 - 3, predicted, anchors, strides, truth


@pytest.mark.parametrize(("seed", "boxes"), [(0, 1), (1, 5), (2, 12), (3, 30)])
@pytest.mark.parametrize(("topk", "single"), [(10, False), (7, True)])
def test_assignment_equals_the_definition(seed, boxes, topk, single):
    logits, predicted, anchors, strides, truth = random_case(seed, boxes)
    expected = slow_assignment(logits, predicted, anchors * strides, truth, topk, single)
    found = assigned(logits, predicted, anchors, strides, truth, topk, single)
    assert torch.equal(found.place, truth.image_index[found.truth] * len(anchors) + found.anchor)
    columns = (truth.image_index[found.truth], found.anchor, found.truth, found.score)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    got = {(image, anchor): (n, score) for image, anchor, n, score in rows}
    # An anchor whose alignment is 0 teaches nothing, and which of them fill a top ten is arbitrary.
    telling = {place: value for place, value in expected.items() if value[1] > 1e-7}
    assert {place: value[0] for place, value in got.items() if value[1] > 1e-7} == {
        p: v[0] for p, v in telling.items()
    }
    for place, (_, score) in telling.items():
        assert got[place][1] == pytest.approx(score, rel=1e-4, abs=1e-6)


def test_an_anchor_is_positive_for_one_box_only():
    logits, predicted, anchors, strides, truth = random_case(7, 40, images=1)
    found = assigned(logits, predicted, anchors, strides, truth, topk=10)
    assert len(found.place) == len(set(found.place.tolist())) > 0


def test_a_box_that_holds_no_anchor_is_learned_all_the_same():
    anchors, strides = grid(64)
    tiny = Truth(torch.tensor([0]), torch.tensor([0]), torch.tensor([[9.0, 9.0, 10.0, 10.0]]))
    predicted = tiny.boxes.expand(1, len(anchors), 4)  # every anchor sees it
    found = assigned(torch.zeros(1, len(anchors), 1), predicted, anchors, strides, tiny, topk=10)
    near = (anchors * strides - 9.5).abs().amax(1) < LEAST / 2
    assert found.anchor.tolist() == near.nonzero().squeeze(1).tolist()
    assert near.sum() == 5
