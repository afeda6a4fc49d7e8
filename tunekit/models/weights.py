"""Checkpoints: a model and what is known about it <-> one file that cannot run code.

In and out: plain tensors, numbers, strings, lists and dicts, so that files load with weights_only=True. A
file holds the model's whole description, so it needs no YAML beside it. Weights are float32 whatever device
or precision trained them. Does not know what training puts into `extra`.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunekit.atomic import write_atomic
from tunekit.errors import CheckpointError, ModelError
from tunekit.models.build import DetectionModel, ModelSpec, load_spec

FORMAT = "tunekit-detector"
VERSION = 1
PLAIN = (Tensor, str, int, float, bool, type(None))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's content. `weights` is the state dict on the CPU."""

    spec: ModelSpec
    names: tuple[str, ...]
    weights: dict[str, Tensor]
    train_args: dict[str, Any]
    metrics: dict[str, Any]
    extra: dict[str, Any]


def save_model(
    path: Path,
    model: DetectionModel,
    *,
    train_args: dict[str, Any],
    metrics: dict[str, Any],
    extra: dict[str, Any] | None = None,
) -> None:
    """Write atomically: a reader sees the old file or the new one."""
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
    write_atomic(Path(path), lambda file: torch.save(content, file))


def load_model(path: Path) -> DetectionModel:
    """The model of a checkpoint, on the CPU, in training mode."""
    return model_from(read_checkpoint(path), path)


def model_from(checkpoint: Checkpoint, path: Path) -> DetectionModel:
    """Built without initialising weights (and so without random numbers): the checkpoint brings them all."""
    try:
        with torch.device("meta"):
            model = DetectionModel(checkpoint.spec, checkpoint.names)
        model.load_state_dict(checkpoint.weights, assign=True)
    except (ModelError, RuntimeError) as fault:
        reason = str(fault).splitlines()[0]
        raise CheckpointError(
            f"{path}: its weights do not fit its model description ({reason}). The file was altered; "
            "take another checkpoint of the run, or train again"
        ) from fault
    return model


def check_model(model: str) -> None:
    """Raise ModelError or CheckpointError where `model=` can be neither built nor loaded.

    Cheap, and asked before anything that takes time.
    """
    if model.endswith(".pt"):
        read_checkpoint(Path(model))
    else:
        load_spec(model)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and check a file. CheckpointError: it is missing, damaged, or not tunekit's."""
    content = _read(Path(path))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _foreign(path)
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has format {content.get('version')}, written by tunekit {content.get('tunekit')}; this "
            f"tunekit {_tunekit_version()} reads format {VERSION}. Install the version that wrote it"
        )
    try:
        return Checkpoint(
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


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        with zipfile.ZipFile(path) as archive:  # torch reads weights without comparing their checksums
            if archive.testzip() is not None:
                raise _damaged(path)
        return content
    except CheckpointError:
        raise
    except OSError as fault:
        raise CheckpointError(f"cannot read checkpoint {path}: {fault.strerror or fault}") from fault
    except pickle.UnpicklingError as fault:
        # A pickle of classes (a public .pt) is refused before any of its code runs.
        raise _foreign(path) from fault
    except Exception as fault:  # torch raises many kinds for damaged archives, RuntimeError most often
        raise (_damaged if _begins_as_archive(path) else _foreign)(path) from fault


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged (cut short or altered): delete it and take another checkpoint of the run, "
        "or train again"
    )


def _foreign(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a tunekit checkpoint: this version reads only files that tunekit wrote, no other "
        "program's .pt. Start from a model YAML instead, for example model=yolo11n.yaml"
    )


def _begins_as_archive(path: Path) -> bool:
    """A truncated archive has lost its directory at the end, but still begins as one."""
    start = b"PK\x03\x04"
    with path.open("rb") as file:
        return start.startswith(file.read(len(start)))


def _stored(tensor: Tensor) -> Tensor:
    """A copy in the plain layout, so that equal weights give equal files and views drag no storage along."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", dtype).clone(memory_format=torch.contiguous_format)


def _check_plain(value: Any, where: str) -> None:
    """Refuse at saving what could not be loaded again: an unreadable checkpoint is worse than none."""
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise TypeError(f"{where}: keys must be text or whole numbers, not {key!r}")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif type(value) not in PLAIN and not isinstance(value, Tensor):
        raise TypeError(f"{where}: {type(value).__name__} is not plain data")


def _tunekit_version() -> str:
    try:
        return metadata.version("tunekit")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
