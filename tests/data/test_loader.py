import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.pictures import NOTHING, Pictures, bounds, classes_in, painted
from tunekit.args import TrainArgs
from tunekit.data.augment import Augmentation
from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.data.loader import Batch, TrainLoader, ValLoader
from tunekit.errors import ArgumentError, DataError

SOURCE = painted(22, 64, (16, 12))
DEFAULT = Augmentation.from_args(TrainArgs(mixup=0.2, cutmix=0.2, copy_paste=0.3, degrees=5))


def train_loader(source=SOURCE, augmentation=DEFAULT, **settings) -> TrainLoader:
    return TrainLoader(source, augmentation, **{"batch": 8, "seed": 0, "workers": 2, **settings})


def same(first: Batch, second: Batch) -> bool:
    return all(
        torch.equal(getattr(first, name), getattr(second, name)) for name in Batch.__dataclass_fields__
    )


def check_form(batch: Batch, shape: tuple[int, int]) -> None:
    count, rows = len(batch.records), len(batch.boxes)
    assert batch.images.shape == (count, 3, *shape)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.image_index.shape, batch.image_index.dtype) == ((rows,), torch.int64)
    assert (batch.classes.shape, batch.classes.dtype) == ((rows,), torch.int64)
    assert (batch.boxes.shape, batch.boxes.dtype) == ((rows, 4), torch.float32)
    assert batch.records.dtype == torch.int64
    assert (batch.image_index.diff() >= 0).all()
    assert not rows or batch.image_index.max() < count


def test_an_epoch_is_batches_of_the_asked_size_and_a_rest():
    loader = train_loader()
    batches = list(loader.epoch(1, mosaic=True))
    assert [len(batch.records) for batch in batches] == [8, 8, 6]
    assert len(loader) == 3
    for batch in batches:
        check_form(batch, (64, 64))


