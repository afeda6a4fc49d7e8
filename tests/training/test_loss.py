"""The losses against their formulas, written densely and plainly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import complete_box_iou

from tests.training.test_assigner import LEVELS, assigned, random_case
from tunekit.args import TrainArgs
from tunekit.data.loader import Batch
from tunekit.models.build import build_model, load_spec
from tunekit.models.heads import HeadOutput
from tunekit.training.ciou import complete_iou
from tunekit.training.loss import DetectionLoss, EndToEndLoss, class_weights, make_loss

SIDE = 96  # pixels of random_case's images
LOSS = DetectionLoss(7.5, 0.5, 1.5, LEVELS)


def case(seed: int, boxes: int, reg_max: int = 16):
    logits, _, anchors, strides, truth = random_case(seed, boxes, size=SIDE)
    generator = torch.Generator().manual_seed(seed + 100)
    box = torch.randn(*logits.shape[:2], 4 * reg_max, generator=generator)
    if reg_max == 1:
        box = box * 0.5 + 2  # sides, of which some are below 0
    output = HeadOutput(box=box, cls=logits, anchors=anchors, strides=strides)
    batch = Batch(
        images=torch.zeros(logits.shape[0], 3, SIDE, SIDE, dtype=torch.uint8),
        image_index=truth.image_index,
        classes=truth.classes,
        boxes=truth.boxes,
        records=torch.arange(logits.shape[0]),
    )
    return output, batch, truth


def without_boxes(batch: Batch) -> Batch:
    return replace(batch, image_index=batch.image_index[:0], classes=batch.classes[:0], boxes=batch.boxes[:0])


def dense_parts(output: HeadOutput, truth, weights=None, smoothing=0.0, topk=10, single=False):
    """box, cls, dfl from the formulas, over dense targets."""
    images, anchors, nc = output.cls.shape
    reg_max = output.box.shape[2] // 4
    sides = output.box
    if reg_max > 1:
        sides = (output.box.view(images, anchors, 4, reg_max).softmax(-1) * torch.arange(reg_max)).sum(-1)
    boxes = torch.cat([output.anchors - sides[..., :2], output.anchors + sides[..., 2:]], -1)
    pixels = boxes * output.strides
    found = assigned(output.cls, pixels, output.anchors, output.strides, truth, topk, single)
    target = torch.zeros(images, anchors, nc)
    normaliser = found.score.sum().clamp(min=1)
    box = dfl = torch.tensor(0.0)
    for place, n, score in zip(found.place, found.truth, found.score, strict=True):
        image, anchor = divmod(int(place), anchors)
        target[image, anchor, truth.classes[n]] = score
        true = truth.boxes[n] / output.strides[anchor]
        box = box + (1 - complete_box_iou(boxes[image, anchor][None], true[None])[0, 0]) * score
        ltrb = torch.cat([output.anchors[anchor] - true[:2], true[2:] - output.anchors[anchor]])
        for side in range(4):
            if reg_max == 1:
                pixels_off = (sides[image, anchor, side] - ltrb[side]).abs() * output.strides[anchor, 0]
                dfl = dfl + pixels_off / SIDE * score / 4
                continue
            clamped = ltrb[side].clamp(0, reg_max - 1.01)
            low = int(clamped)
            log_share = output.box[image, anchor].view(4, reg_max)[side].log_softmax(0)
            share = clamped - low
            dfl = dfl - (log_share[low] * (1 - share) + log_share[low + 1] * share) * score / 4
    target = target * (1 - smoothing) + smoothing / 2
    bce = F.binary_cross_entropy_with_logits(output.cls, target, reduction="none")
    cls = (bce if weights is None else bce * weights).sum()
    return torch.stack([7.5 * box, 0.5 * cls, 1.5 * dfl]) / normaliser


@pytest.mark.parametrize("reg_max", [16, 1])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.0, 0.5])])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_parts_equal_the_dense_formulas(reg_max, weights, smoothing):
    output, batch, truth = case(seed=1, boxes=9, reg_max=reg_max)
    loss, parts = replace(LOSS, class_weights=weights, label_smoothing=smoothing)(output, batch)
    expected = dense_parts(output, truth, weights, smoothing)
    torch.testing.assert_close(parts, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss, parts.sum() * len(batch.images))


@pytest.mark.parametrize("reg_max", [16, 1])
def test_gradients_equal_those_of_the_dense_formulas(reg_max):
    output, batch, truth = case(seed=4, boxes=6, reg_max=reg_max)
    leaves = [output.box.requires_grad_(), output.cls.requires_grad_()]
    loss, _ = LOSS(output, batch)
    sparse = torch.autograd.grad(loss, leaves)
    dense = torch.autograd.grad(dense_parts(output, truth).sum() * len(batch.images), leaves)
    torch.testing.assert_close(sparse[1], dense[1], rtol=1e-3, atol=1e-5)
    # torchvision lets the gradient through alpha and the definition does not: alike, not equal.
    assert F.cosine_similarity(sparse[0].flatten(), dense[0].flatten(), dim=0) > 0.999


def test_the_l1_loss_measures_wide_images_by_their_own_sides():
    anchors, strides = torch.tensor([[0.5, 0.5], [1.5, 0.5], [2.5, 0.5]]), torch.full((3, 1), 32.0)
    sides = torch.tensor([16.0, 10.0, 16.0, 10.0]).repeat(1, 3, 1) / 32
    output = HeadOutput(sides, torch.zeros(1, 3, 1), anchors, strides)
    batch = Batch(
        images=torch.zeros(1, 3, 32, 96, dtype=torch.uint8),
        image_index=torch.tensor([0]),
        classes=torch.tensor([0]),
        boxes=torch.tensor([[36.0, 4.0, 60.0, 28.0]]),  # 12 pixels to each side of the middle anchor
        records=torch.tensor([0]),
    )
    _, parts = DetectionLoss(0, 0, 1, (32,))(output, batch)
    score = complete_iou(torch.tensor([[32.0, 6.0, 64.0, 26.0]]), batch.boxes).item()
    assert parts[2].item() == pytest.approx(score * (2 * 4 / 96 + 2 * 2 / 32) / 4, rel=1e-4)


@pytest.mark.parametrize("reg_max", [16, 1])
def test_images_without_boxes_teach_the_classes_to_be_quiet(reg_max):
    output, batch, _ = case(seed=2, boxes=3, reg_max=reg_max)
    output.cls.requires_grad_()
    output.box.requires_grad_()
    loss, parts = LOSS(output, without_boxes(batch))
    loss.backward()
    assert parts[0] == parts[2] == 0
    torch.testing.assert_close(parts[1], 0.5 * F.softplus(output.cls).sum().detach())
    assert (output.cls.grad > 0).all()
    assert (output.box.grad == 0).all()


def end_to_end(seed: int, boxes: int, share: float = 0.3):
    """An output with two heads that predict different things, and the loss of YOLO26 for it."""
    many, batch, truth = case(seed, boxes, reg_max=1)
    one = case(seed + 50, boxes, reg_max=1)[0]
    output = replace(many, one_to_one=replace(one, box=one.box + 1))
    return output, batch, truth, EndToEndLoss(LOSS, replace(LOSS, topk=7, single=True), share)


def test_an_end_to_end_loss_weighs_both_heads_and_shows_the_one_that_detects():
    output, batch, truth, loss = end_to_end(seed=3, boxes=8)
    total, parts = loss(output, batch)
    many = dense_parts(output, truth)
    one = dense_parts(output.one_to_one, truth, topk=7, single=True)
    torch.testing.assert_close(parts, one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        total, (0.3 * many.sum() + 0.7 * one.sum()) * len(batch.images), rtol=1e-4, atol=1e-5
    )


def test_of_the_detecting_head_alone_the_parts_are_the_same():
    output, batch, _, loss = end_to_end(seed=3, boxes=8)
    assert torch.equal(loss(output.one_to_one, batch)[1], loss(output, batch)[1])


def test_an_end_to_end_loss_of_images_without_boxes_keeps_all_branches_in_the_graph():
    output, batch, _, loss = end_to_end(seed=3, boxes=8)
    leaves = [output.box, output.cls, output.one_to_one.box, output.one_to_one.cls]
    for leaf in leaves:
        leaf.requires_grad_()
    gradients = torch.autograd.grad(loss(output, without_boxes(batch))[0], leaves)
    assert [bool(gradient.any()) for gradient in gradients] == [False, True, False, True]


@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize("name", ["box", "cls"])
def test_a_prediction_that_is_no_number_shows_in_the_loss_and_its_parts(head, name):
    output, batch, _, loss = end_to_end(seed=3, boxes=8)
    with torch.no_grad():
        getattr((output, output.one_to_one)[head], name).fill_(torch.nan)
    for result in loss(output, batch):
        assert not result.isfinite().all()
    if head == 0:
        for result in loss.one_to_many(output, batch):
            assert not result.isfinite().all()


@pytest.mark.parametrize("kind", ["one head", "two heads"])
@pytest.mark.parametrize("boxes", [9, 2])
def test_workers_losses_add_up_to_that_of_one_worker_with_all_images(kind, boxes):
    """Three images on two workers; with two boxes the second worker has none."""
    output, batch, _, loss = end_to_end(seed=5, boxes=boxes)
    if kind == "one head":
        loss = loss.one_to_many
    leaves = [output.box, output.cls]
    for leaf in leaves:
        leaf.requires_grad_()
    alone, parts = loss(output, batch)
    expected = torch.autograd.grad(alone, leaves)

    def share(first: int, last: int):
        own = (batch.image_index >= first) & (batch.image_index < last)
        images = replace(
            batch,
            images=batch.images[first:last],
            image_index=batch.image_index[own] - first,
            classes=batch.classes[own],
            boxes=batch.boxes[own],
        )
        heads = [
            replace(head, box=head.box[first:last], cls=head.cls[first:last])
            for head in (output, output.one_to_one)
        ]
        return replace(heads[0], one_to_one=heads[1]), images

    def with_total(total):
        if isinstance(loss, DetectionLoss):
            return replace(loss, total=total)
        return replace(loss, one_to_one=replace(loss.one_to_one, total=total))

    told: list[torch.Tensor] = []  # what each worker brings to be summed
    for bounds in ((0, 2), (2, 3)):
        with_total(lambda values: told.append(values.detach()) or values)(*share(*bounds))
    assert len(told) == 2, "each worker asks once for sums, boxes or not"
    shares = [with_total(lambda _: sum(told))(*share(*bounds)) for bounds in ((0, 2), (2, 3))]
    torch.testing.assert_close(sum(total for total, _ in shares), alone)
    torch.testing.assert_close(sum(part for _, part in shares), parts)
    for got, wanted in zip(
        torch.autograd.grad(sum(total for total, _ in shares), leaves), expected, strict=True
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(
    ("epoch", "epochs", "share"),
    [(0, 11, 0.8), (4, 11, 0.52), (10, 11, 0.1), (0, 1, 0.8), (30, 11, 0.1)],
)
def test_the_one_to_one_head_takes_over_from_the_first_epoch_to_the_last(epoch, epochs, share):
    model = build_model(load_spec("yolo26p.yaml"), ["a", "b"], seed=0)
    loss = make_loss(TrainArgs(), model, None, epoch=epoch, epochs=epochs)
    assert isinstance(loss, EndToEndLoss)
    assert loss.share == pytest.approx(share)
    assert (loss.one_to_many.topk, loss.one_to_many.single) == (10, False)
    assert (loss.one_to_one.topk, loss.one_to_one.single) == (7, True)


def test_the_loss_is_made_as_the_arguments_say():
    model = build_model(load_spec("yolo11p.yaml"), ["a", "b"], seed=0)
    args = TrainArgs(box=5, cls=1, dfl=2, cls_pw=1, label_smoothing=0.2)
    loss = make_loss(args, model, torch.tensor([3, 1]), epoch=0, epochs=1)
    assert isinstance(loss, DetectionLoss)
    assert (loss.box, loss.cls, loss.dfl, loss.label_smoothing) == (5, 1, 2, 0.2)
    assert loss.strides == (8, 16, 32)
    assert loss.class_weights.tolist() == pytest.approx([0.5, 1.5])
    assert make_loss(TrainArgs(), model, torch.tensor([3, 1]), epoch=0, epochs=1).class_weights is None


@pytest.mark.parametrize("name", ["yolo11p.yaml", "yolo26p.yaml"])
def test_a_model_learns_a_batch_by_heart(name):
    """All of it together: what the loss asks for is what decoding gives back."""
    model = build_model(load_spec(name), ["a", "b"], seed=0)
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        images=torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8, generator=generator),
        image_index=torch.tensor([0, 1]),
        classes=torch.tensor([0, 1]),
        boxes=torch.tensor([[8.0, 16.0, 40.0, 48.0], [30.0, 10.0, 60.0, 34.0]]),
        records=torch.tensor([0, 1]),
    )
    loss = make_loss(TrainArgs(), model, None, epoch=0, epochs=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(40):
        output = model(batch.images / 255)
        optimizer.zero_grad()
        loss(output, batch)[0].backward()
        optimizer.step()
    output = model(batch.images / 255)
    for head in filter(None, (output, output.one_to_one)):
        boxes, scores = model.decode(head)
        for image in range(2):
            anchor = int(scores[image, :, image].argmax())
            assert scores[image, anchor, image] > scores[image, anchor, 1 - image]
            assert complete_iou(boxes[image, anchor][None], batch.boxes[image][None]) > 0.6


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


def test_classes_without_boxes_weigh_as_the_others_do_in_the_mean():
    assert class_weights(torch.tensor([4, 0, 1]), 1).tolist() == pytest.approx([0.4, 1.0, 1.6])
    assert class_weights(torch.tensor([0, 0]), 1) is None
