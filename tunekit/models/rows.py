"""What the args of a row mean: complete ones for the module's constructor, and the map that comes out.

In: a row's module and args, the channels and strides of its inputs, depth and width. Out: the constructor's
args, channels and stride. Raises TableFault for args that a module cannot take. Knows nothing of other rows.
"""

from __future__ import annotations

import inspect
import math
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
    """What is wrong with a table; `layer` is the row's index or `key` the entry that is to blame."""

    def __init__(self, message: str, layer: int | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.layer = layer
        self.key = key


def scaled_args(
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
    if not is_int(values[0], 1):
        raise TableFault(f"{module}: the first arg is its output channels, not {values[0]!r}")
    # The reference also leaves channels unscaled that happen to equal nc; here only the word nc does so.
    c2 = values[0] if written[0] == "nc" else math.ceil(min(values[0], most) * width / 8) * 8
    rest = list(values[1:])
    if module == "C3k2" and scale in LARGE_SCALES:
        rest[:1] = [True]
    if module == "C2PSA" and c1 != c2:
        raise TableFault(f"C2PSA keeps its channels: {c1} come in and {c2} are asked for (after scaling)")
    return (c1, c2, n, *rest) if inside else (c1, c2, *rest)


def pooling_args(args: tuple[Any, ...], act: bool | None) -> tuple[Any, ...]:
    """(c1, c2, k, n, shortcut, act) of SPPF. `act`: whether its first convolution is active; None: only in a
    row that does not name n, as YOLOv8's and YOLO11's do not and YOLO26's does."""
    k, n, shortcut = rest = (*args[2:], *(5, 3, False)[len(args) - 2 :])
    if not (is_int(k, 1) and k % 2 and is_int(n, 1) and isinstance(shortcut, bool)):
        raise TableFault(
            f"SPPF takes [c2, k, n, shortcut], such as [1024, 5, 3, True] with odd k, not {list(args[1:])}"
        )
    return (*args[:2], *rest, len(args) < 4 if act is None else act)


def step(module: str, args: tuple[Any, ...]) -> Fraction:
    """By how much a layer coarsens the map."""
    if module not in ("Conv", "DWConv") or len(args) < 4:
        return Fraction(1)
    if not is_int(args[3], 1):
        raise TableFault(f"{module}: the stride must be a whole number from 1, not {args[3]!r}")
    return Fraction(args[3])


def concat(
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


def upsample(values: tuple[Any, ...], n: int, channels: int, stride: Fraction) -> tuple[int, Fraction]:
    if not (2 <= len(values) <= 3 and values[0] is None and is_int(values[1], 1)):
        raise TableFault(
            f"nn.Upsample takes [None, factor, mode], such as [None, 2, nearest], not {list(values)}"
        )
    if len(values) == 3 and values[2] not in ("nearest", "nearest-exact", "bilinear", "bicubic", "area"):
        raise TableFault(f"nn.Upsample has no mode {values[2]!r}: use nearest or bilinear")
    return channels, stride / values[1] ** n


def detect_args(args: list[Any], strides: tuple[Fraction, ...]) -> tuple[int, ...]:
    """The strides of the levels; the args of the row say nothing that the data set does not."""
    if len(args) != 1 or not (args[0] == "nc" or is_int(args[0], 1)):
        raise TableFault(f"Detect takes one arg, nc, not {args!r}")
    if any(s.denominator != 1 for s in strides):
        raise TableFault(f"Detect reads maps finer than the image: strides {', '.join(map(str, strides))}")
    return tuple(int(s) for s in strides)


def is_int(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
