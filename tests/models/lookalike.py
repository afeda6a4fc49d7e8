"""Checkpoints as Ultralytics' trainers pickle them, from classes of the same names that exist only here.

A model of ours becomes one of theirs: modules of classes `ultralytics.nn.modules...`, a layer table in
`yaml`, half-precision weights. The classes are in sys.modules only while a file is written.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunekit.models.build import DetectionModel, build_model, load_spec

HOMES = {
    "Conv": "conv",
    "DWConv": "conv",
    "Concat": "conv",
    "Detect": "head",
    "DetectionModel": "tasks",
}
TASKS = (
    "SegmentationModel",
    "PoseModel",
    "OBBModel",
    "ClassificationModel",
    "RTDETRDetectionModel",
    "WorldModel",
)


def model_of_theirs(model: str = "yolo11p.yaml", classes: int = 3, seed: int = 0) -> DetectionModel:
    """A model of ours with statistics that are not those of a fresh one."""
    ours = build_model(load_spec(model), [f"class {i}" for i in range(classes)], seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.num_batches_tracked.fill_(7)
    return ours


def write(path: Path, model: DetectionModel, kind: str = "DetectionModel", /, **content: Any) -> Path:
    """The file of a finished training. `content` replaces entries; `state` replaces attributes of the model,
    `change` is called with it."""
    with classes_of_theirs() as classes:
        theirs = translated(model, classes, kind)
        theirs.__dict__.update(content.pop("state", {}))
        change = content.pop("change", lambda _: None)
        change(theirs)
        known = {
            "epoch": -1,
            "best_fitness": None,
            "model": theirs,
            "ema": None,
            "optimizer": None,
            "train_args": {"data": "coco.yaml", "imgsz": 640, "lr0": 0.01},
            "train_metrics": {"metrics/mAP50-95(B)": 0.5, "fitness": 0.5},
            "date": "2023-01-01",
            "version": "8.0.0",
        }
        made = {key: value(classes) if callable(value) else value for key, value in content.items()}
        torch.save({**known, **made}, path)
    return path


@contextlib.contextmanager
def classes_of_theirs() -> Iterator[dict[str, type]]:
    """Their classes by name, importable while the context lasts."""
    packages = (
        "",
        ".nn",
        ".nn.modules",
        ".nn.modules.conv",
        ".nn.modules.block",
        ".nn.modules.head",
        ".nn.tasks",
    )
    modules = {f"ultralytics{name}": types.ModuleType(f"ultralytics{name}") for name in packages}
    assert not modules.keys() & sys.modules.keys()
    classes = {}
    blocks = ("Bottleneck", "C2f", "C3k", "C3k2", "SPPF", "Attention", "PSABlock", "C2PSA", "DFL")
    for name in (*HOMES, *blocks, *TASKS):
        home = "tasks" if name in TASKS else HOMES.get(name, "block")
        package = f"ultralytics.nn.{home}" if home == "tasks" else f"ultralytics.nn.modules.{home}"
        classes[name] = type(name, (nn.Module,), {"__module__": package})
        setattr(modules[package], name, classes[name])
    sys.modules.update(modules)
    try:
        yield classes
    finally:
        for name in modules:
            del sys.modules[name]


def translated(model: DetectionModel, classes: dict[str, type], kind: str = "DetectionModel") -> nn.Module:
    """The same modules in their classes, in half precision, with what their models know of themselves."""
    model = copy.deepcopy(model).half()
    theirs = _translated(model, classes)
    theirs.__class__ = classes[kind]
    theirs.yaml = {
        **copy.deepcopy(model.spec.yaml),
        "scale": model.spec.scale,
        "nc": model.nc,
        "yaml_file": f"{model.spec.name}.yaml",
        "ch": 3,
    }
    theirs.names = dict(enumerate(model.names))
    theirs.stride = torch.tensor([float(stride) for stride in model.stride])
    theirs.nc, theirs.task, theirs.args = model.nc, "detect", {"lr0": 0.01}
    return theirs


def _translated(module: nn.Module, classes: dict[str, type]) -> nn.Module:
    if type(module).__module__.startswith("torch.nn"):
        theirs = module
    else:
        theirs = classes[type(module).__name__].__new__(classes[type(module).__name__])
        nn.Module.__init__(theirs)
        theirs._parameters, theirs._buffers = module._parameters, module._buffers
        if type(module).__name__ == "Attention":
            theirs.num_heads, theirs.key_dim = module.heads, module.key_dim
        elif type(module).__name__ in ("Bottleneck", "SPPF"):
            theirs.add = module.add
    theirs._modules = {name: _translated(child, classes) for name, child in module._modules.items()}
    return theirs
