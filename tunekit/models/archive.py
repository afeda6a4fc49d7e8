"""A file that torch.save wrote -> its content as plain data, and its tensors when they are asked for.

In: a path. Out: a SavedFile, whose `content` read_pickle made. Only members that are needed are read, each
after its size was compared with what the description claims, and with their checksums. Raises CheckpointError
for whatever is not such a file, is damaged, or asks for more than data. Knows nothing of detectors.
"""

from __future__ import annotations

import struct
import sys
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from tunekit.errors import CheckpointError
from tunekit.models.inert import MOST_BYTES, MOST_STEPS, read_pickle
from tunekit.models.permitted import SCALARS, Refused, Storage, StoredTensor

BEGINS = b"PK\x03\x04"
# The number that PyTorch's files before version 1.6 begin with, as a pickle of protocol 2 holds it.
OLD_BEGINS = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
DEEPEST = 50


class SavedFile:
    """An open file. Use it as a context: `with SavedFile(path) as saved`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._storages: dict[str, Tensor] = {}
        self._archive = self._open()
        try:
            self._members = self._sized_members()
            self._folder = self._find_folder()
            self._check_packing()
            self._check_byte_order()
            self.content = self._read_content()
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> SavedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def tensor(self, stored: StoredTensor) -> Tensor:
        """The tensor on the CPU. Views of one storage share it, as they did when they were saved."""
        return torch.as_strided(self._storage(stored.storage), stored.size, stored.stride, stored.offset)

    def plain(self, value: Any, tensors: bool = True) -> Any:
        """`value` with its tensors read, where it may hold any. CheckpointError: it is more than data."""
        left = MOST_STEPS  # one list may stand in many places, and so unfold to more than was described

        def unfolded(value: Any, depth: int) -> Any:
            nonlocal left
            left -= 1
            if left < 0 or depth > DEEPEST:
                raise self._refusal("its data are nested too deeply")
            if tensors and type(value) is StoredTensor:
                return self.tensor(value)
            if type(value) is dict:
                return {key: unfolded(item, depth + 1) for key, item in value.items()}
            if type(value) in (list, tuple):
                return type(value)(unfolded(item, depth + 1) for item in value)
            if type(value) not in SCALARS:
                raise self._refusal(f"it holds a {type(value).__name__} where numbers and words should be")
            return value

        return unfolded(value, 0)

    def _open(self) -> zipfile.ZipFile:
        try:
            with self.path.open("rb") as file:
                begin = file.read(len(OLD_BEGINS))
        except FileNotFoundError:
            raise CheckpointError(
                f"{self.path}: there is no such checkpoint file, and none is downloaded"
            ) from None
        except OSError as fault:
            raise self._unreadable(fault) from fault
        if begin == OLD_BEGINS:
            raise CheckpointError(
                f"{self.path} is in the format that PyTorch wrote before version 1.6: load it with PyTorch, "
                "if you trust it, and torch.save it again"
            )
        if not begin.startswith(BEGINS) and not BEGINS.startswith(begin):
            raise CheckpointError(f"{self.path} is not a checkpoint: no file of tunekit, nor of torch.save")
        try:
            return zipfile.ZipFile(self.path)
        except OSError as fault:
            raise self._unreadable(fault) from fault
        except DAMAGE as fault:
            raise self._damaged() from fault

    def _sized_members(self) -> dict[str, zipfile.ZipInfo]:
        """By name. Sizes are checked here, so that reading one takes no more memory than the file has."""
        members = {info.filename: info for info in self._archive.infolist()}
        total = sum(info.file_size for info in members.values())
        if len(members) != len(self._archive.infolist()) or total > self.path.stat().st_size:
            raise self._damaged()
        return members

    def _find_folder(self) -> str:
        """All members lie in one folder, which torch.save names after the file."""
        folders = [name[: -len("data.pkl")] for name in self._members if name.endswith("/data.pkl")]
        if len(folders) != 1:
            raise CheckpointError(f"{self.path} is not a checkpoint: an archive, but none of torch.save")
        if f"{folders[0]}constants.pkl" in self._members:
            raise self._refusal(
                "it is a TorchScript export, which cannot be trained: give the .pt it was made of"
            )
        return folders[0]

    def _check_packing(self) -> None:
        for info in self._members.values():
            encrypted = info.flag_bits & 1
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or encrypted:
                raise self._refusal(
                    "it was packed anew, compressed or encrypted, which torch.save does not do"
                )

    def _check_byte_order(self) -> None:
        name = f"{self._folder}byteorder"
        order = self._read(name) if name in self._members else b"little"  # before PyTorch 2.1 nobody wrote it
        if order != sys.byteorder.encode():
            raise self._refusal("its numbers are stored in another machine's byte order")

    def _read_content(self) -> Any:
        name = f"{self._folder}data.pkl"
        if self._members[name].file_size > MOST_BYTES:
            raise self._refusal(f"its description is larger than {MOST_BYTES:,} bytes")
        try:
            return read_pickle(self._read(name))
        except Refused as fault:
            raise self._refusal(str(fault)) from fault

    def _storage(self, storage: Storage) -> Tensor:
        known = self._storages.get(storage.key)
        if known is None:
            known = self._storages[storage.key] = self._read_storage(storage)
        if known.dtype != storage.dtype or len(known) != storage.count:
            raise self._refusal(f"it describes storage {storage.key[:50]!a} in two ways")
        return known

    def _read_storage(self, storage: Storage) -> Tensor:
        name = f"{self._folder}data/{storage.key}"
        member, size = self._members.get(name), storage.count * storage.dtype.itemsize
        if member is None or member.file_size != size:
            raise self._refusal(f"storage {storage.key[:50]!a} has not the {size:,} bytes that it should")
        if storage.dtype is torch.bool:  # other bytes than 0 and 1 would be no booleans
            return self._numbers(name, torch.uint8) != 0
        return self._numbers(name, storage.dtype)

    def _numbers(self, name: str, dtype: torch.dtype) -> Tensor:
        if self._members[name].file_size == 0:
            return torch.empty(0, dtype=dtype)
        # Copied, so that the numbers lie where torch wants them: as aligned as those of any other tensor.
        return torch.frombuffer(bytearray(self._read(name)), dtype=dtype).clone()

    def _read(self, name: str) -> bytes:
        try:
            data = self._archive.read(self._members[name])
        except OSError as fault:
            raise self._unreadable(fault) from fault
        except DAMAGE as fault:
            raise self._damaged() from fault
        if len(data) != self._members[name].file_size:
            raise self._damaged()
        return data

    def _unreadable(self, fault: OSError) -> CheckpointError:
        return CheckpointError(f"cannot read checkpoint {self.path}: {fault.strerror or fault}")

    def _damaged(self) -> CheckpointError:
        return CheckpointError(
            f"{self.path} is damaged (cut short or altered): delete it and take another copy or another "
            "checkpoint of the run"
        )

    def _refusal(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is refused: {reason}")


# What zipfile raises for archives that are cut short or altered.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
    MemoryError,
)
