import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.pictures import Pictures, bounds, classes_in, painted
from tunekit.args import TrainArgs
from tunekit.data.augment import Augmentation
from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.data.loader import Batch, TrainLoader, ValLoader
from tunekit.errors import DataError

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
def test_ranks_share_an_epoch_without_gaps_or_duplicates(world):
    loaders = [train_loader(rank=rank, world=world, batch=4) for rank in range(world)]
    shares = [list(loader.epoch(1, mosaic=True)) for loader in loaders]
    assert [len(share) for share in shares] == [len(loader) for loader in loaders]
    records = [torch.cat([batch.records for batch in share]).tolist() for share in shares]
    assert sorted(record for share in records for record in share) == list(range(22))
    assert max(map(len, records)) - min(map(len, records)) <= 1


def test_ranks_augment_as_one_rank_alone_would():
    """Position k of the epoch is the same image, augmented the same way, whoever draws it."""
    alone = torch.cat([batch.images for batch in train_loader().epoch(1, mosaic=True)])
    for rank in (0, 1):
        share = torch.cat([batch.images for batch in train_loader(rank=rank, world=2).epoch(1, mosaic=True)])
        assert torch.equal(share, alone[rank::2])


def test_boxes_belong_to_the_rows_that_they_name():
    nothing = replace(DEFAULT, **dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))
    for batch in train_loader(augmentation=nothing).epoch(1, mosaic=True):
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
