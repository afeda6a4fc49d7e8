"""Checkpoints: a model and what is known about it <-> one file that cannot run code.

We write plain tensors, numbers, strings, lists and dicts. A file holds the model's whole description, so it
needs no YAML beside it. Weights are float32 whatever device or precision trained them. We read such files and
Ultralytics' public .pt, neither with Python's own unpickler. Does not know what training puts into `extra`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunekit.atomic import write_atomic
from tunekit.errors import CheckpointError, ModelError
from tunekit.models.adapter import adapted
from tunekit.models.archive import SavedFile
from tunekit.models.build import DetectionModel, ModelSpec
from tunekit.models.checkpoint import Checkpoint, described_model
from tunekit.models.permitted import LONGEST_NAME, SCALARS, STORAGES

FORMAT = "tunekit-detector"
VERSION = 1


def save_model(
    path: Path,
    model: DetectionModel,
    *,
    train_args: dict[str, Any],
    metrics: dict[str, Any],
    extra: dict[str, Any] | None = None,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Write atomically: a reader sees the old file or the new one. `check` as in `write_atomic`."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "tunekit": _tunekit_version(),
        "spec": {"name": model.spec.name, "yaml": model.spec.yaml, "scale": model.spec.scale},
        "names": list(model.names),
        "weights": {name: _stored(tensor) for name, tensor in model.state_dict().items()},
        "train_args": train_args,
        "metrics": metrics,
        "extra": extra or {},
    }
    _check_plain(content, "checkpoint")
    write_atomic(Path(path), lambda file: torch.save(content, file), check)


def load_model(path: Path) -> DetectionModel:
    """The model of a checkpoint, on the CPU, in training mode."""
    return model_from(read_checkpoint(path), path)


def model_from(checkpoint: Checkpoint, path: Path) -> DetectionModel:
    """Built without initialising weights (and so without random numbers): the checkpoint brings them all."""
    try:
        model = described_model(checkpoint.spec, checkpoint.names)
        model.load_state_dict(checkpoint.weights, assign=True)
    except (ModelError, RuntimeError) as fault:
        reason = str(fault).splitlines()[0]
        raise CheckpointError(
            f"{path}: its weights do not fit its model description ({reason}). The file was altered; "
            "take another checkpoint of the run, or train again"
        ) from fault
    return model


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and check a file of ours or a public one of Ultralytics. Nothing in it is run.

    CheckpointError: it is missing, damaged, or not a detector that can be built here.
    """
    with SavedFile(Path(path)) as saved:
        content = saved.content
        if isinstance(content, dict) and content.get("format") == FORMAT:
            return _own(saved.plain(content), path)
        return adapted(saved)


def _own(content: dict[str, Any], path: Path) -> Checkpoint:
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has format {content.get('version')}, written by tunekit {content.get('tunekit')}; this "
            f"tunekit {_tunekit_version()} reads format {VERSION}. Install the version that wrote it"
        )
    try:
        found = Checkpoint(
            spec=ModelSpec(**content["spec"]),
            names=tuple(content["names"]),
            weights=content["weights"],
            train_args=content["train_args"],
            metrics=content["metrics"],
            extra=content["extra"],
        )
    except (KeyError, TypeError) as fault:
        raise CheckpointError(
            f"{path} is incomplete ({fault}): take another checkpoint of the run"
        ) from fault
    tables = (found.weights, found.train_args, found.metrics, found.extra)
    if not (
        all(isinstance(table, dict) for table in tables)
        and all(isinstance(name, str) for name in (*found.names, *found.weights))
        and all(isinstance(weight, Tensor) for weight in found.weights.values())
    ):
        raise CheckpointError(f"{path} was altered: take another checkpoint of the run")
    return found


def _stored(tensor: Tensor) -> Tensor:
    """A copy in the plain layout, so that equal weights give equal files and views drag no storage along."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", dtype).clone(memory_format=torch.contiguous_format)


def _check_plain(value: Any, where: str) -> None:
    """Refuse at saving what could not be loaded again: an unreadable checkpoint is worse than none."""
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            if not (isinstance(key, str) and len(key) <= LONGEST_NAME) and type(key) is not int:
                raise TypeError(f"{where}: keys must be short text or whole numbers, not {key!r}")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif isinstance(value, Tensor):
        stored = value.untyped_storage().nbytes() // value.itemsize
        if value.dtype not in STORAGES.values() or value.numel() > stored:
            raise TypeError(
                f"{where}: a tensor of {value.dtype} with {stored} numbers stored is not plain data"
            )
    elif type(value) not in SCALARS:
        raise TypeError(f"{where}: {type(value).__name__} is not plain data")


def _tunekit_version() -> str:
    try:
        return metadata.version("tunekit")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
