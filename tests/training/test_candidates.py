"""The anchors inside a box, counted out cell by cell, against asking every anchor."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.models.heads import make_grid
from tunekit.training.candidates import Truth, candidates

CPU = torch.device("cpu")


def asked_one_by_one(centres: torch.Tensor, box: list[float], least: float) -> list[int]:
    low, high = [], []
    for start, end in zip(box[:2], box[2:], strict=True):
        middle, half = (start + end) / 2, max(end - start, least) / 2
        low.append(middle - half)
        high.append(middle + half)
    return [
        anchor
        for anchor, (x, y) in enumerate(centres.tolist())
        if low[0] < x < high[0] and low[1] < y < high[1]
    ]


# Quarters of pixels: exact in float32, and often on a centre or a cell's border.
sides = st.integers(-40, 700).map(lambda quarters: quarters / 4)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    levels=st.sampled_from([(8, 16, 32), (8,), (4, 8, 16, 32), (16, 32)]),
    spans=st.lists(st.tuples(sides, sides, sides, sides), min_size=1, max_size=6),
)
def test_pairs_are_those_of_asking_every_anchor(shape, levels, spans):
    height, width = (32 * n for n in shape)
    anchors, strides = make_grid([(height // s, width // s) for s in levels], levels, CPU)
    boxes = [(min(x, z), min(y, w), max(x, z), max(y, w)) for x, y, z, w in spans]
    rows = torch.arange(len(boxes)) // 2
    truth = Truth(rows, torch.zeros(len(boxes), dtype=torch.int64), torch.tensor(boxes))
    found = candidates(anchors, strides, levels, truth, images=3)
    least = levels[1] if len(levels) > 1 else levels[0]
    expected = [asked_one_by_one(anchors * strides, box, least) for box in boxes]
    assert list(zip(found.box.tolist(), found.anchor.tolist(), strict=True)) == [
        (box, anchor) for box, inside in enumerate(expected) for anchor in inside
    ]
    assert found.rank.tolist() == [rank for inside in expected for rank in range(len(inside))]
    assert found.most == max(len(inside) for inside in expected)
    assert torch.equal(found.place, rows[found.box] * len(anchors) + found.anchor)


@pytest.mark.parametrize(("levels", "reach"), [((8, 16, 32), 8.0), ((8,), 4.0), ((4, 8), 4.0)])
def test_a_box_that_holds_no_anchor_gets_those_within_half_the_second_stride(levels, reach):
    anchors, strides = make_grid([(64 // s, 64 // s) for s in levels], levels, CPU)
    middle = torch.tensor([9.5, 9.5])
    tiny = Truth(torch.tensor([0]), torch.tensor([0]), torch.cat([middle - 0.5, middle + 0.5])[None])
    near = (anchors * strides - middle).abs().amax(1) < reach
    found = candidates(anchors, strides, levels, tiny, images=1).anchor
    assert near.any()
    assert found.tolist() == near.nonzero().squeeze(1).tolist()
