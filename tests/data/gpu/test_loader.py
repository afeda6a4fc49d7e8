import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.gpu.pictures import outlined
from tests.data.pictures import Pictures, bounds, classes_in, painted
from tests.data.test_augment import NOTHING
from tests.data.test_loader import check_form, same
from tunekit.args import TrainArgs
from tunekit.data.augment import Augmentation
from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.data.gpu import GpuLoader
from tunekit.data.loader import Batch, TrainLoader
from tunekit.errors import ArgumentError

SOURCE = painted(22, 64, (16, 12))
DEFAULT = Augmentation.from_args(TrainArgs(mixup=0.2, cutmix=0.2))
CPU = torch.device("cpu")


def loader(source=SOURCE, augmentation=DEFAULT, **settings) -> GpuLoader:
    return GpuLoader(source, augmentation, **{"batch": 8, "seed": 0, "device": CPU, **settings})


def records(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.records for batch in batches]).tolist()


def test_an_epoch_is_batches_of_the_asked_size_and_a_rest():
    ours = loader()
    batches = list(ours.epoch(1, mosaic=True))
    assert [len(batch.records) for batch in batches] == [8, 8, 6]
    assert len(ours) == 3
    for batch in batches:
        check_form(batch, (64, 64))


def test_images_come_in_the_order_of_the_other_loader():
    theirs = TrainLoader(SOURCE, DEFAULT, batch=8, seed=4, workers=0)
    for epoch, attempt in ((0, 0), (3, 0), (3, 1)):
        expected = records(theirs.epoch(epoch, mosaic=True, attempt=attempt))
        assert records(loader(seed=4).epoch(epoch, mosaic=True, attempt=attempt)) == expected
        assert sorted(expected) == list(range(22))


def test_a_resumed_run_sees_the_epochs_that_the_whole_run_saw():
    whole = loader()
    for epoch in (1, 2):
        list(whole.epoch(epoch, mosaic=True))
    for ours, expected in zip(loader().epoch(3, mosaic=True), whole.epoch(3, mosaic=True), strict=True):
        assert same(ours, expected)


def test_seeds_epochs_and_attempts_augment_the_same_image_differently():
    def first_image(seed, epoch, attempt=0):
        ours = loader(painted(1, 64, (16, 12)), seed=seed)
        return next(ours.epoch(epoch, mosaic=True, attempt=attempt)).images

    assert not torch.equal(first_image(0, 1), first_image(0, 2))
    assert not torch.equal(first_image(0, 1), first_image(1, 1))
    assert not torch.equal(first_image(0, 1), first_image(0, 1, attempt=1))
    assert torch.equal(first_image(0, 1), first_image(0, 1))


