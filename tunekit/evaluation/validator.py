"""A model and labelled batches -> how good the model is.

In: a detection model and batches of uint8 images with true boxes in pixels of those images. Out: a frozen
Evaluation. The model itself is left alone: what runs is a copy made for inference. Knows nothing of training,
files or how images were loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tunekit.data.loader import Batch
from tunekit.errors import ModelError
from tunekit.evaluation.metrics import DetectionMetrics, Matcher
from tunekit.evaluation.nms import suppress, top_detections
from tunekit.models.build import DetectionModel
from tunekit.models.fuse import fused
from tunekit.models.heads import HeadOutput
from tunekit.training.ranks import ALONE, Ranks


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
    end2end: bool | None = None,
    amp_dtype: torch.dtype | None = None,
    loss: Loss | None = None,
    observer: Observer | None = None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Detect on every batch and compare with its truth.

    `end2end`: by the head that needs no NMS, or by the other one and NMS; None: without NMS where the model
    has that head. Several workers each bring their own batches, as many as they have, and all get the same
    Evaluation, of all images; `loss` and `observer` see a worker's own.
    """
    start = time.perf_counter()
    nms_free = model.end2end if end2end is None else end2end
    if nms_free and not model.end2end:
        raise ModelError(
            f"end2end=True: {model.spec.name} has no head that works without NMS, as YOLO26 has: leave it out"
        )
    detector = fused(model, amp_dtype, nms_free=nms_free)
    seen: list[_Seen] = []
    parts = [torch.zeros(len(LOSS_PARTS), device=device)]
    for batch in batches:
        output = forward(detector, batch.images, device, amp_dtype)
        if loss is not None:
            parts.append(loss(output, batch)[1] * len(batch.images))
        boxes, scores = detector.decode(output)
        if nms_free:
            found = top_detections(boxes, scores, conf, max_det)
        else:
            found = [suppress(*image, conf, iou, max_det) for image in zip(boxes, scores, strict=True)]
        detections = _on_cpu(found)
        seen += _with_truth(detections, batch)
        if observer is not None:
            observer(batch, detections)

    matcher = Matcher(max_det)
    images, losses = 0, np.zeros(len(LOSS_PARTS))
    for theirs, sums in ranks.gather((seen, torch.stack(parts).cpu().double().sum(0).tolist())):
        images, losses = images + len(theirs), losses + sums
        for image in theirs:
            matcher.update(*image)
    means = (losses / max(images, 1)).tolist()
    return Evaluation(
        metrics=matcher.compute(model.names),
        losses=None if loss is None else dict(zip(LOSS_PARTS, means, strict=True)),
        images=images,
        seconds=time.perf_counter() - start,
    )


_Seen = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""An image's detections (boxes, scores, classes) and truth (boxes, classes), as Matcher takes them."""


def forward(
    detector: DetectionModel, images: Tensor, device: torch.device, amp_dtype: torch.dtype | None
) -> HeadOutput:
    """Raw output for uint8 images, in float32: half precision would give many anchors the same confidence."""
    # Bytes travel to the device; they become numbers there.
    batch = images.to(device, non_blocking=True).to(
        amp_dtype or torch.float32, memory_format=torch.channels_last
    )
    with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
        output: HeadOutput = detector(batch.div_(255))
    second = output.one_to_one
    if second is not None:
        second = replace(second, box=second.box.float(), cls=second.cls.float())
    return replace(output, box=output.box.float(), cls=output.cls.float(), one_to_one=second)


def _on_cpu(found: list[tuple[Tensor, Tensor, Tensor]]) -> list[Detections]:
    """Each image's detections; fetched all at once."""
    bounds = np.cumsum([0, *(len(scores) for _, scores, _ in found)])
    boxes, scores, classes = (torch.cat(part).cpu().numpy() for part in zip(*found, strict=True))
    return [Detections(boxes[i:j], scores[i:j], classes[i:j]) for i, j in pairwise(bounds)]


def _with_truth(detections: list[Detections], batch: Batch) -> list[_Seen]:
    boxes, classes, rows = (t.cpu().numpy() for t in (batch.boxes, batch.classes, batch.image_index))
    bounds = np.searchsorted(rows, np.arange(len(detections) + 1))
    return [
        (image.boxes, image.scores, image.classes, boxes[i:j], classes[i:j])
        for image, (i, j) in zip(detections, pairwise(bounds), strict=True)
    ]
