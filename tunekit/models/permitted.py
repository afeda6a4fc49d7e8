"""The things that a checkpoint may name, and what stands for them: names, storages, tensors, objects, calls.

In: names and arguments as a pickle spells them. Out: plain data, and records that describe what is not plain.
Nothing is imported or called for a file: `permitted` says which names may appear at all, CALLS what is done
instead of calling them. Raises Refused, or ValueError and TypeError for arguments that make no sense.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import torch

MOST_DIMENSIONS = 8
LONGEST_NAME = 200

STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
FUSED = "builtins.getattr"  # how pickle writes that a module's forward was exchanged
# Whatever lies in these packages may appear, as a StandIn.
CLASSES = ("ultralytics.", "torch.nn.modules.")
NUMPY_NUMBERS = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "u1": "<B", "b1": "<?"}
SCALARS = (str, int, float, bool, type(None))


class Refused(Exception):
    """What a pickle asks for that is not given, as the end of a sentence."""


@dataclass(frozen=True, eq=False, slots=True)
class Name:
    """The name of something importable, never the thing itself."""

    full: str

    def __str__(self) -> str:
        return self.full


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """Numbers in a row in another member of the file, as many as it claims."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, eq=False, slots=True)
class StoredTensor:
    """A view into a storage that is known to lie within what the storage claims."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True)
class StandIn:
    """An object of a class that is not imported: the class's full name and the object's attributes."""

    kind: str
    state: dict[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class NumpyType:
    code: str  # how struct reads it


def permitted(name: Name) -> Name:
    if len(name.full) <= LONGEST_NAME and (
        name.full in CALLS or name.full in STORAGES or name.full.startswith(CLASSES)
    ):
        return name
    if name.full.startswith("models."):
        raise Refused(f"it holds a {shown(name)}, which belongs to the YOLOv5 repository or one of its kin")
    known = " (so do models fused for prediction or export: save it before)" if name.full == FUSED else ""
    raise Refused(
        f"it asks for {shown(name)}, which is no part of a detector's weights; nothing in it was run{known}"
    )


def stored(tag: Any, kind: Any, key: Any, location: Any, count: Any) -> Storage:
    if tag != "storage":
        raise ValueError("no storage")
    return Storage(expect(key, str), STORAGES[expect(kind, Name).full], _whole(count))


def _tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    metadata: Any = None,
) -> StoredTensor:
    """A view, after a check that all of it lies in the storage; larger than it (expanded) is refused, too."""
    if not len(expect(size, tuple)) == len(expect(stride, tuple)) <= MOST_DIMENSIONS:
        raise ValueError("dimensions")
    for number in (offset, *size, *stride):
        _whole(number)
    last = sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    end = offset if 0 in size else offset + last + 1
    if max(end, math.prod(size)) > expect(storage, Storage).count:
        raise Refused("a tensor in it reaches beyond the numbers that are stored for it")
    return StoredTensor(storage, offset, size, stride)


def _parameter(tensor: Any, *_: Any) -> StoredTensor:
    return expect(tensor, StoredTensor)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    return {valid_key(key): value for key, value in pairs}


def _set(items: Any = ()) -> set[Any]:
    return {valid_key(item) for item in items}


def _dill_type(name: Any) -> Name:
    """YOLOv8's files of 2023 and 2024 were written by dill, which names Python's own types like this."""
    if name != "set":
        raise Refused(f"it asks for dill's type {shown(name)}")
    return Name("builtins.set")


def _device(kind: Any, index: Any = None) -> str:
    return expect(kind, str) if index is None else f"{expect(kind, str)}:{_whole(index)}"


def _encoded(text: Any, encoding: Any) -> bytes:
    """Bytes, as protocol 2 writes them."""
    if encoding != "latin1":
        raise ValueError("encoding")
    return expect(text, str).encode("latin1")


def _numpy_type(code: Any, *_: Any) -> NumpyType:
    if type(code) is not str or code not in NUMPY_NUMBERS:
        raise Refused(f"it asks for numpy's type {shown(code)}")
    return NumpyType(NUMPY_NUMBERS[code])


def _numpy_number(kind: Any, data: Any) -> Any:
    return struct.unpack(expect(kind, NumpyType).code, expect(data, bytes))[0]


def expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(kind.__name__)
    return value


def valid_key(value: Any) -> Any:
    """What may be a key: to hash a nested tuple could end the process, and to compare long words or to keep
    apart large numbers that were chosen to collide could keep it busy for days."""
    if type(value) is str and len(value) <= LONGEST_NAME:
        return value
    if value is None or type(value) is bool or (type(value) is int and abs(value) < 2**31):
        return value
    raise TypeError("key")


def _whole(value: Any) -> int:
    """A size, a stride, an offset: so small that torch's own 64 bits hold it."""
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError("no size")
    return value


def shown(name: object) -> str:
    """A name from the file, fit for a message."""
    text = str(name) if isinstance(name, str | Name) else type(name).__name__
    return ascii(text[:LONGEST_NAME])[1:-1] + ("..." if len(text) > LONGEST_NAME else "")


# All that a file may call, and what is done instead.
CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": lambda items: expect(items, tuple),
    "torch.device": _device,
    "collections.OrderedDict": _ordered,
    "builtins.set": _set,
    "dill._dill._load_type": _dill_type,
    "_codecs.encode": _encoded,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_number,
    "numpy._core.multiarray.scalar": _numpy_number,
    "pathlib.PosixPath": lambda *parts: str(PurePosixPath(*parts)),
    "pathlib.WindowsPath": lambda *parts: str(PureWindowsPath(*parts)),
    "pathlib._local.PosixPath": lambda *parts: str(PurePosixPath(*parts)),  # Python 3.13
    "pathlib._local.WindowsPath": lambda *parts: str(PureWindowsPath(*parts)),
}
