"""Files of torch.save: what was saved comes back to the bit; a file that lies is refused before it costs."""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunekit.errors import CheckpointError
from tunekit.models.archive import SavedFile

DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def content_of(path: Path) -> Any:
    with SavedFile(path) as file:
        return file.plain(file.content)


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return (ours.dtype, ours.shape, ours.stride()) == (theirs.dtype, theirs.shape, theirs.stride()) and (
            torch.equal(ours, theirs)
        )
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


def example() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(4, 6, generator=generator)
    return {
        **{name: (base * 100).to(getattr(torch, name)) for name in DTYPES},
        "views": [base, base[1:3], base.T, base[:, ::2], base[0, 0]],
        "empty": torch.empty(0, 3),
        "plain": {"a": [1, 2.5, None, "ü"], 7: (True, -1)},
        "weights": torch.nn.Parameter(torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)),
    }


def test_everything_comes_back_as_torch_reads_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", example())
    found = content_of(path)
    assert same(found, torch.load(path, weights_only=True))
    first, part = found["views"][:2]
    part += 1
    assert torch.equal(first[1:3], part)  # one storage, as it was


def rewritten(path: Path, change: Callable[[dict[str, bytes]], object], **options: Any) -> Path:
    """The archive with its members changed, and right checksums again."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    change(members)
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def replaced(name: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], object]:
    def change(members: dict[str, bytes]) -> None:
        assert old in members[name]
        members[name] = members[name].replace(old, new)

    return change


COUNT = b"cpuq\x06K\x18"  # of a storage of 24 numbers, behind its place


def altered(change: Callable[[dict[str, bytes]], object]) -> Callable[[Path], Path]:
    return lambda path: rewritten(saved(path, {"w": torch.rand(4, 6)}), change)


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a storage that claims more than the file has": (
        altered(replaced("a/data.pkl", COUNT, COUNT[:-2] + b"\x8a\x05\x00\x00\x00\x00\x10")),
        r"storage '0' has not the 274,877,906,944 bytes",
    ),
    "a storage of another type": (
        altered(replaced("a/data.pkl", b"FloatStorage", b"DoubleStorage")),
        "storage '0' has not the 192 bytes",
    ),
    "a missing storage": (altered(lambda members: members.pop("a/data/0")), "storage '0' has not"),
    "big-endian numbers": (altered(replaced("a/byteorder", b"little", b"big")), "byte order"),
    "a TorchScript export": (
        lambda path: rewritten(
            saved(path, {"w": torch.rand(2)}), lambda members: members.update({"a/constants.pkl": b""})
        ),
        "TorchScript export",
    ),
    "two descriptions": (
        altered(lambda members: members.update({"b/data.pkl": b"N."})),
        "an archive, but none of torch.save",
    ),
    "no description": (altered(lambda members: members.pop("a/data.pkl")), "none of torch.save"),
    "another archive": (lambda path: rewritten(saved(path, 1), dict.clear), "is not a checkpoint"),
    "a compressed archive": (
        lambda path: rewritten(
            saved(path, {"w": torch.zeros(9)}), lambda _: None, compression=zipfile.ZIP_DEFLATED
        ),
        "packed anew",
    ),
    "the format before PyTorch 1.6": (
        lambda path: torch.save({"w": 1}, path, _use_new_zipfile_serialization=False) or path,
        r"wrote before version 1\.6",
    ),
    "text": (lambda path: path.write_text("not a checkpoint") and path, "is not a checkpoint"),
    "an empty file": (lambda path: path.touch() or path, "is damaged"),
    "no file": (lambda path: path, "there is no such checkpoint file"),
    "a folder": (lambda path: path.mkdir() or path, "cannot read checkpoint"),
    "objects among the data": (lambda path: saved(path, [torch.nn.SiLU()]), "it holds a StandIn"),
    "data that unfold without end": (lambda path: saved(path, doubling(40)), "nested too deeply"),
    "data within themselves": (lambda path: saved(path, loop()), "nested too deeply"),
}


def doubling(times: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(times):
        found = [found, found]
    return found


def loop() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_says_why_and_where(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    path = make(tmp_path / "a.pt")
    start = time.process_time()
    with pytest.raises(CheckpointError, match=message) as fault:
        content_of(path)
    assert str(path) in str(fault.value)
    assert time.process_time() - start < 10


def test_one_storage_is_not_read_as_two_kinds(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", [torch.zeros(4), torch.zeros(4, dtype=torch.int32)])
    rewritten(path, replaced("a/data.pkl", b"X\x01\x00\x00\x001", b"X\x01\x00\x00\x000"))
    with pytest.raises(CheckpointError, match="storage '0' in two ways"):
        content_of(path)


def test_members_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    """A directory that names one stretch of the file many times would multiply what is read."""
    path = saved(tmp_path / "a.pt", {"w": torch.rand(1000)})
    with zipfile.ZipFile(path, "a") as archive:
        big = archive.getinfo("a/data/0")
        for number in range(1, 9):
            twin = zipfile.ZipInfo(f"a/data/{number}")
            twin.header_offset, twin.CRC = big.header_offset, big.CRC
            twin.file_size = twin.compress_size = big.file_size
            archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(CheckpointError, match="is damaged"):
        content_of(path)


def test_bytes_that_are_no_booleans_become_booleans(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", torch.tensor([True, False, True]))
    rewritten(path, replaced("a/data/0", b"\x01\x00\x01", b"\x07\x00\xff"))
    assert content_of(path).tolist() == [True, False, True]
    assert content_of(path).sum() == 2


def small() -> dict[str, Any]:
    return {"w": torch.arange(6.0).view(2, 3), "n": [1, "a"], "h": torch.ones(2).half()}


def small_bytes() -> bytes:
    file = io.BytesIO()
    torch.save(small(), file)
    return file.getvalue()


SMALL = small_bytes()


def answer(path: Path) -> str:
    """What reading ends with: the right content, another, or a refusal."""
    try:
        found = content_of(path)
    except CheckpointError:
        return "refused"
    return "right" if same(found, small()) else "wrong"


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for length in range(0, len(SMALL), 7):
        path.write_bytes(SMALL[:length])
        assert answer(path) == "refused", length


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_never_give_other_content(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(SMALL)
    for place, byte in flips:
        data[place] ^= byte
    path = tmp_path_factory.getbasetemp() / "flipped.pt"
    path.write_bytes(data)
    assert answer(path) in ("refused", "right")


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_description_altered_with_a_right_checksum_gives_data_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "altered.pt"
    path.write_bytes(SMALL)

    def change(members: dict[str, bytes]) -> None:
        (name,) = (name for name in members if name.endswith("/data.pkl"))
        data = bytearray(members[name])
        for place, byte in changes:
            data[place % len(data)] = byte
        members[name] = bytes(data)

    assert answer(rewritten(path, change)) in ("refused", "right", "wrong")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", 1)
    path.chmod(0)
    with pytest.raises(CheckpointError, match="cannot read checkpoint"):
        content_of(path)
