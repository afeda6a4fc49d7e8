"""`tunekit val`: a checkpoint and a data set's split -> how good the model is, shown, written and returned.

What the checkpoint was trained on, and at which size, holds where the call leaves it out. With plots or
save_json there is a run folder: args.yaml and what `measure` writes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from tunekit.args import ValArgs
from tunekit.atomic import write_text
from tunekit.data.cache import ImageSource, open_split
from tunekit.data.dataset import DataConfig, load_data_config
from tunekit.data.labels import summarize
from tunekit.data.loader import ValLoader
from tunekit.errors import ArgumentError, DataError
from tunekit.evaluation.measure import measure
from tunekit.evaluation.metrics import DetectionMetrics
from tunekit.evaluation.validator import Evaluation
from tunekit.models.build import DetectionModel
from tunekit.models.heads import HeadOutput
from tunekit.models.weights import Checkpoint, model_from, read_checkpoint
from tunekit.results.folder import lock_run, new_run_folder, run_name
from tunekit.training.device import autocast_dtype, available_cores, keep_freed_memory, select_device


def val(args: ValArgs) -> DetectionMetrics:
    """Measure `args.model`, print a row a class and one for all."""
    task = _prepare(args)
    with _folder(task.args) as folder:
        evaluation = task.run(folder)
    console = Console()
    if task.source.problems:
        _say(console, summarize(task.source.problems))
    precision = str(task.amp_dtype).removeprefix("torch.") if task.amp_dtype else "float32"
    where = f"{task.args.imgsz} px, {task.device} {precision}"
    _say(console, f"{Path(args.model)} on {args.split} of {task.config.source}: {where}")
    console.print(_table(evaluation))
    _say(console, _closing(evaluation, folder))
    return evaluation.metrics


def fitness_of(args: ValArgs) -> float:
    """The same without a word: nothing is printed or written."""
    return _prepare(args).run(None).metrics.fitness


@dataclass(frozen=True)
class _Task:
    """A model, and the images that it is to be measured on; `args` with nothing left out."""

    args: ValArgs
    config: DataConfig
    source: ImageSource
    model: DetectionModel
    device: torch.device
    amp_dtype: torch.dtype | None

    def run(self, folder: Path | None) -> Evaluation:
        args = self.args
        workers = args.loader_workers or 0
        loader = ValLoader(self.source, batch=args.batch, workers=workers, stride=max(self.model.stride))
        with closing(loader) as batches:
            return measure(
                self.model,
                self.source,
                batches,
                device=self.device,
                conf=args.conf,
                iou=args.iou,
                max_det=args.max_det,
                end2end=args.end2end,
                amp_dtype=self.amp_dtype,
                folder=folder,
                plots=args.plots,
                save_json=args.save_json,
            )


def _prepare(args: ValArgs) -> _Task:
    """Everything that a call may have wrong is found here."""
    path = Path(args.model)
    checkpoint = read_checkpoint(path)
    device = select_device(args.device)
    threads = args.threads or available_cores()
    torch.set_num_threads(threads)
    keep_freed_memory(device)
    data = args.data or str(_trained_with(checkpoint, path, "data"))
    config = load_data_config(data)
    if not args.single_cls:
        _check_classes(config, checkpoint, path)
    imgsz = args.imgsz or int(_trained_with(checkpoint, path, "imgsz"))
    source = open_split(config, args.split, imgsz, args.cache, single_cls=args.single_cls)
    workers = min(8, threads) if args.loader_workers is None else args.loader_workers
    amp_dtype = autocast_dtype(device, args.half)

    model = model_from(checkpoint, path).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if args.single_cls:
        _take_for_one_class(model, source.names)
    resolved = args.model_copy(
        update={
            "data": data,
            "imgsz": imgsz,
            "device": str(device),
            "threads": threads,
            "loader_workers": workers,
        }
    )
    return _Task(resolved, config, source, model, device, amp_dtype)


def table_text(evaluation: Evaluation) -> str:
    """The table as plain lines, for those who print in their own way."""
    console = Console(file=io.StringIO(), width=10_000)
    with console.capture() as captured:
        console.print(_table(evaluation))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def _folder(args: ValArgs) -> Iterator[Path | None]:
    """A new run folder, ours until the end; None where nothing is to be written."""
    if not (args.plots or args.save_json):
        yield None
        return
    folder = new_run_folder(args.project, run_name(args.name, args.model, args.data or ""), args.exist_ok)
    with lock_run(folder):
        write_text(folder / "args.yaml", yaml.safe_dump(args.model_dump(), sort_keys=False))
        yield folder


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


def _take_for_one_class(model: DetectionModel, names: tuple[str, ...]) -> None:
    """From now on the model tells the one class of `names`, as surely as the surest of its own."""

    def surest(module: nn.Module, inputs: tuple[Tensor, ...], output: HeadOutput) -> HeadOutput:
        second = output.one_to_one
        if second is not None:
            second = replace(second, cls=second.cls.amax(-1, keepdim=True))
        return replace(output, cls=output.cls.amax(-1, keepdim=True), one_to_one=second)

    model.register_forward_hook(surest)
    model.names = names


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


def _closing(evaluation: Evaluation, folder: Path | None) -> str:
    metrics, each = evaluation.metrics, evaluation.seconds / max(evaluation.images, 1)
    line = (
        f"best F1 {metrics.f1:.4f} at confidence {metrics.f1_conf:.3f}; "
        f"{1 / each:.0f} images/s ({1000 * each:.1f} ms an image, loading included)"
    )
    return line if folder is None else f"{line} -> {folder}"