@pytest.mark.parametrize(("batch", "world"), [(8, 2), (8, 3), (7, 3), (5, 5)])
def test_ranks_share_each_batch_as_one_rank_alone_would_draw_it(batch, world):
    alone = list(loader(batch=batch).epoch(1, mosaic=True))
    shares = [
        list(loader(batch=batch, rank=rank, world=world).epoch(1, mosaic=True)) for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    assert sorted(record for share in shares for record in records(share)) == list(range(22))
    images = torch.cat([made.images for made in alone])
    order = records(alone)
    for share in shares:
        for made in share:
            places = [order.index(record) for record in made.records.tolist()]
            assert places
            assert torch.equal(made.images, images[places])


def test_boxes_belong_to_the_rows_that_they_name():
    for batch in loader(augmentation=NOTHING).epoch(1, mosaic=True):
        for row, cls, box in zip(batch.image_index, batch.classes, batch.boxes, strict=True):
            assert batch.records[row] == cls  # in SOURCE an object's class is its picture's number
            found = bounds(classes_in(batch.images[row].permute(1, 2, 0).numpy()) == int(cls))
            np.testing.assert_allclose(found, box, atol=1e-3)


def test_batches_without_any_box_have_the_same_form():
    bare = Pictures(SOURCE.images, [np.zeros((0, 5), np.float32)] * 22, 64)
    everything = replace(DEFAULT, mixup=1.0, cutmix=1.0, degrees=10.0)
    for batch in loader(bare, everything).epoch(1, mosaic=True):
        check_form(batch, (64, 64))
        assert len(batch.boxes) == 0


def test_one_picture_is_enough():
    [batch] = loader(painted(1, 64, (10, 9)), replace(DEFAULT, mixup=1.0)).epoch(0, mosaic=True)
    check_form(batch, (64, 64))


@pytest.mark.parametrize("source", [painted(36, 64, (16, 12)), outlined(36, 64)], ids=["painted", "outlined"])
@pytest.mark.parametrize("mosaic", [True, False])
def test_samples_are_like_those_of_the_other_loader(source, mosaic):
    """Means over 288 samples each, within four of their standard errors; 0.4 for other rounding."""
    theirs = TrainLoader(source, DEFAULT, batch=36, seed=7, workers=0)
    ours = loader(source, batch=36, seed=8)
    found, expected = (
        np.array([row for epoch in range(8) for row in figures(made, epoch, mosaic)])
        for made in (ours, theirs)
    )
    assert found.shape == expected.shape == (288, 8)
    error = np.sqrt((found.var(axis=0) + expected.var(axis=0)) / 288)
    rounding = np.array([0, *[0.4] * 7])
    assert (np.abs(found.mean(axis=0) - expected.mean(axis=0)) <= 4 * error + rounding).all()
    np.testing.assert_allclose(found.std(axis=0), expected.std(axis=0), rtol=0.3)


def figures(made: GpuLoader | TrainLoader, epoch: int, mosaic: bool) -> list[tuple[float, ...]]:
    """Of each image: how many boxes, their mean size and place; its mean, spread and share of grey."""
    rows = []
    for batch in made.epoch(epoch, mosaic=mosaic):
        images = batch.images.float()
        for row, image in enumerate(images):
            boxes = batch.boxes[batch.image_index == row]
            w, h, x, y = (
                torch.cat((boxes[:, 2:] - boxes[:, :2], boxes[:, 2:] + boxes[:, :2]), 1).sum(0).tolist()
            )
            n = max(len(boxes), 1)
            grey = (
                float(((image[0] == image[1]) & (image[1] == image[2]) & (image[0] > 30)).float().mean())
                * 100
            )
            rows.append(
                (len(boxes), w / n, h / n, x / n, y / n, float(image.mean()), float(image.std()), grey)
            )
    return rows


@pytest.mark.parametrize("name", ["fliplr", "flipud", "bgr"])
def test_a_probability_of_a_quarter_is_met_in_a_quarter_of_the_samples(name):
    source = painted(100, 32, (9, 7))
    plain = torch.cat([b.images for b in loader(source, NOTHING, batch=50).epoch(0, mosaic=True)])
    changed = [
        torch.cat(
            [b.images for b in loader(source, replace(NOTHING, **{name: p}), batch=50).epoch(0, mosaic=True)]
        )
        for p in (0.0, 0.25, 1.0)
    ]
    share = [float((images != plain).flatten(1).any(1).float().mean()) for images in changed]
    assert share[0] == 0
    assert 0.1 < share[1] < 0.4
    assert share[2] > 0.9  # a swap of red and blue may change nothing
    undone = {"fliplr": changed[2].flip(3), "flipud": changed[2].flip(2), "bgr": changed[2].flip(1)}[name]
    assert torch.equal(undone, plain)


@pytest.mark.parametrize(("mosaic", "several"), [(0.0, 0), (0.5, 0.5), (1.0, 1)])
def test_a_mosaic_shows_other_pictures_as_often_as_asked(mosaic, several):
    plain = [np.full((32, 32, 3), 2 * i, np.uint8) for i in range(57)]  # none is the grey of nothing
    source = Pictures(plain, [np.zeros((0, 5), np.float32)] * 57, 32)
    batches = loader(source, replace(NOTHING, mosaic=mosaic), batch=57).epoch(0, mosaic=True)
    mixed = [len(image.unique()) > 1 for image in next(batches).images]
    assert abs(np.mean(mixed) - several) <= (0.2 if 0 < mosaic < 1 else 0)


def test_copy_paste_is_refused_at_once():
    with pytest.raises(ArgumentError, match=r"copy_paste=0\.3 works with cache=disk, not with cache=gpu"):
        loader(augmentation=replace(DEFAULT, copy_paste=0.3))


def test_more_ranks_than_images_of_a_batch_are_refused():
    with pytest.raises(ArgumentError, match="workers"):
        loader(batch=2, world=3)


def test_closing_in_the_middle_ends_the_thread():
    before = threading.active_count()
    ours = loader(batch=1)
    running = ours.epoch(1, mosaic=True)
    next(running)
    assert threading.active_count() > before
    ours.close()
    assert threading.active_count() == before
    assert next(running, None) is None


def test_images_of_a_data_set_on_disk_are_loaded(data_set):
    source = open_split(load_data_config(str(data_set(count=6))), "train", 64, "disk")
    [batch] = loader(source, NOTHING, batch=6).epoch(1, mosaic=True)
    check_form(batch, (64, 64))
    image = source.image(int(batch.records[0]))
    np.testing.assert_array_equal(batch.images[0, :, 8:56].permute(1, 2, 0).numpy(), image)
    boxes = batch.boxes[batch.image_index == 0] - torch.tensor([0, 8, 0, 8])
    np.testing.assert_allclose(boxes[1], [0, 24, 32, 48], atol=0.01)
