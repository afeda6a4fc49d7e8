"""An Ultralytics checkpoint -> a Checkpoint of ours: the only door for foreign weights.

In: a SavedFile whose content holds a detection model as stand-ins of its modules. Out: layer table, class
names and float32 weights, checked against the model that our own code builds from that table (see fit.py).
CheckpointError says what a file lacks, or which task it is of. Runs nothing of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PureWindowsPath
from typing import Any

import torch
from torch import Tensor

from tunekit.errors import CheckpointError, ModelError
from tunekit.models.archive import SavedFile
from tunekit.models.build import DetectionModel
from tunekit.models.checkpoint import Checkpoint, described_model, with_class_branch
from tunekit.models.fit import Unfit, check_numbers, check_places, check_rules
from tunekit.models.permitted import SCALARS, StandIn, StoredTensor
from tunekit.models.spec import ModelSpec

TASKS = {
    "SegmentationModel": "a segmentation model",
    "PoseModel": "a pose model",
    "OBBModel": "a model of oriented boxes",
    "ClassificationModel": "a classification model",
    "RTDETRDetectionModel": "an RT-DETR model",
    "WorldModel": "a YOLO-World model",
    "YOLOEModel": "a YOLOE model",
    "YOLOESegModel": "a YOLOE segmentation model",
    "YOLOv10DetectionModel": "a YOLOv10 model",
}
# What a layer table may say; the rest of a checkpoint's table says nothing that builds a model.
TABLE = ("nc", "scales", "depth_multiple", "width_multiple", "backbone", "head", "activation")
OPTIONAL = ("reg_max", "end2end", "ch", "channels")
FACTS = ("version", "date", "epoch", "best_fitness")
MOST_MODULES = 20_000
DEEPEST = 30
LONGEST_REASON = 500


def adapted(saved: SavedFile) -> Checkpoint:
    """The checkpoint in our form."""
    try:
        model = _model(saved.content)
        modules = dict(_modules(model))
        names = _names(saved, model)
        spec = _spec(saved, model, modules)
        stored = dict(_tensors(modules))
        spec, ours = _built(spec, names, stored)
        check_places(ours, stored)
        check_rules(ours, modules)
        weights = {name: _weight(saved, stored[name], like) for name, like in ours.state_dict().items()}
        check_numbers(ours, _strides(saved, model), weights)
    except Unfit as fault:
        raise CheckpointError(f"{saved.path}: {str(fault)[:LONGEST_REASON]}") from fault
    facts = _scalars({key: saved.content.get(key) for key in FACTS})
    return Checkpoint(
        spec=spec,
        names=names,
        weights=weights,
        train_args=_train_args(saved.content.get("train_args")),
        metrics=_scalars(saved.content.get("train_metrics")),
        extra={"ultralytics": facts},
    )


def _model(content: Any) -> StandIn:
    """The averaged model where there is one, as in a training that is under way; else the model."""
    held = (content.get("ema"), content.get("model")) if isinstance(content, dict) else ()
    for model in held:
        if not isinstance(model, StandIn):
            continue
        package, _, kind = model.kind.rpartition(".")
        if not package.startswith("ultralytics.") or kind != "DetectionModel":
            told = TASKS.get(kind, f"a {model.kind}")
            raise Unfit(f"it holds {told}; only detection models of YOLOv8, YOLO11 and YOLO26 are read")
        if content.get("modelopt"):
            raise Unfit("its model was trained for quantisation, which is not read")
        return model
    raise Unfit("it is no checkpoint of tunekit and holds no Ultralytics model")


def _modules(root: StandIn) -> Iterator[tuple[str, StandIn]]:
    """(path, stand-in) of every module, in the order of the state dict."""
    left = MOST_MODULES
    waiting = [("", root, 0)]
    while waiting:
        path, module, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > DEEPEST:
            raise Unfit("its modules are nested without end")
        yield path, module
        for name, child in reversed(list(_attribute(module, "_modules").items())):
            if isinstance(child, StandIn):
                waiting.append((f"{path}.{name}" if path else str(name), child, depth + 1))


def _attribute(module: StandIn, name: str) -> dict[Any, Any]:
    found = module.state.get(name)
    if type(found) is not dict:
        raise Unfit(f"its {module.kind} is incomplete ({name} is missing)")
    return found


def _tensors(modules: dict[str, StandIn]) -> Iterator[tuple[str, StoredTensor]]:
    """The state dict's entries: parameters, and the buffers that are kept."""
    for path, module in modules.items():
        passing = module.state.get("_non_persistent_buffers_set")
        for kept in ("_parameters", "_buffers"):
            for name, tensor in _attribute(module, kept).items():
                if isinstance(tensor, StoredTensor) and not (type(passing) is set and name in passing):
                    yield f"{path}.{name}", tensor


