"""Shares of an epoch: every image once, on one rank, in batches of the asked size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.data.shards import Split, by_shape, shuffled, shuffled_by_shape
from tunekit.errors import ArgumentError

KINDS = ["shuffled", "shuffled_by_shape", "by_shape"]


def shapes_of(count: int, seed: int = 0, side: int = 96) -> np.ndarray:
    """(count, 2) h, w with the long side `side`."""
    rng = np.random.default_rng(seed)
    short = rng.integers(1, side + 1, count)
    lying = rng.random(count) < 0.5
    return np.column_stack((np.where(lying, short, side), np.where(lying, side, short)))


def shares(kind: str, shapes: np.ndarray, split: Split, seed: int = 0):
    if kind == "shuffled":
        return shuffled(len(shapes), 96, split, np.random.default_rng(seed))
    if kind == "shuffled_by_shape":
        return shuffled_by_shape(shapes, 32, split, np.random.default_rng(seed))
    return by_shape(shapes, 32, 0.5, split)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 70), st.integers(1, 20), st.integers(1, 6), st.integers(0, 99))
def test_ranks_share_an_epoch_without_gaps_or_duplicates(kind, images, batch, world, seed):
    shapes = shapes_of(images)
    if world > min(images, batch):
        with pytest.raises(ArgumentError, match=f"too few for {world} workers"):
            shares(kind, shapes, Split(batch, 0, world), seed)
        return
    ranks = [shares(kind, shapes, Split(batch, rank, world), seed) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    alone = shares(kind, shapes, Split(batch), seed)
    records = np.concatenate([part.records for rank in ranks for part in rank])
    assert sorted(records) == list(range(images))
    positions = np.concatenate([part.positions for rank in ranks for part in rank])
    assert sorted(positions) == list(range(images))

    first = 0
    for number, parts in enumerate(zip(*ranks, strict=True)):
        sizes = [len(part.records) for part in parts]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert len({part.shape for part in parts}) == 1
        last = number == len(ranks[0]) - 1
        if kind != "shuffled_by_shape":  # there the smaller batch may be any
            assert sum(sizes) == batch or last
        assert sum(sizes) < batch + world
        for rank, part in enumerate(parts):
            np.testing.assert_array_equal(part.positions, np.arange(first, first + sum(sizes))[rank::world])
        first += sum(sizes)
    if all(len(part.records) in (batch, images % batch) for part in alone) and not 0 < images % batch < world:
        # No batch had to be joined: what all ranks draw is what one alone would.
        for number, part in enumerate(alone):
            for rank in range(world):
                np.testing.assert_array_equal(ranks[rank][number].records, part.records[rank::world])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_batches_of_like_shapes_hold_their_images_with_little_around_them(kind):
    shapes = shapes_of(200)
    parts = shares(kind, shapes, Split(8))
    for part in parts:
        least = shapes[part.records].max(axis=0)
        assert (part.shape >= least).all()
        assert (np.array(part.shape) - least < (32 if kind == "shuffled_by_shape" else 64)).all()
        assert all(side % 32 == 0 for side in part.shape)
    padded = sum(np.prod(part.shape) * len(part.records) for part in parts) / shapes.prod(axis=1).sum()
    square = 96 * 96 * 200 / shapes.prod(axis=1).sum()
    assert padded - 1 < (square - 1) * (0.6 if kind == "shuffled_by_shape" else 1.5)


def test_batches_of_like_shapes_come_in_another_order_and_company_each_time():
    shapes = np.array([[48, 96]] * 40 + [[96, 48]] * 45)
    first, second = (shares("shuffled_by_shape", shapes, Split(8), seed) for seed in (0, 1))
    assert [part.shape for part in first] != [part.shape for part in second]
    assert {tuple(sorted(part.records)) for part in first} != {tuple(sorted(p.records)) for p in second}
    again = shares("shuffled_by_shape", shapes, Split(8), 0)
    assert all((a.records == b.records).all() for a, b in zip(first, again, strict=True))


def test_the_smaller_batch_of_an_epoch_is_not_always_that_of_the_same_shape():
    shapes = np.array([[48, 96]] * 21 + [[96, 48]] * 20)
    smallest = set()
    for seed in range(30):
        parts = shares("shuffled_by_shape", shapes, Split(8), seed)
        smallest |= {part.shape for part in parts if len(part.records) == 1}
    assert len(smallest) == 2


def test_shapes_that_are_multiples_of_the_stride_get_no_margin_in_training():
    shapes = np.array([[64, 96]] * 3)
    assert shares("shuffled_by_shape", shapes, Split(3))[0].shape == (64, 96)
    assert shares("by_shape", shapes, Split(3))[0].shape == (96, 128)
