"""The loss against its formulas, written densely and plainly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import complete_box_iou

from tests.training.test_assigner import random_case
from tunekit.data.loader import Batch
from tunekit.models.heads import HeadOutput
from tunekit.training.assigner import assign
from tunekit.training.ciou import complete_iou
from tunekit.training.loss import DetectionLoss, class_weights

REG_MAX = 16


def case(seed: int, boxes: int):
    logits, _, centres, truth = random_case(seed, boxes)
    strides = torch.tensor([8.0] * 144 + [16.0] * 36)[:, None]
    generator = torch.Generator().manual_seed(seed + 100)
    box = torch.randn(*logits.shape[:2], 4 * REG_MAX, generator=generator)
    output = HeadOutput(box=box, cls=logits, anchors=centres / strides, strides=strides)
    batch = Batch(
        images=torch.zeros(logits.shape[0], 3, 96, 96, dtype=torch.uint8),
        image_index=truth.image_index,
        classes=truth.classes,
        boxes=truth.boxes,
        records=torch.arange(logits.shape[0]),
    )
    return output, batch, truth


def dense_parts(output: HeadOutput, truth, weights=None):
    """box, cls, dfl from the formulas, over dense targets."""
    images, anchors, nc = output.cls.shape
    shares = output.box.view(images, anchors, 4, REG_MAX).softmax(-1)
    sides = (shares * torch.arange(REG_MAX)).sum(-1)
    boxes = torch.cat([output.anchors - sides[..., :2], output.anchors + sides[..., 2:]], -1)
    found = assign(
        output.cls, boxes * output.strides.repeat(1, 4), output.anchors * output.strides, truth, least=16.0
    )
    target = torch.zeros(images, anchors, nc)
    normaliser = found.score.sum().clamp(min=1)
    box = dfl = torch.tensor(0.0)
    for image, anchor, n, score in zip(found.image, found.anchor, found.truth, found.score, strict=True):
        target[image, anchor, truth.classes[n]] = score
        true = truth.boxes[n] / output.strides[anchor]
        box = box + (1 - complete_box_iou(boxes[image, anchor][None], true[None])[0, 0]) * score
        ltrb = torch.cat([output.anchors[anchor] - true[:2], true[2:] - output.anchors[anchor]]).clamp(
            0, REG_MAX - 1.01
        )
        for side in range(4):
            low = int(ltrb[side])
            log_share = output.box[image, anchor].view(4, REG_MAX)[side].log_softmax(0)
            share = ltrb[side] - low
            dfl = dfl - (log_share[low] * (1 - share) + log_share[low + 1] * share) * score / 4
    bce = F.binary_cross_entropy_with_logits(output.cls, target, reduction="none")
    cls = (bce if weights is None else bce * weights).sum()
    return box / normaliser, cls / normaliser, dfl / normaliser


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.0, 0.5])])
def test_parts_equal_the_dense_formulas(weights):
    output, batch, truth = case(seed=1, boxes=9)
    loss, parts = DetectionLoss(7.5, 0.5, 1.5, REG_MAX, weights)(output, batch)
    box, cls, dfl = dense_parts(output, truth, weights)
    torch.testing.assert_close(parts, torch.stack([7.5 * box, 0.5 * cls, 1.5 * dfl]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss, parts.sum() * len(batch.images))


def test_gradients_equal_those_of_the_dense_formulas():
    output, batch, truth = case(seed=4, boxes=6)
    leaves = [output.box.requires_grad_(), output.cls.requires_grad_()]
    loss, _ = DetectionLoss(7.5, 0.5, 1.5, REG_MAX)(output, batch)
    sparse = torch.autograd.grad(loss, leaves)
    parts = dense_parts(output, truth)
    total = (7.5 * parts[0] + 0.5 * parts[1] + 1.5 * parts[2]) * len(batch.images)
    dense = torch.autograd.grad(total, leaves)
    torch.testing.assert_close(sparse[1], dense[1], rtol=1e-3, atol=1e-5)
    # torchvision lets the gradient through alpha and the definition does not: alike, not equal.
    assert F.cosine_similarity(sparse[0].flatten(), dense[0].flatten(), dim=0) > 0.999


def test_images_without_boxes_teach_the_classes_to_be_quiet():
    output, batch, _ = case(seed=2, boxes=3)
    empty = Batch(batch.images, batch.image_index[:0], batch.classes[:0], batch.boxes[:0], batch.records)
    output.cls.requires_grad_()
    output.box.requires_grad_()
    loss, parts = DetectionLoss(7.5, 0.5, 1.5, REG_MAX)(output, empty)
    loss.backward()
    assert parts[0] == parts[2] == 0
    torch.testing.assert_close(parts[1], 0.5 * F.softplus(output.cls).sum().detach())
    assert (output.cls.grad > 0).all()
    assert (output.box.grad == 0).all()


def test_ciou_equals_torchvision():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 500, 2, generator=generator) * 50
    size = torch.rand(2, 500, 2, generator=generator) * 40 + 0.5
    a, b = torch.cat([corner, corner + size], -1)
    torch.testing.assert_close(complete_iou(a, b), complete_box_iou(a, b).diagonal(), rtol=1e-4, atol=1e-5)


def test_class_weights_follow_the_inverse_of_the_counts():
    counts = torch.tensor([100, 25, 1])
    assert class_weights(counts, 0) is None
    weights = class_weights(counts, 0.5)
    assert weights.mean().item() == pytest.approx(1)
    assert (weights[1] / weights[0]).item() == pytest.approx(2)
    assert (weights[2] / weights[0]).item() == pytest.approx(10)