def _names(saved: SavedFile, model: StandIn) -> tuple[str, ...]:
    found = saved.plain(model.state.get("names"), tensors=False)
    if isinstance(found, list | tuple):
        found = dict(enumerate(found))
    if (
        not isinstance(found, dict)
        or not found
        or sorted(map(str, found)) != sorted(map(str, range(len(found))))
    ):
        raise Unfit("it does not name its classes from 0 on")
    by_number = {str(key): name for key, name in found.items()}
    for name in found.values():
        if type(name) not in (str, int) or not str(name).isprintable() or not str(name):
            raise Unfit("a class has a name that cannot be shown")
    return tuple(str(by_number[str(number)]) for number in range(len(found)))


def _spec(saved: SavedFile, model: StandIn, modules: dict[str, StandIn]) -> ModelSpec:
    table = saved.plain(model.state.get("yaml"), tensors=False)
    if not isinstance(table, dict):
        raise Unfit("it does not say what its model is built from (yaml is missing)")
    file, scales = table.get("yaml_file"), table.get("scales")
    name = PureWindowsPath(file).stem if isinstance(file, str) else ""
    if not 0 < len(name) <= 100 or not name.isprintable():
        name = saved.path.stem
    scale = ""
    if isinstance(scales, dict) and scales:
        scale = str(table.get("scale") or next(iter(scales)))
        scales = {str(key): value for key, value in scales.items()}
    kept = {key: table[key] for key in (*TABLE, *OPTIONAL) if table.get(key) is not None}
    if isinstance(scales, dict):
        kept["scales"] = scales
    active = _pooling_activity(modules)
    if active is not None:
        kept["sppf_act"] = active
    return ModelSpec(name, kept, scale)


def _pooling_activity(modules: dict[str, StandIn]) -> bool | None:
    """Whether SPPF's first convolution is active. The same table meant yes until 8.3 and no since 8.4, so the
    modules tell; the rest of them is compared with what is built."""
    for path, module in modules.items():
        act = modules.get(f"{path}.cv1.act")
        if module.kind.rpartition(".")[2] == "SPPF" and act is not None:
            return act.kind.rpartition(".")[2] != "Identity"
    return None


def _built(
    spec: ModelSpec, names: tuple[str, ...], stored: dict[str, StoredTensor]
) -> tuple[ModelSpec, DetectionModel]:
    """Our model of that table, without weights, and the spec that builds it.

    Its class branch may be another one than follows from its table: then the spec has to say it.
    """
    try:
        model = described_model(spec, names)
        ours = {name: tuple(place.shape) for name, place in model.state_dict().items()}
        spec = with_class_branch(spec, ours, {name: tensor.size for name, tensor in stored.items()})
        if spec is not model.spec:
            model = described_model(spec, names)
    except ModelError as fault:
        raise Unfit(f"its model cannot be built here: {fault}") from fault
    return spec, model


def _weight(saved: SavedFile, stored: StoredTensor, like: Tensor) -> Tensor:
    dtype = torch.float32 if like.is_floating_point() else like.dtype
    return saved.tensor(stored).to(dtype).clone(memory_format=torch.contiguous_format)


def _strides(saved: SavedFile, model: StandIn) -> list[float]:
    stride = model.state.get("stride")
    return saved.tensor(stride).float().flatten().tolist() if isinstance(stride, StoredTensor) else []


def _train_args(found: Any) -> dict[str, Any]:
    args = _scalars(found)
    sides = args.get("imgsz")
    if isinstance(sides, list):
        args["imgsz"] = max((side for side in sides if type(side) is int), default=640)
    return args


def _scalars(found: Any) -> dict[str, Any]:
    """What informs: numbers, words and lists of them. Other things among them are left out."""
    if type(found) is not dict:
        return {}
    return {key: value for key, value in found.items() if type(key) is str and _is_scalar(value)}


def _is_scalar(value: Any) -> bool:
    return type(value) in SCALARS or (type(value) is list and all(type(item) in SCALARS for item in value))
