"""A pickle read as plain data: bytes -> dicts, lists, numbers, and stand-ins for everything else.

Pickle is a program, and the usual reader runs it: it imports what the file names and calls it. This one knows
the thirty instructions that torch.save writes and does each of them itself. No instruction imports, calls or
changes anything: a class becomes a StandIn that keeps its state, a tensor a StoredTensor that says where its
numbers lie, and every other name is refused. So a hostile file can at worst describe wrong numbers.

Depth, sizes and counts are bounded before anything is made. Knows nothing of files, models or tensors' bytes.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import Any

from tunekit.models.permitted import (
    CALLS,
    CLASSES,
    Name,
    NumpyType,
    Refused,
    StandIn,
    expect,
    permitted,
    shown,
    stored,
    valid_key,
)

MOST_BYTES = 32 * 2**20  # a training checkpoint of the largest public model has 1 MB
MOST_STEPS = 1_000_000  # ... and 200,000 instructions
SIZED = (str, bytes, tuple, list, set, dict)


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
        self.stack.append(permitted(Name(full)))

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
        expect(self.stack[-1], list).extend(items)

    def setitem(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def setitems(self, _: object) -> None:
        self._update(self.since_mark())

    def _update(self, items: list[Any]) -> None:
        target = expect(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[valid_key(key)] = value

    def storage(self, _: object) -> None:
        self.stack.append(stored(*expect(self.stack.pop(), tuple)))

    def call(self, _: object) -> None:
        arguments, name = expect(self.stack.pop(), tuple), expect(self.stack.pop(), Name)
        if name.full.startswith(CLASSES):
            self.stack.append(StandIn(name.full, {}))
        else:
            self.spend(sum(len(value) for value in arguments if type(value) in SIZED))
            self.stack.append(CALLS[name.full](*arguments))

    def new(self, _: object) -> None:
        expect(self.stack.pop(), tuple)
        name = expect(self.stack.pop(), Name)
        if not name.full.startswith(CLASSES):
            raise Refused(f"it makes an object of {shown(name)}")
        self.stack.append(StandIn(name.full, {}))

    def build(self, _: object) -> None:
        """The state of an object; that of a dictionary (an OrderedDict's attributes) says nothing we need."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is StandIn:
            self.spend(len(expect(state, dict)))
            target.state.update(state)
        elif type(target) is NumpyType:
            if expect(state, tuple)[1] not in ("<", "|"):
                raise Refused("its numbers are stored in another byte order")
        elif type(target) is not dict:
            raise Refused(f"it sets attributes of a {shown(type(target).__name__)}")


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
