"""Pickles as data: what torch.save writes is read, and whatever else a pickle asks for does not happen."""

from __future__ import annotations

import builtins
import functools
import os
import pickle
import subprocess
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tunekit.models.inert import read_pickle
from tunekit.models.permitted import Refused, StandIn, StoredTensor

BEGIN = b"\x80\x02"


def name(module: str, thing: str) -> bytes:
    return f"c{module}\n{thing}\n".encode()


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(count: int, key: str = "0", kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(count: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    view = storage(count) + number(offset) + numbers(*size) + numbers(*stride)
    hooks = name("collections", "OrderedDict") + b")R"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + view + b"\x89" + hooks + b"tR"


def called(function: Any, *arguments: Any) -> bytes:
    """A pickle that calls `function` when Python reads it."""

    class Call:
        def __reduce__(self) -> tuple[Any, ...]:
            return function, arguments

    return pickle.dumps(Call(), protocol=2)


def test_plain_data_of_protocol_2_come_back() -> None:
    data = {
        "numbers": [0, -1, 255, 65536, 2**40, -(2**70), 0.25, float("inf")],
        "words": ("", "ä", "x" * 300, None, True, False),
        "nested": {1: [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], None: {}, False: [[]]},
        "set": {1, "a", None},
        "ordered": OrderedDict(a=1, b=OrderedDict()),
    }
    data["again"] = data["nested"]
    found = read_pickle(pickle.dumps(data, protocol=2))
    assert found == data
    assert found["again"] is found["nested"]
    assert type(found["ordered"]) is dict


def test_what_trainers_leave_among_the_numbers_comes_back_as_python_has_it() -> None:
    data = [np.float64(0.1), np.float32(0.5), np.int64(-3), np.bool_(True), torch.device("cuda", 1)]
    data += [torch.device("cpu"), torch.Size([2, 3]), Path("/a/b"), b"\x00\xff"]
    found = read_pickle(pickle.dumps(data, protocol=2))
    assert found == [0.1, 0.5, -3, True, "cuda:1", "cpu", (2, 3), str(Path("/a/b")), b"\x00\xff"]
    dills_set = name("dill._dill", "_load_type") + text("set") + b"\x85R"
    assert read_pickle(BEGIN + dills_set + b"]" + number(3) + b"a\x85R.") == {3}


def test_modules_become_stand_ins_that_keep_their_state() -> None:
    found = read_pickle(pickle.dumps(torch.nn.Sequential(torch.nn.SiLU()), protocol=2))
    assert isinstance(found, StandIn)
    assert found.kind == "torch.nn.modules.container.Sequential"
    inner = found.state["_modules"]["0"]
    assert (inner.kind, inner.state["inplace"]) == ("torch.nn.modules.activation.SiLU", False)


def test_a_stand_in_is_not_the_thing_that_its_name_says() -> None:
    found = read_pickle(BEGIN + name("ultralytics.os", "system") + text("false") + b"\x85R.")
    assert isinstance(found, StandIn)
    assert (found.kind, found.state) == ("ultralytics.os.system", {})


WITNESS = "witness-of-a-run-pickle"

HOSTILE: dict[str, Callable[[], bytes]] = {
    "posix.system": lambda: called(os.system, f"touch {WITNESS}"),
    "builtins.eval": lambda: called(eval, f"open({WITNESS!r}, 'w')"),
    "builtins.exec": lambda: called(exec, f"open({WITNESS!r}, 'w')"),
    "builtins.getattr": lambda: called(getattr, "text", "upper"),
    "builtins.open": lambda: called(open, WITNESS, "w").replace(b"cio\n", b"c__builtin__\n"),
    "builtins.__import__": lambda: called(builtins.__import__, "os"),
    "subprocess.Popen": lambda: called(subprocess.Popen, ["touch", WITNESS]),
    "functools.partial": lambda: called(functools.partial, os.system, f"touch {WITNESS}"),
    "torch.serialization.load": lambda: called(torch.load, WITNESS),
    "torch.load": lambda: BEGIN + name("torch", "load") + text(WITNESS) + b"\x85R.",
    "_pickle.loads": lambda: called(pickle.loads, called(os.system, f"touch {WITNESS}")),
    "numpy._core.multiarray._reconstruct": lambda: pickle.dumps(np.array([os], dtype=object)[:0], 2),
    "torch.storage._load_from_bytes": lambda: BEGIN + name("torch.storage", "_load_from_bytes") + b".",
    "torch.nn.functional.linear": lambda: pickle.dumps(torch.nn.functional.linear, protocol=2),
    "ultralyticsx.evil": lambda: BEGIN + name("ultralyticsx", "evil") + b".",
    "torch.nn.modules": lambda: BEGIN + name("torch.nn", "modules") + b".",
    "torch._utils._rebuild_tensor": lambda: BEGIN + name("torch._utils", "_rebuild_tensor") + b".",
    "tunekit.models.permitted.CALLS": lambda: BEGIN + name("tunekit.models.permitted", "CALLS") + b".",
    "copyreg._reconstructor": lambda: (
        BEGIN + name("copy_reg", "_reconstructor").replace(b"copy_", b"copy") + b"."
    ),
}


@pytest.mark.parametrize("asked", HOSTILE)
def test_a_name_that_no_detector_needs_is_refused_by_its_full_name(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = asked.rpartition(".")[2]
    with pytest.raises(Refused, match=rf"asks for [\w.]*{short}, which is no part .*nothing in it was run"):
        read_pickle(HOSTILE[asked]())
    assert not Path(WITNESS).exists()


def test_a_model_of_the_yolov5_repository_is_named_as_such() -> None:
    with pytest.raises(Refused, match=r"models\.yolo\.Model, which belongs to the YOLOv5 repository"):
        read_pickle(BEGIN + name("models.yolo", "Model") + b".")


@pytest.mark.parametrize(
    "more",
    [
        b"(" + text("x") + b"i__builtin__\neval\n.",  # INST
        b"(" + name("ultralytics.a", "b") + b"o.",  # OBJ
        text("os") + text("system") + b"\x93.",  # STACK_GLOBAL
        b"\x82\x01.",  # EXT1
        b")\x81.",  # NEWOBJ of nothing
        b"\x96" + (2**62).to_bytes(8, "little") + b".",  # BYTEARRAY8
        b"\x8d" + (2**62).to_bytes(8, "little") + b".",  # BINUNICODE8
        b"X" + (2**32 - 1).to_bytes(4, "little") + b"x.",  # BINUNICODE
        b"\x8b" + (2**31 - 1).to_bytes(4, "little") + b"x.",  # LONG4
        b"Ix\n.",
        b"L" + b"9" * 10_000 + b"L\n.",
        b"P1\n.",
        b"Nb.",
        b".",
        b"",
        b"((.",
        b"N",
        b"NN.",
        b"h\x07.",
    ],
)
def test_instructions_that_torch_save_does_not_write_and_damage_are_refused(more: bytes) -> None:
    with pytest.raises(Refused):
        read_pickle(BEGIN + more)


STATE = b"}" + text("__class__") + text("x") + b"s"


@pytest.mark.parametrize(
    "target",
    [
        name("torch._utils", "_rebuild_tensor_v2"),
        name("torch.nn.modules.conv", "Conv2d"),
        name("collections", "OrderedDict"),
        name("torch", "FloatStorage"),
        storage(4),
        tensor(4, 0, (2, 2), (2, 1)),
        b"]",
        b")",
        b"N",
        text("word"),
    ],
)
@pytest.mark.parametrize("state", [STATE, b"N" + STATE + b"\x86", STATE + STATE + b"\x86"])
def test_nothing_but_stand_ins_takes_attributes(target: bytes, state: bytes) -> None:
    with pytest.raises(Refused):
        read_pickle(BEGIN + target + state + b"b.")


def test_a_state_with_slots_or_of_another_kind_is_refused_and_classes_are_data() -> None:
    made = name("ultralytics.nn", "A") + b")\x81"
    found = read_pickle(BEGIN + made + STATE + b"b.")
    assert type(found) is StandIn
    assert found.state == {"__class__": "x"}
    for state in (b"N" + STATE + b"\x86", b"]", text("x"), number(1)):
        with pytest.raises(Refused):
            read_pickle(BEGIN + made + state + b"b.")


def test_only_dictionaries_and_lists_take_items() -> None:
    for target in (name("ultralytics.nn", "A") + b")\x81", b")", name("collections", "OrderedDict"), b"N"):
        for items in (text("k") + b"Ns", b"(" + text("k") + b"Nu", b"Na", b"(NNe"):
            with pytest.raises(Refused):
                read_pickle(BEGIN + target + items + b".")


def test_attributes_of_a_dictionary_are_dropped() -> None:
    made = name("collections", "OrderedDict") + b")R" + b"}" + text("items") + b"Ns" + b"b."
    assert read_pickle(BEGIN + made) == {}


@pytest.mark.parametrize(
    "key", [b")", b")\x85", b"]", text("x" * 1000), number(2**61 - 1), b"G" + b"\x00" * 8]
)
def test_keys_that_are_costly_to_hash_or_compare_are_refused(key: bytes) -> None:
    with pytest.raises(Refused):
        read_pickle(BEGIN + b"}" + key + b"Ns.")
    with pytest.raises(Refused):
        read_pickle(BEGIN + name("__builtin__", "set") + b"]" + key + b"a\x85R.")


@pytest.mark.parametrize(
    "deep",
    [
        b")" + b"\x85" * 300_000,
        b"]" * 150_000 + b"a" * 149_999,
        b"(" * 300_000,
        (name("ultralytics.a", "B") + b")\x81}" + text("x")) * 5_000 + b"N" + b"sb" * 5_000,
    ],
)
def test_deep_nesting_ends_in_an_answer(deep: bytes) -> None:
    try:
        found = read_pickle(BEGIN + deep + b".")
    except Refused:
        return
    del found


def twice(count: int) -> bytes:
    """A list of `count` numbers under the name 0."""
    return b"](" + b"K\x01" * count + b"eq\x00"


def test_a_huge_number_of_a_memory_cell_takes_no_memory() -> None:
    assert read_pickle(BEGIN + b"Nr\xff\xff\xff\xff.") is None


def test_a_description_of_too_many_bytes_is_refused_unread() -> None:
    with pytest.raises(Refused, match="33,554,433 bytes"):
        read_pickle(b"." * (2**25 + 1))


@pytest.mark.parametrize(
    "bomb",
    [
        b"N" + b"q\x00" * 1_000_000,
        b"N" * 2_000_000,
        twice(1000) + (name("__builtin__", "set") + b"h\x00\x85R") * 3000,
        b"}("
        + b"".join(text(str(i)) + b"N" for i in range(1000))
        + b"uq\x00"
        + (name("ultralytics.a", "B") + b")\x81h\x00b") * 3000,
        text("x" * 100_000) + b"q\x00" + (name("pathlib", "PosixPath") + b"h\x00\x85R") * 3000,
    ],
)
def test_bombs_cost_little(bomb: bytes) -> None:
    start = time.process_time()
    with pytest.raises(Refused, match="in more than 1,000,000 steps"):
        read_pickle(BEGIN + bomb + b".")
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("count", "offset", "size", "stride"),
    [
        (6, 0, (2, 3), (3, 1)),
        (6, 0, (3, 2), (1, 3)),
        (7, 1, (2, 3), (3, 1)),
        (6, 5, (1,), (9,)),
        (1, 0, (), ()),
        (0, 0, (0,), (1,)),
        (3, 3, (0, 7), (7, 1)),
    ],
)
def test_a_view_within_its_storage_is_described(
    count: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    found = read_pickle(BEGIN + tensor(count, offset, size, stride) + b".")
    assert isinstance(found, StoredTensor)
    assert (found.offset, found.size, found.stride) == (offset, size, stride)
    assert (found.storage.count, found.storage.dtype) == (count, torch.float32)


@pytest.mark.parametrize(
    ("count", "offset", "size", "stride"),
    [
        (5, 0, (2, 3), (3, 1)),
        (6, 1, (2, 3), (3, 1)),
        (6, 6, (1,), (1,)),
        (6, 0, (2,), (6,)),
        (6, 0, (2, 3), (2**40, 1)),
        (6, 7, (0,), (1,)),
        (6, -1, (2,), (1,)),
        (6, 4, (2,), (-1,)),
        (6, 0, (-2, -3), (1, 1)),
        (1, 0, (1000, 1000), (0, 0)),
        (6, 0, (2, 3), (1,)),
        (6, 0, (1,) * 9, (1,) * 9),
        (2**63, 0, (2**62,), (1,)),
        (6, 0, (2**62, 0), (1, 1)),
    ],
)
def test_a_view_outside_its_storage_is_refused(
    count: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    with pytest.raises(Refused):
        read_pickle(BEGIN + tensor(count, offset, size, stride) + b".")


def test_storages_of_unknown_numbers_are_refused() -> None:
    for kind in ("ComplexFloatStorage", "UntypedStorage", "QInt8Storage"):
        with pytest.raises(Refused, match=kind):
            read_pickle(BEGIN + storage(4, kind=kind) + b".")
    for persistent in (b"NQ.", text("0") + b"Q.", b"(" + text("module") + b"NNNNtQ."):
        with pytest.raises(Refused):
            read_pickle(BEGIN + persistent)


def test_numbers_of_another_byte_order_and_odd_numpy_types_are_refused() -> None:
    for odd in (np.dtype(">f8").type(1).astype(">f8")[()], np.complex128(1), np.datetime64(1, "s")):
        data = pickle.dumps(odd, protocol=2)
        if isinstance(odd, np.float64):
            data = data.replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>")
        with pytest.raises(Refused):
            read_pickle(data)


@given(st.binary(max_size=200))
@example(b"\x80\x02cos\nsystem\n(S'id'\ntR.")
def test_any_bytes_give_data_or_a_refusal(data: bytes) -> None:
    try:
        read_pickle(data)
    except Refused as refused:
        assert "\n" not in str(refused)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5))
def test_altered_bytes_of_a_good_pickle_give_data_or_a_refusal(changes: list[tuple[int, int]]) -> None:
    data = bytearray(BEGIN + tensor(6, 0, (2, 3), (3, 1)) + b"0" + pickle.dumps(torch.nn.SiLU(), 2)[2:])
    for place, byte in changes:
        data[place % len(data)] = byte
    try:
        read_pickle(bytes(data))
    except Refused as refused:
        assert len(str(refused)) < 500
