"""A model and labelled batches -> how good the model is.

In: a detection model (forward, decode, names) and batches of uint8 images with true boxes in pixels of
those images. Out: a frozen Evaluation. Knows nothing of training, files or how images were loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from tunekit.data.loader import Batch
from tunekit.evaluation.metrics import DetectionMetrics, Matcher
from tunekit.evaluation.nms import suppress
from tunekit.models.build import DetectionModel
from tunekit.models.heads import HeadOutput


@dataclass(frozen=True)
class Detections:
    """What was found in one image, from the most confident on."""

    boxes: np.ndarray  # (k, 4) float32 xyxy pixels of the batch's images
    scores: np.ndarray  # (k,) float32
    classes: np.ndarray  # (k,) int64


Observer = Callable[[Batch, list[Detections]], object]
"""Sees every batch with what was found in each of its images."""

Loss = Callable[[HeadOutput, Batch], tuple[Tensor, Tensor]]
"""(total, components (3,): box, cls, dfl as means over the batch's images)"""

LOSS_PARTS = ("box", "cls", "dfl")


@dataclass(frozen=True)
class Evaluation:
    """What a pass over the batches showed."""

    metrics: DetectionMetrics
    losses: dict[str, float] | None  # box, cls, dfl a mean image has; None where no loss was asked for
    images: int
    seconds: float  # in all, the loading included


@torch.inference_mode()
def evaluate(
    model: DetectionModel,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    conf: float = 0.001,
    iou: float = 0.7,
    max_det: int = 300,
    amp_dtype: torch.dtype | None = None,
    loss: Loss | None = None,
    observer: Observer | None = None,
) -> Evaluation:
    """Detect on every batch and compare with its truth. The model's modes are as before afterwards."""
    start = time.perf_counter()
    matcher = Matcher(max_det)
    components = torch.zeros(len(LOSS_PARTS), dtype=torch.float64)
    images = 0
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for batch in batches:
            output = _forward(model, batch.images, device, amp_dtype)
            if loss is not None:
                components += loss(output, batch)[1].double().cpu() * len(batch.images)
            found = _detections(*model.decode(output), conf, iou, max_det)
            _compare(matcher, found, batch)
            if observer is not None:
                observer(batch, found)
            images += len(batch.images)
    finally:
        _restore(modes)
    means = (components / max(images, 1)).tolist()
    return Evaluation(
        metrics=matcher.compute(model.names),
        losses=None if loss is None else dict(zip(LOSS_PARTS, means, strict=True)),
        images=images,
        seconds=time.perf_counter() - start,
    )


def _forward(
    model: DetectionModel, images: Tensor, device: torch.device, amp_dtype: torch.dtype | None
) -> HeadOutput:
    """Raw output in float32: half precision would give many anchors the same confidence."""
    batch = images.to(device, amp_dtype or torch.float32, memory_format=torch.channels_last).div_(255)
    with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
        output: HeadOutput = model(batch)
    return replace(output, box=output.box.float(), cls=output.cls.float())


def _detections(boxes: Tensor, scores: Tensor, conf: float, iou: float, max_det: int) -> list[Detections]:
    """Each image's; boxes (B, A, 4), scores (B, A, nc)."""
    return [
        Detections(*(_numpy(part) for part in suppress(*image, conf, iou, max_det)))
        for image in zip(boxes, scores, strict=True)
    ]


def _compare(matcher: Matcher, found: list[Detections], batch: Batch) -> None:
    true_boxes, true_classes = _numpy(batch.boxes), _numpy(batch.classes)
    bounds = np.searchsorted(_numpy(batch.image_index), np.arange(len(found) + 1))
    for image, (first, last) in zip(found, pairwise(bounds), strict=True):
        matcher.update(
            image.boxes, image.scores, image.classes, true_boxes[first:last], true_classes[first:last]
        )


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


def _restore(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training
