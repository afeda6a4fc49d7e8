"""A trained model on a split of a data set: how good it is, and what people want to see of it.

In: a model, the ImageSource and its batches in order. Out: an Evaluation and, in a folder that is there,

    metrics.yaml                                           all figures, also those of each class
    BoxPR_curve.png  BoxF1_curve.png  BoxP_curve.png  BoxR_curve.png                          with plots
    confusion_matrix.png  confusion_matrix_normalized.png  confusion_matrix.csv
    val_batch0_labels.jpg  val_batch0_pred.jpg  ... of the first three batches
    predictions.json  ground_truth.json                                                   with save_json

Knows nothing of arguments, checkpoints and terminals; `tunekit val` and the end of a training both call it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import yaml

from tunekit.atomic import write_text
from tunekit.data.cache import ImageSource
from tunekit.data.loader import Batch
from tunekit.evaluation.coco import CocoWriter
from tunekit.evaluation.confusion import ConfusionMatrix
from tunekit.evaluation.metrics import Matcher
from tunekit.evaluation.validator import Detections, Evaluation, evaluate
from tunekit.models.build import DetectionModel

METRICS = "metrics.yaml"
PICTURES = 3  # batches that are shown
SHOWN = 16  # images of a batch that are shown
DIGITS = 6  # of a figure


def measure(
    model: DetectionModel,
    source: ImageSource,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    conf: float = 0.001,
    iou: float = 0.7,
    max_det: int = 300,
    end2end: bool | None = None,
    amp_dtype: torch.dtype | None = None,
    folder: Path | None = None,
    plots: bool = True,
    save_json: bool = False,
) -> Evaluation:
    """Evaluate, and write the files into `folder`; without a folder nothing is written.

    `batches` are those of `source`, whose names are the model's.
    """
    watchers: list[_Plots | _Json] = []
    if folder is not None:
        watchers = [*([_Plots(source, max_det)] if plots else []), *([_Json(source)] if save_json else [])]

    def watch(batch: Batch, found: list[Detections]) -> None:
        for watcher in watchers:
            watcher.see(batch, found)

    evaluation = evaluate(
        model,
        batches,
        device=device,
        conf=conf,
        iou=iou,
        max_det=max_det,
        end2end=end2end,
        amp_dtype=amp_dtype,
        observer=watch if watchers else None,
    )
    if folder is not None:
        write_text(folder / METRICS, metrics_yaml(evaluation))
        for watcher in watchers:
            watcher.write(folder)
    return evaluation


def metrics_yaml(evaluation: Evaluation) -> str:
    """All figures, under the names YOLO users know."""
    metrics = evaluation.metrics
    content = {
        "images": evaluation.images,
        "instances": sum(row.instances for row in metrics.classes),
        **_figures(metrics.precision, metrics.recall, metrics.f1, metrics.map50, metrics.map),
        "best_f1_confidence": round(metrics.f1_conf, DIGITS),
        "images_per_second": round(evaluation.images / evaluation.seconds, 1),
        "classes": [
            {
                "index": row.index,
                "name": row.name,
                "images": row.images,
                "instances": row.instances,
                **_figures(row.precision, row.recall, row.f1, row.map50, row.map),
            }
            for row in metrics.classes
        ],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _figures(precision: float, recall: float, f1: float, map50: float, map: float) -> dict[str, float]:
    figures = {"precision": precision, "recall": recall, "f1": f1, "mAP50": map50, "mAP50-95": map}
    return {name: round(value, DIGITS) for name, value in figures.items()}


class _Plots:
    """Collects what curves, confusion matrix and pictures show."""

    def __init__(self, source: ImageSource, max_det: int) -> None:
        self._names = source.names
        self._paths = source.paths
        self._matcher = Matcher(max_det)
        self._confusion = ConfusionMatrix(source.names)
        self._kept: list[tuple[Batch, list[Detections]]] = []

    def see(self, batch: Batch, found: Sequence[Detections]) -> None:
        true_boxes, true_classes = batch.boxes.cpu().numpy(), batch.classes.cpu().numpy()
        bounds = np.searchsorted(batch.image_index.cpu().numpy(), np.arange(len(found) + 1))
        for one, (first, last) in zip(found, pairwise(bounds), strict=True):
            image = one.boxes, one.scores, one.classes, true_boxes[first:last], true_classes[first:last]
            self._matcher.update(*image)
            self._confusion.update(*image)
        if len(self._kept) < PICTURES:
            # A copy: whoever made the batch may use its memory again.
            few = replace(batch, images=batch.images[:SHOWN].cpu().clone())
            self._kept.append((few, list(found[:SHOWN])))

    def write(self, folder: Path) -> None:
        # matplotlib takes its time to load, and a validation without plots does not need it.
        from tunekit.results.confusion_plots import write_confusion
        from tunekit.results.curve_plots import write_curves
        from tunekit.results.pictures import write_detections, write_truth

        write_curves(folder, self._matcher.curves(self._names))
        write_confusion(folder, self._confusion)
        for number, (batch, found) in enumerate(self._kept):
            captions = [os.path.basename(self._paths[record]) for record in batch.records.tolist()]
            write_truth(folder / f"val_batch{number}_labels.jpg", batch, self._names, captions)
            write_detections(folder / f"val_batch{number}_pred.jpg", batch, found, self._names, captions)


class _Json:
    """Collects detections for COCO's programs."""

    def __init__(self, source: ImageSource) -> None:
        self._writer = CocoWriter(source)

    def see(self, batch: Batch, found: Sequence[Detections]) -> None:
        self._writer.add(batch, found)

    def write(self, folder: Path) -> None:
        self._writer.write(folder)
