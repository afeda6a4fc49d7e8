"""The layer table, read: rows [from, repeats, module, args] -> Layers with channels and strides known.

In: the plain data of a model YAML and a scale. Out: one Layer a row, complete enough to be built. Raises
TableFault with the row's index, or the key, for whatever is wrong. Builds no module and reads no file.
"""

from __future__ import annotations

import ast
import difflib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import nn

from tunekit.models.rows import (
    OTHERS,
    SCALED,
    TableFault,
    concat,
    detect_args,
    is_int,
    is_positive,
    pooling_args,
    scaled_args,
    step,
    upsample,
)


@dataclass(frozen=True)
class Layer:
    """One row: `module(*args)`, `copies` times in sequence, fed by the layers `sources` (-1: the image)."""

    sources: tuple[int, ...]
    module: str
    args: tuple[Any, ...]  # complete: channels first; of Detect the levels' strides
    copies: int
    channels: tuple[int, ...]  # of each source
    out: tuple[int, Fraction]  # channels and stride of the result


@dataclass(frozen=True)
class Table:
    layers: tuple[Layer, ...]
    reg_max: int  # bins of a box side's distribution; 1: the side itself, without a distribution
    end2end: bool  # whether the head has a second pair of branches, which needs no NMS
    depthwise_classes: bool  # YOLO11's class branch, chosen by the presence of C3k2 as in the reference
    class_width: int | None  # channels inside the class branch; None: as follows from the classes
    activation: nn.Module | None  # instead of SiLU


def read_table(table: dict[str, Any], scale: str) -> Table:
    scaling = _scaling(table, scale)
    rows = _rows(table)
    reg_max, activation = _count(table, "reg_max") or 16, _activation(table.get("activation"))
    end2end, sppf_act = _switch(table, "end2end"), _switch(table, "sppf_act")
    depthwise, class_width = _switch(table, "cls_depthwise"), _count(table, "cls_width")
    layers: list[Layer] = []
    for index, row in enumerate(rows):
        try:
            layers.append(_layer(index, row, layers, table, scaling, scale, sppf_act))
        except TableFault as fault:
            raise TableFault(str(fault), index) from fault
        if layers[-1].module == "Detect" and index != len(rows) - 1:
            raise TableFault("Detect must be the last layer", index)
    if layers[-1].module != "Detect":
        raise TableFault(f"the last layer must be Detect, not {layers[-1].module}", len(rows) - 1)
    if depthwise is None:
        depthwise = any(layer.module == "C3k2" for layer in layers)
    return Table(tuple(layers), reg_max, bool(end2end), depthwise, class_width, activation)


def _count(table: dict[str, Any], key: str) -> int | None:
    """The value of a key that is a whole number from 1; None where the table leaves it open."""
    value = table.get(key)
    if value is not None and not is_int(value, 1):
        raise TableFault(f"{key} must be a whole number from 1, not {value!r}", key=key)
    return value


def _switch(table: dict[str, Any], key: str) -> bool | None:
    """The value of a yes-or-no key; None where the table leaves it open."""
    value = table.get(key)
    if value is not None and not isinstance(value, bool):
        raise TableFault(f"{key} must be true or false, not {value!r}", key=key)
    return value


def _scaling(table: dict[str, Any], scale: str) -> tuple[float, float, float]:
    """Depth and width multiples and the most channels before scaling."""
    if scale:
        values = table["scales"][scale]
        if not (isinstance(values, list) and len(values) == 3 and all(is_positive(v) for v in values)):
            raise TableFault(
                f"scales: {scale} must be [depth, width, max channels], not {values!r}", key="scales"
            )
        depth, width, most = values
        return depth, width, most
    depth, width = table.get("depth_multiple", 1.0), table.get("width_multiple", 1.0)
    if not (is_positive(depth) and is_positive(width)):
        raise TableFault(
            f"depth_multiple {depth!r} and width_multiple {width!r} must be positive numbers",
            key="width_multiple" if is_positive(depth) else "depth_multiple",
        )
    return depth, width, math.inf


def _rows(table: dict[str, Any]) -> list[Any]:
    for section in ("backbone", "head"):
        if not isinstance(table.get(section), list):
            raise TableFault(
                f"it needs `{section}:`, a list of layers [from, repeats, module, args]", key=section
            )
    if not (rows := table["backbone"] + table["head"]):
        raise TableFault("the table has no layers")
    for key in ("ch", "channels"):
        if table.get(key, 3) != 3:
            raise TableFault(f"{key}: {table[key]!r}: images have 3 channels here", key=key)
    return rows


