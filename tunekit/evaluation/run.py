"""`tunekit val`: a checkpoint and a data set's split -> how good the model is, shown and returned.

What the checkpoint was trained on, and at which size, holds where the call leaves it out.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tunekit.args import ValArgs
from tunekit.data.cache import open_split
from tunekit.data.dataset import DataConfig, load_data_config
from tunekit.data.labels import summarize
from tunekit.data.loader import ValLoader
from tunekit.errors import ArgumentError, DataError
from tunekit.evaluation.metrics import DetectionMetrics
from tunekit.evaluation.validator import Evaluation, evaluate
from tunekit.models.weights import Checkpoint, model_from, read_checkpoint
from tunekit.training.device import available_cores, select_device


def val(args: ValArgs) -> DetectionMetrics:
    """Measure `args.model` in float32, print a row a class and one for all."""
    path = Path(args.model)
    checkpoint = read_checkpoint(path)
    device = select_device(args.device)
    threads = args.threads or available_cores()
    torch.set_num_threads(threads)
    config = load_data_config(args.data or str(_trained_with(checkpoint, path, "data")))
    _check_classes(config, checkpoint, path)
    imgsz = args.imgsz or int(_trained_with(checkpoint, path, "imgsz"))
    source = open_split(config, args.split, imgsz, args.cache)
    workers = min(8, threads) if args.loader_workers is None else args.loader_workers

    model = model_from(checkpoint, path).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with closing(ValLoader(source, batch=args.batch, workers=workers, stride=max(model.stride))) as batches:
        evaluation = evaluate(
            model, batches, device=device, conf=args.conf, iou=args.iou, max_det=args.max_det
        )
    console = Console()
    if source.problems:
        console.print(summarize(source.problems), soft_wrap=True, markup=False, highlight=False)
    speed = evaluation.images / evaluation.seconds
    title = f"{path} on {args.split} of {config.source}: {imgsz} px, {device}, {speed:.0f} images/s"
    console.print(title, soft_wrap=True, markup=False, highlight=False)
    console.print(_table(evaluation))
    return evaluation.metrics


def _trained_with(checkpoint: Checkpoint, path: Path, name: str) -> Any:
    try:
        return checkpoint.train_args[name]
    except KeyError:
        raise ArgumentError(f"{path} does not say what it was trained with: give {name}=") from None


def _check_classes(config: DataConfig, checkpoint: Checkpoint, path: Path) -> None:
    """Classes are matched by number, so other names would count right finds as wrong ones."""
    theirs, ours = config.names, checkpoint.names
    if theirs == ours:
        return
    if len(theirs) != len(ours):
        raise DataError(f"{config.source} has {len(theirs)} classes, {path} knows {len(ours)}")
    number = next(index for index, pair in enumerate(zip(theirs, ours, strict=True)) if len(set(pair)) > 1)
    raise DataError(
        f"{config.source}: class {number} is '{theirs[number]}', in {path} it is '{ours[number]}':"
        " give the data set the names that the model was trained with"
    )


def _table(evaluation: Evaluation) -> Table:
    metrics = evaluation.metrics
    table = Table(box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for name in ("images", "instances", "P", "R", "mAP50", "mAP50-95"):
        table.add_column(name, justify="right", no_wrap=True)
    instances = sum(row.instances for row in metrics.classes)
    total = (metrics.precision, metrics.recall, metrics.map50, metrics.map)
    table.add_row("all", str(evaluation.images), str(instances), *_digits(total), style="bold")
    for row in metrics.classes:
        each = (row.precision, row.recall, row.map50, row.map)
        table.add_row(escape(row.name), str(row.images), str(row.instances), *_digits(each))
    return table


def _digits(values: tuple[float, ...]) -> list[str]:
    return [f"{value:.4f}" for value in values]
