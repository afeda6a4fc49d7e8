"""A pickle read as plain data: bytes -> dicts, lists, numbers, names of things that were never looked up.

Pickle is a program, and the usual reader runs it: it imports what the file names and calls it. This one knows
the thirty instructions that torch.save writes and does each of them itself. No instruction imports, calls or
changes anything: a class becomes a StandIn that keeps its state, a tensor a StoredTensor that says where its
numbers lie, and every other name is refused. So a hostile file can at worst describe wrong numbers.

Depth, sizes and counts are bounded before anything is made. Knows nothing of files, models or tensors' bytes.
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import torch

MOST_BYTES = 32 * 2**20  # a training checkpoint of the largest public model has 1 MB
MOST_STEPS = 1_000_000  # ... and 200,000 instructions
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
# Whatever lies in these packages may appear, as a StandIn.
CLASSES = ("ultralytics.", "torch.nn.modules.")
NUMPY_NUMBERS = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "u1": "<B", "b1": "<?"}
SIZED = (str, bytes, tuple, list, set, dict)
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
class _NumpyType:
    code: str  # how struct reads it


def read_pickle(data: bytes) -> Any:
    """What a pickle describes. Refused: it is damaged or asks for something else than data."""
    if len(data) > MOST_BYTES:
        raise Refused(f"it describes itself in {len(data):,} bytes, and {MOST_BYTES:,} are the most")
    machine = _Machine()
    try:
        for instruction, argument, _ in pickletools.genops(data):
            machine.spend(1)
            step = _STEPS.get(instruction.name)
            if step is None:
                raise Refused(f"it uses the pickle instruction {instruction.name}, which torch.save does not")
            step(machine, argument)
    except (ValueError, TypeError, LookupError, OverflowError, struct.error) as fault:
        raise Refused(f"its description is damaged ({type(fault).__name__})") from fault
    if len(machine.stack) != 1 or machine.below:
        raise Refused("its description is damaged (things are left over)")
    return machine.stack[0]


class _Machine:
    """The stack on which instructions put values; `below` holds the stacks under open marks."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.spent = 0

    def spend(self, steps: int) -> None:
        """An instruction costs one, and the length of what it copies: so time and memory are bounded."""
        self.spent += steps
        if self.spent > MOST_STEPS:
            raise Refused(f"it describes itself in more than {MOST_STEPS:,} steps")

    def mark(self, _: object) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def name(self, argument: str) -> None:
        # builtins goes by its name of Python 2 in protocol 2.
        full = argument.replace("__builtin__ ", "builtins ", 1).replace(" ", ".", 1)
        self.stack.append(_permitted(Name(full)))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def last(self, length: int) -> None:
        """A tuple of the last few values."""
        if length > len(self.stack):
            raise ValueError("too short a stack")
        items = self.stack[len(self.stack) - length :]
        del self.stack[len(self.stack) - length :]
        self.stack.append(tuple(items))

    def append(self, _: object) -> None:
        self._extend([self.stack.pop()])

    def appends(self, _: object) -> None:
        self._extend(self.since_mark())

    def _extend(self, items: list[Any]) -> None:
        _expect(self.stack[-1], list).extend(items)

    def setitem(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def setitems(self, _: object) -> None:
        self._update(self.since_mark())

    def _update(self, items: list[Any]) -> None:
        target = _expect(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def storage(self, _: object) -> None:
        self.stack.append(_storage(*_expect(self.stack.pop(), tuple)))

    def call(self, _: object) -> None:
        arguments, name = _expect(self.stack.pop(), tuple), _expect(self.stack.pop(), Name)
        if name.full.startswith(CLASSES):
            self.stack.append(StandIn(name.full, {}))
        else:
            self.spend(sum(len(value) for value in arguments if type(value) in SIZED))
            self.stack.append(_CALLS[name.full](*arguments))

    def new(self, _: object) -> None:
        _expect(self.stack.pop(), tuple)
        name = _expect(self.stack.pop(), Name)
        if not name.full.startswith(CLASSES):
            raise Refused(f"it makes an object of {_shown(name)}")
        self.stack.append(StandIn(name.full, {}))

    def build(self, _: object) -> None:
        """The state of an object; that of a dictionary (an OrderedDict's attributes) says nothing we need."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is StandIn:
            self.spend(len(_expect(state, dict)))
            target.state.update(state)
        elif type(target) is _NumpyType:
            if _expect(state, tuple)[1] not in ("<", "|"):
                raise Refused("its numbers are stored in another byte order")
        elif type(target) is not dict:
            raise Refused(f"it sets attributes of a {_shown(type(target).__name__)}")


def _permitted(name: Name) -> Name:
    if len(name.full) <= LONGEST_NAME and (
        name.full in _CALLS or name.full in STORAGES or name.full.startswith(CLASSES)
    ):
        return name
    if name.full.startswith("models."):
        raise Refused(f"it holds a {_shown(name)}, which belongs to the YOLOv5 repository or one of its kin")
    raise Refused(
        f"it asks for {_shown(name)}, which is no part of a detector's weights; nothing in it was run"
    )


def _storage(tag: Any, kind: Any, key: Any, location: Any, count: Any) -> Storage:
    if tag != "storage":
        raise ValueError("no storage")
    return Storage(_expect(key, str), STORAGES[_expect(kind, Name).full], _whole(count))


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
    if not len(_expect(size, tuple)) == len(_expect(stride, tuple)) <= MOST_DIMENSIONS:
        raise ValueError("dimensions")
    for number in (offset, *size, *stride):
        _whole(number)
    last = sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    end = offset if 0 in size else offset + last + 1
    if max(end, math.prod(size)) > _expect(storage, Storage).count:
        raise Refused("a tensor in it reaches beyond the numbers that are stored for it")
    return StoredTensor(storage, offset, size, stride)


def _parameter(tensor: Any, *_: Any) -> StoredTensor:
    return _expect(tensor, StoredTensor)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    return {_key(key): value for key, value in pairs}


def _set(items: Any = ()) -> set[Any]:
    return {_key(item) for item in items}


def _dill_type(name: Any) -> Name:
    """YOLOv8's files of 2023 and 2024 were written by dill, which names Python's own types like this."""
    if name != "set":
        raise Refused(f"it asks for dill's type {_shown(name)}")
    return Name("builtins.set")


def _device(kind: Any, index: Any = None) -> str:
    return _expect(kind, str) if index is None else f"{_expect(kind, str)}:{_whole(index)}"


def _encoded(text: Any, encoding: Any) -> bytes:
    """Bytes, as protocol 2 writes them."""
    if encoding != "latin1":
        raise ValueError("encoding")
    return _expect(text, str).encode("latin1")


def _numpy_type(code: Any, *_: Any) -> _NumpyType:
    if type(code) is not str or code not in NUMPY_NUMBERS:
        raise Refused(f"it asks for numpy's type {_shown(code)}")
    return _NumpyType(NUMPY_NUMBERS[code])


def _numpy_number(kind: Any, data: Any) -> Any:
    return struct.unpack(_expect(kind, _NumpyType).code, _expect(data, bytes))[0]


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(kind.__name__)
    return value


def _key(value: Any) -> Any:
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


def _shown(name: object) -> str:
    """A name from the file, fit for a message."""
    text = str(name) if isinstance(name, str | Name) else type(name).__name__
    return ascii(text[:LONGEST_NAME])[1:-1] + ("..." if len(text) > LONGEST_NAME else "")


# All that a file may call, and what is done instead.
_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": lambda items: _expect(items, tuple),
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
}

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "MARK": _Machine.mark,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "BININT": _Machine.push,
    "BININT1": _Machine.push,
    "BININT2": _Machine.push,
    "LONG1": _Machine.push,
    "BINFLOAT": _Machine.push,
    "BINUNICODE": _Machine.push,
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.last(1),
    "TUPLE2": lambda machine, _: machine.last(2),
    "TUPLE3": lambda machine, _: machine.last(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.setitem,
    "SETITEMS": _Machine.setitems,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "BINPERSID": _Machine.storage,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.new,
    "BUILD": _Machine.build,
}