def _layer(
    index: int,
    row: Any,
    before: list[Layer],
    table: dict[str, Any],
    scaling: tuple[float, float, float],
    scale: str,
    sppf_act: bool | None,
) -> Layer:
    if not (isinstance(row, list) and len(row) == 4):
        raise TableFault(f"a layer is [from, repeats, module, args], not {row!r}")
    origin, repeats, module, args = row
    if not is_int(repeats, 1):
        raise TableFault(f"repeats must be a whole number from 1, not {repeats!r}")
    if not isinstance(args, list):
        raise TableFault(f"args must be a list, not {args!r}")
    if not isinstance(module, str) or (module not in SCALED and module not in OTHERS):
        known = [*SCALED, *OTHERS]
        close = difflib.get_close_matches(str(module), known, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}? " if close else ""
        raise TableFault(f"unknown module {module!r}: {hint}Known are {', '.join(known)}")
    sources = _sources(origin, index)
    inputs = [before[s].out if s >= 0 else (3, Fraction(1)) for s in sources]
    channels, strides = tuple(c for c, _ in inputs), tuple(s for _, s in inputs)
    if len(sources) > 1 and module not in ("Concat", "Detect"):
        raise TableFault(f"{module} takes one input, not the layers {list(sources)}")
    n = max(round(repeats * scaling[0]), 1) if repeats > 1 else repeats
    if n > 1 and module in ("Concat", "Detect"):
        raise TableFault(f"{module} cannot be repeated")
    if module == "Detect":
        return Layer(sources, module, detect_args(args, strides), 1, channels, (0, Fraction(1)))
    values = tuple(_value(a, table) for a in args)
    complete: tuple[Any, ...]
    if module == "Concat":
        out, complete = concat(values, sources, channels, strides), (1,)
    elif module == "nn.Upsample":
        out, complete = upsample(values, n, channels[0], strides[0]), values
    else:
        complete = scaled_args(module, values, args, channels[0], n, scaling, scale)
        if module == "SPPF":
            complete = pooling_args(complete, sppf_act)
        n = 1 if SCALED[module][1] else n  # inside, the repeats are among the args
        out = (complete[1], strides[0] * step(module, complete) ** n)
    return Layer(sources, module, complete, n, channels, out)


def _sources(origin: Any, index: int) -> tuple[int, ...]:
    """Absolute indices of the layers a row reads; -1 is the image, which only layer 0 reads."""
    origins = origin if isinstance(origin, list) else [origin]
    if not origins or not all(is_int(o) for o in origins):
        raise TableFault(f"from must be a layer number or a list of them, not {origin!r}")
    sources = tuple(o if o >= 0 else index + o for o in origins)
    for o, source in zip(origins, sources, strict=True):
        if source >= index or source < (0 if index else -1):
            there = f"layers 0 to {index - 1} come before it" if index else "layer 0 reads the image, -1"
            raise TableFault(f"from {o} is out of range: {there}")
    return sources


def _value(arg: Any, table: dict[str, Any]) -> Any:
    """An argument as a row means it: `None`, `True`, numbers and quoted words may be written as text."""
    if not isinstance(arg, str):
        return arg
    if arg in table and isinstance(table[arg], int | float | str):
        return table[arg]
    try:
        return ast.literal_eval(arg)
    except (ValueError, SyntaxError):
        return arg


def _activation(text: Any) -> nn.Module | None:
    """`activation: nn.ReLU()` of the table; written as a call, but never evaluated as code."""
    if text is None:
        return None
    known = ("SiLU", "ReLU", "ReLU6", "LeakyReLU", "Hardswish", "GELU", "Mish", "ELU")
    name, _, rest = str(text).removeprefix("torch.").removeprefix("nn.").partition("(")
    try:
        if name not in known:
            raise ValueError
        numbers = ast.literal_eval(f"({rest.removesuffix(')')},)") if rest.strip(" )") else ()
        return getattr(nn, name)(*numbers)
    except (ValueError, SyntaxError, TypeError):
        raise TableFault(
            f"unknown activation {text!r}: use nn.X() with X of {', '.join(known)}", key="activation"
        ) from None