def test_every_image_comes_once_an_epoch_in_another_order_each_time():
    orders = [
        torch.cat([batch.records for batch in train_loader(seed=seed).epoch(epoch, mosaic=True)]).tolist()
        for seed, epoch in ((0, 1), (0, 2), (1, 1))
    ]
    assert all(sorted(order) == list(range(22)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("mosaic", [True, False])
def test_the_number_of_workers_changes_no_bit(mosaic):
    alone = list(train_loader(workers=0).epoch(3, mosaic=mosaic))
    for workers in (1, 4):
        for ours, expected in zip(train_loader(workers=workers).epoch(3, mosaic=mosaic), alone, strict=True):
            assert same(ours, expected)


def test_a_resumed_run_sees_the_epochs_that_the_whole_run_saw():
    whole = train_loader()
    for epoch in (1, 2):
        list(whole.epoch(epoch, mosaic=True))
    for ours, expected in zip(train_loader().epoch(3, mosaic=True), whole.epoch(3, mosaic=True), strict=True):
        assert same(ours, expected)


def test_seeds_and_epochs_augment_the_same_image_differently():
    def first_image(seed, epoch):
        loader = train_loader(painted(1, 64, (16, 12)), seed=seed)
        return next(loader.epoch(epoch, mosaic=True)).images

    assert not torch.equal(first_image(0, 1), first_image(0, 2))
    assert not torch.equal(first_image(0, 1), first_image(1, 1))
    assert torch.equal(first_image(0, 1), first_image(0, 1))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_draw_together_what_one_rank_alone_would(world):
    """Each batch of one worker is split over the ranks: the same images, augmented the same way."""
    alone = list(train_loader(batch=8).epoch(1, mosaic=True))
    loaders = [train_loader(batch=8, rank=rank, world=world) for rank in range(world)]
    shares = [list(loader.epoch(1, mosaic=True)) for loader in loaders]
    assert all(len(share) == len(loader) == 3 for share, loader in zip(shares, loaders, strict=True))
    for number, whole in enumerate(alone):
        for rank in range(world):
            part = shares[rank][number]
            assert torch.equal(part.records, whole.records[rank::world])
            assert torch.equal(part.images, whole.images[rank::world])


def test_a_last_batch_that_is_too_small_for_all_ranks_is_joined_to_the_one_before():
    loaders = [train_loader(batch=7, rank=rank, world=3) for rank in range(3)]  # 22 = 7 + 7 + 7 + 1
    shares = [[len(batch.records) for batch in loader.epoch(1, mosaic=True)] for loader in loaders]
    assert shares == [[3, 3, 3], [2, 2, 3], [2, 2, 2]]
    assert [len(loader) for loader in loaders] == [3, 3, 3]


def test_an_epoch_that_is_repeated_takes_another_chance_and_the_same_images():
    first, again, once_more = (
        list(train_loader().epoch(1, mosaic=True, attempt=attempt)) for attempt in (0, 1, 2)
    )
    assert all(same(a, b) for a, b in zip(first, train_loader().epoch(1, mosaic=True), strict=True))
    for other in (again, once_more):
        records = torch.cat([batch.records for batch in other])
        assert records.sort().values.tolist() == list(range(22))
        assert not torch.equal(records, torch.cat([batch.records for batch in first]))
    assert not torch.equal(again[0].images, once_more[0].images)


@pytest.mark.parametrize("rank", [0, 1])
def test_rect_batches_have_the_shape_of_their_images(rank):
    source = painted(22, 128, (32, 24))  # lying 96 x 128 and standing 128 x 96
    loader = train_loader(source, NOTHING, batch=4, rect=True, rank=rank, world=2)
    batches = list(loader.epoch(1, mosaic=True))
    assert len(batches) == len(loader) == 6
    for batch in batches:
        check_form(batch, tuple(batch.images.shape[2:]))
        for row, cls, box in zip(batch.image_index, batch.classes, batch.boxes, strict=True):
            assert batch.records[row] == cls
            found = bounds(classes_in(batch.images[row].permute(1, 2, 0).numpy()) == int(cls))
            np.testing.assert_allclose(found, box, atol=1e-3)
    shapes = [tuple(batch.images.shape[2:]) for batch in batches]
    assert set(shapes) == {(96, 128), (128, 96), (128, 128)}
    assert shapes.count((128, 128)) == 1  # the batch in which both kinds meet


def test_rect_batches_are_neither_mixed_nor_cut_but_augmented_otherwise():
    strong = replace(NOTHING, mosaic=1.0, mixup=1.0, cutmix=1.0, scale=0.3, translate=0.2, fliplr=0.5)
    for batch in train_loader(augmentation=strong, rect=True).epoch(1, mosaic=True):
        h, w = batch.images.shape[2:]
        assert len(batch.boxes) <= len(batch.records)  # of its own object, which may have left the image
        for row, cls, box in zip(batch.image_index, batch.classes, batch.boxes, strict=True):
            assert batch.records[row] == cls
            found = bounds(classes_in(batch.images[row].permute(1, 2, 0).numpy()) == int(cls))
            np.testing.assert_allclose(found, box, atol=2)
            assert (box >= 0).all()
            assert box[2] <= w
            assert box[3] <= h


def test_rect_images_are_shifted_by_shares_of_their_own_height_and_width():
    wide = Pictures(
        [np.zeros((32, 320, 3), np.uint8)], [np.array([[0, 0.5, 0.5, 0.05, 0.5]], np.float32)], 320
    )
    a = replace(NOTHING, translate=0.2)
    loader = train_loader(wide, a, batch=1, rect=True)
    boxes = torch.cat([next(loader.epoch(epoch, mosaic=True)).boxes for epoch in range(200)])
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2 - torch.tensor([160, 16])
    assert abs(middles).max(0).values.tolist() == pytest.approx([64, 6.4], rel=0.08)


@pytest.mark.parametrize(("images", "batch", "world"), [(3, 8, 4), (22, 3, 4)])
def test_more_workers_than_images_are_refused(images, batch, world):
    source = painted(images, 64, (16, 12))
    with pytest.raises(ArgumentError, match="too few for 4 workers: take at most workers=3"):
        train_loader(source, batch=batch, world=world)


def test_validation_is_shared_without_gaps_or_duplicates():
    alone = list(ValLoader(SOURCE, batch=8, workers=1))
    shares = [list(ValLoader(SOURCE, batch=4, workers=1, rank=rank, world=2)) for rank in (0, 1)]
    for number, whole in enumerate(alone):
        for rank in (0, 1):
            part = shares[rank][number]
            assert torch.equal(part.records, whole.records[rank::2])
            assert torch.equal(part.images, whole.images[rank::2])
    with pytest.raises(ArgumentError, match="3 images are too few for 4 workers"):
        ValLoader(painted(3, 64, (16, 12)), batch=4, workers=1, world=4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_batches_are_in_page_locked_memory_where_a_gpu_wants_them():
    for batch in train_loader(pin=True).epoch(1, mosaic=True):
        assert all(getattr(batch, name).is_pinned() for name in Batch.__dataclass_fields__)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("rect", [False, True])
def test_one_image_and_a_batch_larger_than_the_data_set_are_enough(rect):
    source = painted(1, 64, (16, 12))
    everything = replace(DEFAULT, mixup=1.0, cutmix=1.0, copy_paste=1.0, copy_paste_mode="mixup")
    loader = train_loader(source, everything, batch=16, rect=rect)
    [batch] = loader.epoch(1, mosaic=True)
    check_form(batch, (64, 64))
    assert batch.records.tolist() == [0]
    [batch] = ValLoader(source, batch=16, workers=1)
    assert batch.records.tolist() == [0]


def test_ten_thousand_boxes_on_an_image_pass_through_everything():
    rng = np.random.default_rng(0)
    middles, sizes = rng.uniform(0.05, 0.95, (10_000, 2)), rng.uniform(0.01, 0.05, (10_000, 2))
    rows = np.column_stack((rng.integers(0, 9, 10_000), middles, sizes)).astype(np.float32)
    source = Pictures([np.zeros((256, 256, 3), np.uint8)], [rows], 256)
    crowded = replace(DEFAULT, mixup=1.0, copy_paste=0.1)
    [batch] = train_loader(source, crowded, batch=1).epoch(1, mosaic=True)
    assert len(batch.boxes) > 5_000
    check_form(batch, (256, 256))


def test_boxes_belong_to_the_rows_that_they_name():
    for batch in train_loader(augmentation=NOTHING).epoch(1, mosaic=True):
        for row, cls, box in zip(batch.image_index, batch.classes, batch.boxes, strict=True):
            assert batch.records[row] == cls  # in SOURCE an object's class is its picture's number
            found = bounds(classes_in(batch.images[row].permute(1, 2, 0).numpy()) == int(cls))
            np.testing.assert_allclose(found, box, atol=1e-3)


def test_batches_without_any_box_have_the_same_form():
    bare = Pictures(SOURCE.images, [np.zeros((0, 5), np.float32)] * 22, 64)
    for batch in train_loader(bare).epoch(1, mosaic=True):
        check_form(batch, (64, 64))
        assert len(batch.boxes) == 0


class Damaged(Pictures):
    """One of its images cannot be read."""

    def image(self, i: int) -> np.ndarray:
        if i == 5:
            raise OSError("the disk is gone")
        return super().image(i)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_in_a_worker_names_the_image(workers):
    source = Damaged(SOURCE.images, SOURCE.boxes, 64)
    with pytest.raises(DataError, match=r"images/5\.jpg.*the disk is gone"):
        list(train_loader(source, workers=workers).epoch(1, mosaic=False))
    with pytest.raises(DataError, match=r"images/5\.jpg.*the disk is gone"):
        list(ValLoader(source, batch=8, workers=workers))


def test_closing_a_loader_in_the_middle_ends_its_threads():
    before = threading.active_count()
    train, val = train_loader(), ValLoader(SOURCE, batch=2, workers=2)
    for loader, running in ((train, train.epoch(1, mosaic=True)), (val, iter(val))):
        next(running)
        assert threading.active_count() > before
        loader.close()
        assert threading.active_count() == before
        assert next(running, None) is None


def test_validation_shows_every_image_as_it_is_in_the_middle_of_grey():
    for batch in ValLoader(SOURCE, batch=4, workers=2):
        h, w = batch.images.shape[2:]
        for row, record in enumerate(batch.records):
            original = SOURCE.images[record]
            expected = np.full((h, w, 3), 114, np.uint8)
            top, left = (h - original.shape[0]) // 2, (w - original.shape[1]) // 2
            expected[top : top + original.shape[0], left : left + original.shape[1]] = original
            shown = batch.images[row].permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(shown, expected)
            [box] = batch.boxes[batch.image_index == row]
            np.testing.assert_allclose(bounds(classes_in(shown) == int(record)), box, atol=1e-3)


def test_validation_comes_in_batches_of_like_shapes_any_number_of_times():
    loader = ValLoader(SOURCE, batch=4, workers=1)
    rounds = [list(loader), list(loader)]
    assert len(rounds[0]) == len(loader) == 6
    for first, second in zip(*rounds, strict=True):
        assert same(first, second)
    records = torch.cat([batch.records for batch in rounds[0]])
    assert records.sort().values.tolist() == list(range(22))
    shapes = [tuple(batch.images.shape[2:]) for batch in rounds[0]]
    for batch, shape in zip(rounds[0], shapes, strict=True):
        check_form(batch, shape)
    # lying 48 x 64 first, standing 64 x 48 last, both in the batch between; half a stride all around
    assert shapes == [(64, 96)] * 2 + [(96, 96)] + [(96, 64)] * 3


@pytest.mark.parametrize(
    ("ratio", "imgsz", "expected"),
    [
        (1.0, 640, (672, 672)),
        (0.75, 640, (512, 672)),
        (4 / 3, 640, (672, 512)),
        (0.5, 320, (192, 352)),
    ],
)
def test_batch_shapes_are_those_of_the_reference(ratio, imgsz, expected):
    h, w = round(min(ratio, 1) * imgsz), round(imgsz / max(ratio, 1))
    source = Pictures([np.zeros((h, w, 3), np.uint8)], [np.zeros((0, 5), np.float32)], imgsz)
    [batch] = ValLoader(source, batch=1, workers=0)
    assert tuple(batch.images.shape[2:]) == expected


@pytest.mark.parametrize("cache", ["disk", False])
def test_images_of_a_data_set_on_disk_are_loaded(data_set, cache):
    source = open_split(load_data_config(str(data_set(count=6))), "train", 64, cache)
    batches = list(train_loader(source, batch=4).epoch(1, mosaic=True))
    assert [len(batch.records) for batch in batches] == [4, 2]
    [batch] = ValLoader(source, batch=6, workers=1)
    check_form(batch, (64, 96))
    image = source.image(int(batch.records[0]))
    np.testing.assert_array_equal(batch.images[0, :, 8:56, 16:80].permute(1, 2, 0).numpy(), image)
    boxes = batch.boxes[batch.image_index == 0] - torch.tensor([16, 8, 16, 8])
    np.testing.assert_allclose(boxes[1], [0, 24, 32, 48], atol=0.01)
