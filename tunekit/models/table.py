"""The layer table, read: rows [from, repeats, module, args] -> Layers with channels and strides known.

In: the plain data of a model YAML and a scale. Out: one Layer a row, complete enough to be built. Raises
TableFault with the row's index for whatever is wrong. Builds no module and reads no file.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import nn

from tunekit.models import blocks
from tunekit.models.heads import Detect

SCALED = {  # modules that take (c1, c2, ...) with c2 scaled by the width; True: repeats go inside, as n
    "Conv": (blocks.Conv, False),
    "DWConv": (blocks.DWConv, False),
    "Bottleneck": (blocks.Bottleneck, False),
    "SPPF": (blocks.SPPF, False),
    "C2f": (blocks.C2f, True),
    "C3k2": (blocks.C3k2, True),
    "C3k": (blocks.C3k, True),
    "C2PSA": (blocks.C2PSA, True),
}
OTHERS = {"nn.Upsample": nn.Upsample, "Concat": blocks.Concat, "Detect": Detect}
LARGE_SCALES = ("m", "l", "x")  # every C3k2 of these is built with c3k=True, whatever its row says


class TableFault(ValueError):
    """What is wrong with a table; `layer` is the row's index where one row is to blame."""

    def __init__(self, message: str, layer: int | None = None) -> None:
        super().__init__(message)
        self.layer = layer


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
    reg_max: int
    depthwise_classes: bool  # YOLO11's class branch, chosen by the presence of C3k2 as in the reference
    activation: nn.Module | None  # instead of SiLU


def read_table(table: dict[str, Any], scale: str) -> Table:
    depth, width, most = _scaling(table, scale)
    rows = _rows(table)
    layers: list[Layer] = []
    for index, row in enumerate(rows):
        try:
            layers.append(_layer(index, row, layers, table, (depth, width, most), scale))
        except TableFault as fault:
            raise TableFault(str(fault), index) from fault
        if layers[-1].module == "Detect" and index != len(rows) - 1:
            raise TableFault("Detect must be the last layer", index)
    if layers[-1].module != "Detect":
        raise TableFault(f"the last layer must be Detect, not {layers[-1].module}", len(rows) - 1)
    reg_max = table.get("reg_max", 16)
    if table.get("end2end") or reg_max == 1:
        raise TableFault("end-to-end heads (end2end, reg_max: 1) come with a later version")
    if not _is_int(reg_max, 2):
        raise TableFault(f"reg_max must be a whole number above 1, not {reg_max!r}")
    modern = any(layer.module == "C3k2" for layer in layers)
    return Table(tuple(layers), reg_max, modern, _activation(table.get("activation")))


def _scaling(table: dict[str, Any], scale: str) -> tuple[float, float, float]:
    """Depth and width multiples and the most channels before scaling."""
    if scale:
        values = table["scales"][scale]
        if not (isinstance(values, list) and len(values) == 3 and all(_is_positive(v) for v in values)):
            raise TableFault(f"scales: {scale} must be [depth, width, max channels], not {values!r}")
        depth, width, most = values
        return depth, width, most
    depth, width = table.get("depth_multiple", 1.0), table.get("width_multiple", 1.0)
    if not (_is_positive(depth) and _is_positive(width)):
        raise TableFault(f"depth_multiple {depth!r} and width_multiple {width!r} must be positive numbers")
    return depth, width, math.inf


def _rows(table: dict[str, Any]) -> list[Any]:
    for section in ("backbone", "head"):
        if not isinstance(table.get(section), list):
            raise TableFault(f"it needs `{section}:`, a list of layers [from, repeats, module, args]")
    if not (rows := table["backbone"] + table["head"]):
        raise TableFault("the table has no layers")
    for key in ("ch", "channels"):
        if table.get(key, 3) != 3:
            raise TableFault(f"{key}: {table[key]!r}: images have 3 channels here")
    return rows


def _layer(
    index: int,
    row: Any,
    before: list[Layer],
    table: dict[str, Any],
    scaling: tuple[float, float, float],
    scale: str,
) -> Layer:
    if not (isinstance(row, list) and len(row) == 4):
        raise TableFault(f"a layer is [from, repeats, module, args], not {row!r}")
    origin, repeats, module, args = row
    if not _is_int(repeats, 1):
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
        return Layer(sources, module, _detect_args(args, strides), 1, channels, (0, Fraction(1)))
    values = tuple(_value(a, table) for a in args)
    complete: tuple[Any, ...]
    if module == "Concat":
        out, complete = _concat(values, sources, channels, strides), (1,)
    elif module == "nn.Upsample":
        out, complete = _upsample(values, n, channels[0], strides[0]), values
    else:
        complete = _scaled_args(module, values, args, channels[0], n, scaling, scale)
        n = 1 if SCALED[module][1] else n  # inside, the repeats are among the args
        out = (complete[1], strides[0] * _step(module, complete) ** n)
    return Layer(sources, module, complete, n, channels, out)


