"""A checkpoint's content, wherever it came from, and the model that it describes, still without weights.

Descriptions come out of files that anybody may have written: `described_model` builds them without memory for
weights and within bounds, and says in one ModelError what is wrong with one. Reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tunekit.errors import ModelError
from tunekit.models.build import DetectionModel
from tunekit.models.rows import SCALED, TableFault
from tunekit.models.spec import ModelSpec
from tunekit.models.table import read_table

MOST_BLOCKS = 2000  # the largest public model has 60
Shapes = Mapping[str, Sequence[int]]  # of a state dict
FIRST_CLASSES = re.compile(r"(model\.\d+\.cv3\.0)\.2\.weight")
LONGEST_WORD = 200  # of a table: Python's parser reads some of them


@dataclass(frozen=True)
class Checkpoint:
    """`weights` is the state dict on the CPU."""

    spec: ModelSpec
    names: tuple[str, ...]
    weights: dict[str, Tensor]
    train_args: dict[str, Any]
    metrics: dict[str, Any]
    extra: dict[str, Any]


def described_model(spec: ModelSpec, names: Sequence[str]) -> DetectionModel:
    """The model on the device `meta`: shapes without numbers. Draws no random numbers."""
    try:
        _check_bounds(spec)
        with torch.device("meta"):
            return DetectionModel(spec, names)
    except ModelError:
        raise
    except TableFault as fault:
        where = "" if fault.layer is None else f"layer {fault.layer}: "
        raise ModelError(f"{where}{fault}") from fault
    except _CONFUSION as fault:
        raise ModelError(f"its layer table is damaged ({type(fault).__name__})") from fault


def with_class_branch(spec: ModelSpec, ours: Shapes, theirs: Shapes, kind: bool = True) -> ModelSpec:
    """The spec of a model of shapes `ours`, or one whose class branch is that of the weights `theirs`.

    Its width follows from the number of classes, but a model that was fine-tuned from one of other classes
    keeps the width that its weights were trained at. Its kind follows from the other layers, but Ultralytics
    8.3.0 built YOLOv8 with the depthwise branch of YOLO11; without `kind` only the width is taken over.
    """
    own, other = _class_branch(ours), _class_branch(theirs)
    more: dict[str, Any] = {}
    if own is None or other is None or (own[1] != other[1] and not kind):
        return spec
    if own[0] != other[0]:
        more["cls_width"] = other[0]
    if own[1] != other[1]:
        more["cls_depthwise"] = other[1]
    return replace(spec, yaml={**spec.yaml, **more}) if more else spec


def _class_branch(shapes: Shapes) -> tuple[int, bool] | None:
    """Width of the class branch before its last convolution, and whether it is depthwise."""
    for name, shape in shapes.items():
        found = FIRST_CLASSES.fullmatch(name)
        if found is not None and len(shape) == 4:
            return shape[1], f"{found[1]}.0.0.conv.weight" in shapes
    return None


def _check_bounds(spec: ModelSpec) -> None:
    """Repeats and words that no model needs are refused: they would only keep the machine busy."""
    if not (isinstance(spec.name, str) and isinstance(spec.yaml, dict) and isinstance(spec.scale, str)):
        raise ModelError("its layer table is damaged (it is no table)")
    if _longest_word(spec.yaml) > LONGEST_WORD:
        raise ModelError(f"its layer table has a word of more than {LONGEST_WORD} letters")
    blocks = 0
    for layer in read_table(spec.yaml, spec.scale).layers:
        inside = layer.args[2] if layer.module in SCALED and SCALED[layer.module][1] else 1
        blocks += len(layer.sources) + max(layer.copies, inside)
    if blocks > MOST_BLOCKS:
        raise ModelError(f"its layer table has more than {MOST_BLOCKS} blocks")


def _longest_word(value: Any) -> int:
    """Of plain data: how deep it may be was checked when it was read."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return max((_longest_word(item) for item in (*value, *value.values())), default=0)
    if isinstance(value, list | tuple):
        return max((_longest_word(item) for item in value), default=0)
    return 0


# What table-reading code meets when numbers are text, lists are numbers or sizes are astronomic.
_CONFUSION = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)
