"""Packed tensors come back to the bit, as they lay in memory, through a checkpoint file."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunekit.training.packing import packed, unpacked

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool)
KEYS = st.text("abc.0_", min_size=1, max_size=4) | st.integers(0, 20)
SHAPES = st.lists(st.integers(0, 4), max_size=5)


@st.composite
def tensors(draw) -> torch.Tensor:
    shape = draw(SHAPES)
    values = torch.randint(-100, 100, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 9))))
    tensor = values.to(draw(st.sampled_from(DTYPES)))
    if len(shape) == 4 and draw(st.booleans()):
        tensor = tensor.to(memory_format=torch.channels_last)
    if shape and draw(st.booleans()):  # it begins in the midst of another one's memory
        return torch.cat([torch.zeros_like(tensor), tensor])[len(tensor) :]
    return tensor


TREES = st.dictionaries(KEYS.map(str), tensors() | st.dictionaries(KEYS, tensors(), min_size=1), max_size=6)


def through_a_file(pack: dict) -> dict:
    file = io.BytesIO()
    torch.save(pack, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def leaves(tree: dict, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], torch.Tensor]:
    found = {}
    for key, item in tree.items():
        here = (*path, str(key))
        found |= {here: item} if isinstance(item, torch.Tensor) else leaves(item, here)
    return found


@given(TREES)
def test_a_tree_of_tensors_comes_back_as_it_was(tree):
    before, after = leaves(tree), leaves(unpacked(through_a_file(packed(tree))))
    assert list(after) == list(before)
    for path, tensor in before.items():
        assert after[path].dtype == tensor.dtype
        assert after[path].shape == tensor.shape
        assert torch.equal(after[path], tensor)
        assert after[path].stride() == tensor.stride()


def test_a_few_long_tensors_are_saved_whatever_the_number_of_short_ones():
    pack = packed({str(index): torch.zeros(3, dtype=DTYPES[index % 2]) for index in range(100)})
    assert [(row.dtype, len(row)) for row in pack["values"]] == [(torch.float32, 150), (torch.bfloat16, 150)]


def test_what_was_packed_or_unpacked_is_a_copy():
    source = torch.zeros(4)
    pack = packed({"a": source})
    tensor = unpacked(pack)["a"]
    source += 1
    tensor += 2
    assert pack["values"][0].tolist() == [0, 0, 0, 0]
    assert unpacked(pack)["a"].tolist() == [0, 0, 0, 0]


def test_missing_values_are_told():
    pack = packed({"a": torch.zeros(4), "b": torch.zeros(5)})
    pack["values"][0] = pack["values"][0][:-1]
    with pytest.raises(RuntimeError, match="out of bounds for storage of size 16"):
        unpacked(pack)