def _sources(origin: Any, index: int) -> tuple[int, ...]:
    """Absolute indices of the layers a row reads; -1 is the image, which only layer 0 reads."""
    origins = origin if isinstance(origin, list) else [origin]
    if not origins or not all(_is_int(o) for o in origins):
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


def _scaled_args(
    module: str,
    values: tuple[Any, ...],
    written: list[Any],
    c1: int,
    n: int,
    scaling: tuple[float, float, float],
    scale: str,
) -> tuple[Any, ...]:
    """(c1, c2 scaled, [n], the rest): what the module's constructor takes."""
    kind, inside = SCALED[module]
    _, width, most = scaling
    names = list(inspect.signature(kind).parameters)
    names = [name for name in names if name != "c1" and not (inside and name == "n")]
    if module == "SPPF":
        names.remove("act")
    if not 1 <= len(values) <= len(names):
        raise TableFault(f"{module} takes 1 to {len(names)} args ({', '.join(names)}), not {len(values)}")
    if not _is_int(values[0], 1):
        raise TableFault(f"{module}: the first arg is its output channels, not {values[0]!r}")
    # The reference also leaves channels unscaled that happen to equal nc; here only the word nc does so.
    c2 = values[0] if written[0] == "nc" else math.ceil(min(values[0], most) * width / 8) * 8
    rest = list(values[1:])
    if module == "C3k2" and scale in LARGE_SCALES:
        rest[:1] = [True]
    if module == "SPPF":
        rest = [*rest, *(5, 3, False)[len(rest) :], len(values) < 3]  # act: see SPPF
    if module == "C2PSA" and c1 != c2:
        raise TableFault(f"C2PSA keeps its channels: {c1} come in and {c2} are asked for (after scaling)")
    return (c1, c2, n, *rest) if inside else (c1, c2, *rest)


def _step(module: str, args: tuple[Any, ...]) -> Fraction:
    """By how much a layer coarsens the map."""
    if module not in ("Conv", "DWConv") or len(args) < 4:
        return Fraction(1)
    if not _is_int(args[3], 1):
        raise TableFault(f"{module}: the stride must be a whole number from 1, not {args[3]!r}")
    return Fraction(args[3])


def _concat(
    values: tuple[Any, ...],
    sources: tuple[int, ...],
    channels: tuple[int, ...],
    strides: tuple[Fraction, ...],
) -> tuple[int, Fraction]:
    if values not in ((), (1,)):
        raise TableFault(f"Concat takes the arg 1 (it joins channels), not {list(values)}")
    if len(set(strides)) > 1:
        told = ", ".join(f"layer {s} has stride {st}" for s, st in zip(sources, strides, strict=True))
        raise TableFault(f"Concat joins maps of one size, but {told}")
    return sum(channels), strides[0]


def _upsample(values: tuple[Any, ...], n: int, channels: int, stride: Fraction) -> tuple[int, Fraction]:
    if not (2 <= len(values) <= 3 and values[0] is None and _is_int(values[1], 1)):
        raise TableFault(
            f"nn.Upsample takes [None, factor, mode], such as [None, 2, nearest], not {list(values)}"
        )
    if len(values) == 3 and values[2] not in ("nearest", "nearest-exact", "bilinear", "bicubic", "area"):
        raise TableFault(f"nn.Upsample has no mode {values[2]!r}: use nearest or bilinear")
    return channels, stride / values[1] ** n


def _detect_args(args: list[Any], strides: tuple[Fraction, ...]) -> tuple[int, ...]:
    """The strides of the levels; the args of the row say nothing that the data set does not."""
    if len(args) != 1 or not (args[0] == "nc" or _is_int(args[0], 1)):
        raise TableFault(f"Detect takes one arg, nc, not {args!r}")
    if any(s.denominator != 1 for s in strides):
        raise TableFault(f"Detect reads maps finer than the image: strides {', '.join(map(str, strides))}")
    return tuple(int(s) for s in strides)


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
        raise TableFault(f"unknown activation {text!r}: use nn.X() with X of {', '.join(known)}") from None


def _is_int(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
