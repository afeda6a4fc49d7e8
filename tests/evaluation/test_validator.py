"""Evaluating a model: a stand-in that recites known boxes shows what the validator does with them."""

import pytest
import torch
from torch import nn

from tunekit.data.loader import Batch
from tunekit.evaluation.validator import evaluate
from tunekit.models.heads import HeadOutput

CPU = torch.device("cpu")
SIDE = 64


class Reciter(nn.Module):
    """Tells the class of an image's one object from its brightest channel, always with the same box."""

    names = ("red", "green", "blue")

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3))
        nn.init.dirac_(self.body[0].weight)
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        means = self.body(images).mean((2, 3))  # (B, 3)
        box = torch.tensor([8.0, 8, 40, 40]).expand(len(images), 1, 4)
        return HeadOutput(
            box=box, cls=means[:, None] * 20 - 10, anchors=torch.zeros(1, 2), strides=torch.ones(1, 1)
        )

    def decode(self, output):
        assert not torch.is_grad_enabled()
        return output.box, output.cls.sigmoid()


def _batch(classes, objects=1):
    images = torch.zeros(len(classes), 3, SIDE, SIDE, dtype=torch.uint8)
    for row, index in enumerate(classes):
        images[row, index] = 255
    boxes = torch.tensor([[8.0, 8, 40, 40]]).repeat(len(classes) * objects, 1)
    rows = torch.arange(len(classes)).repeat_interleave(objects)
    truth = torch.tensor(classes).repeat_interleave(objects)
    return Batch(
        images=images, image_index=rows, classes=truth, boxes=boxes, records=torch.arange(len(classes))
    )


def test_a_model_that_is_right_scores_one():
    result = evaluate(Reciter(), [_batch([0, 1]), _batch([2])], device=CPU, conf=0.5)
    metrics = result.metrics
    assert (metrics.map50, metrics.map, metrics.precision, metrics.recall) == (1, 1, 1, 1)
    assert [c.name for c in metrics.classes] == ["red", "green", "blue"]
    assert result.images == 3
    assert result.seconds > 0
    assert result.losses is None


def test_truth_is_compared_with_its_own_image():
    swapped = _batch([0, 1, 1])
    wrong = Batch(
        swapped.images, swapped.image_index, swapped.classes.flip(0), swapped.boxes, swapped.records
    )
    assert evaluate(Reciter(), [wrong], device=CPU, conf=0.5).metrics.classes[0].recall == 0


def test_images_without_truth_and_batches_without_any_are_fine():
    batch = _batch([0, 1])
    background = Batch(batch.images, batch.image_index[:0], batch.classes[:0], batch.boxes[:0], batch.records)
    assert evaluate(Reciter(), [background], device=CPU).metrics.map == 0
    assert evaluate(Reciter(), [background, batch], device=CPU, conf=0.5).metrics.recall == 1
    assert evaluate(Reciter(), [], device=CPU).metrics.map == 0


def test_images_reach_the_model_as_channels_last_floats_up_to_one():
    model = Reciter()
    evaluate(model, [_batch([0, 1])], device=CPU)
    assert model.seen[0].dtype == torch.float32
    assert model.seen[0].max() == 1
    assert model.seen[0].is_contiguous(memory_format=torch.channels_last)


def test_half_precision_changes_the_model_s_input_and_hardly_the_result():
    model = Reciter()
    result = evaluate(model, [_batch([0, 1, 2])], device=CPU, conf=0.5, amp_dtype=torch.bfloat16)
    assert model.seen[0].dtype == torch.bfloat16
    assert result.metrics.map == 1


def test_losses_are_means_over_images_not_batches():
    def loss(output, batch):
        parts = torch.tensor([1.0, 2.0, 3.0]) * len(batch.images)  # 3 for three images, 1 for one
        return parts.sum(), parts

    losses = evaluate(Reciter(), [_batch([0, 1, 2]), _batch([1])], device=CPU, loss=loss).losses
    assert losses == pytest.approx({"box": 2.5, "cls": 5.0, "dfl": 7.5})


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_s_modes_are_restored_part_by_part_also_after_a_fault(fails):
    def loss(output, batch):
        raise RuntimeError("no")

    model = Reciter().train()
    model.body[1].eval()  # a frozen part
    running = model.body[1].running_mean.clone()
    if fails:
        with pytest.raises(RuntimeError, match="no"):
            evaluate(model, [_batch([0])], device=CPU, loss=loss)
    else:
        evaluate(model, [_batch([0])], device=CPU)
    assert model.training
    assert model.body[0].training
    assert not model.body[1].training
    assert torch.equal(model.body[1].running_mean, running)


def test_max_det_and_conf_limit_what_counts():
    batch = _batch([0], objects=1)
    assert evaluate(Reciter(), [batch], device=CPU, conf=0.9999999).metrics.map == 0
    everything = evaluate(Reciter(), [batch], device=CPU, conf=0.0, max_det=1)
    assert everything.metrics.map == 1, "the one detection kept is the most confident"
