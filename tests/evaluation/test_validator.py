"""Evaluating a model: a stand-in that recites known boxes shows what the validator does with them."""

import pytest
import torch
from torch import nn

from tunekit.args import TrainArgs
from tunekit.data.loader import Batch
from tunekit.errors import ModelError
from tunekit.evaluation.nms import suppress, top_detections
from tunekit.evaluation.validator import evaluate
from tunekit.models.build import build_model, load_spec
from tunekit.models.fuse import fused
from tunekit.models.heads import HeadOutput
from tunekit.training.loss import make_loss
from tunekit.training.ranks import Ranks

CPU = torch.device("cpu")
SIDE = 64


class Reciter(nn.Module):
    """Tells the class of an image's one object from its brightest channel, always with the same box."""

    names = ("red", "green", "blue")
    end2end = False

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


def test_a_model_in_training_is_left_as_it_is():
    model = Reciter().train()
    model.body[1].eval()  # a frozen part
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, [_batch([0])], device=CPU)
    assert model.training
    assert model.body[0].training
    assert not model.body[1].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_max_det_and_conf_limit_what_counts():
    batch = _batch([0], objects=1)
    assert evaluate(Reciter(), [batch], device=CPU, conf=0.9999999).metrics.map == 0
    everything = evaluate(Reciter(), [batch], device=CPU, conf=0.0, max_det=1)
    assert everything.metrics.map == 1, "the one detection kept is the most confident"


def _detector(name):
    """With weights that detect something: both heads different, classes confident enough."""
    model = build_model(load_spec(name), ["red", "green", "blue"], seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        for name, parameter in model.head.named_parameters():
            if "cv3" in name and name.endswith("2.bias"):
                parameter.add_(8)
    return model


def _seen(model, batch, **arguments):
    """What evaluate shows of a batch, and its result."""
    shown = []
    result = evaluate(model, [batch], device=CPU, observer=lambda _, found: shown.extend(found), **arguments)
    return shown, result


@pytest.mark.parametrize(
    ("name", "end2end", "nms_free"),
    [
        ("yolo11p.yaml", None, False),
        ("yolo26p.yaml", None, True),
        ("yolo26p.yaml", False, False),
    ],
)
def test_what_is_found_is_what_the_model_and_the_head_s_rule_say(name, end2end, nms_free):
    model, batch = _detector(name), _batch([0, 1])
    shown, _ = _seen(model, batch, end2end=end2end)
    with torch.no_grad():
        # The very copy that evaluate makes: an untrained model gives many anchors nearly equal scores.
        output = fused(model)(batch.images.float().to(memory_format=torch.channels_last) / 255)
        if nms_free:
            expected = top_detections(*model.decode(output.one_to_one), 0.001, 300)
        else:
            expected = [
                suppress(*image, 0.001, 0.7, 300) for image in zip(*model.decode(output), strict=True)
            ]
    for image, (boxes, scores, classes) in zip(shown, expected, strict=True):
        assert len(scores) > 20
        assert image.boxes.tolist() == boxes.tolist()
        assert image.scores.tolist() == scores.tolist()
        assert image.classes.tolist() == classes.tolist()


def test_a_model_without_such_a_head_cannot_be_asked_for_it():
    model = build_model(load_spec("yolo11p.yaml"), ["a"], seed=0)
    with pytest.raises(ModelError, match="yolo11p has no head that works without NMS"):
        evaluate(model, [], device=CPU, end2end=True)


@pytest.mark.parametrize("end2end", [True, False])
def test_an_end_to_end_model_s_losses_do_not_depend_on_the_head_that_detects(end2end):
    model, batch = _detector("yolo26p.yaml"), _batch([0, 1, 2])
    loss = make_loss(TrainArgs(), model, None, epoch=1, epochs=3)
    _, result = _seen(model, batch, end2end=end2end, loss=loss)
    with torch.no_grad():
        _, parts = loss(model.eval()(batch.images / 255), batch)
    assert result.losses == pytest.approx(
        dict(zip(("box", "cls", "dfl"), parts.tolist(), strict=True)), rel=1e-4
    )


def test_workers_that_share_the_images_all_get_the_result_of_all():
    class Shares(Ranks):
        """The last of two workers: gathers what the first one, which ran before, has brought."""

        def gather(self, thing):
            brought.append(thing)
            return list(brought)

    def loss(output, batch):
        parts = torch.tensor([1.0, 2.0, 3.0]) * len(batch.images)
        return parts.sum(), parts

    brought = []
    shares = [[_batch([0, 1]), _batch([2])], [_batch([1, 1, 0])]]
    alone = evaluate(Reciter(), shares[0] + shares[1], device=CPU, conf=0.5, loss=loss)
    for share in shares:
        together = evaluate(Reciter(), share, device=CPU, conf=0.5, loss=loss, ranks=Shares())
    assert together.metrics == alone.metrics
    assert together.images == alone.images == 6
    assert together.losses == pytest.approx(alone.losses)
