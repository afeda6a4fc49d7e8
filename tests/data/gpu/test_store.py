import numpy as np
import pytest
import torch

from tests.data.gpu.pictures import outlined
from tests.data.pictures import Pictures, painted
from tunekit.data.gpu import store
from tunekit.data.gpu.store import album_of, store_bytes, stored
from tunekit.errors import ResourceError

CPU = torch.device("cpu")


@pytest.mark.parametrize("portion", [1, 20_000, 2**26])
def test_every_image_lies_where_the_album_says(portion, monkeypatch):
    monkeypatch.setattr(store, "PORTION", portion)  # of which an image may be many, or many images one
    source = painted(9, 64, (16, 12))
    album = album_of(source)
    pixels = stored(source, album, CPU)
    assert pixels.dtype == torch.uint8
    assert len(album) == 9
    assert store_bytes(album) == pixels.numel() == 3 * (1 + 9 * 64 * 48)
    assert (pixels[0] == 114).all()
    for index in range(9):
        found = pixels[album.first[index] : album.first[index + 1]].reshape(*album.shapes[index], 3)
        np.testing.assert_array_equal(found, source.image(index))


def test_an_album_has_every_label_and_outline():
    source = outlined(12, 32)
    album = album_of(source)
    outlines = album.outlines.each()
    for index in range(12):
        own = slice(album.ends[index], album.ends[index + 1])
        np.testing.assert_array_equal(album.labels[own], source.labels(index))
        for found, expected in zip(outlines[own], source.polygons(index), strict=True):
            assert (found is None) == (expected is None)
            assert found is None or np.array_equal(found, expected)
    assert album_of(painted(2, 32, (8, 6))).outlines is None


def test_images_without_any_label_are_an_album_too():
    bare = Pictures(painted(3, 32, (8, 6)).images, [np.zeros((0, 5), np.float32)] * 3, 32)
    album = album_of(bare)
    assert album.labels.shape == (0, 5)
    assert album.ends.tolist() == [0, 0, 0, 0]


def test_images_that_do_not_fit_are_refused_before_the_memory_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**31))
    wide = Pictures([np.broadcast_to(np.uint8(0), (6400, 6400, 3))] * 9, [np.zeros((0, 5))] * 9, 6400)
    sentence = (
        r"cache=gpu: the 9 training images at imgsz=6400 take 1\.03 GiB of cuda:0's memory, where 1\.00 GiB"
        r" are free, 20% of which must stay for the model: use cache=disk"
    )
    with pytest.raises(ResourceError, match=sentence):
        stored(wide, album_of(wide), torch.device("cuda:0"))


def test_memory_that_is_free_in_pieces_only_is_told_the_same_way(monkeypatch):
    def none_left(*_, **__):
        raise torch.OutOfMemoryError

    source = painted(2, 32, (8, 6))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**31))
    monkeypatch.setattr(torch, "empty", none_left)
    with pytest.raises(ResourceError, match="use cache=disk"):
        stored(source, album_of(source), torch.device("cuda:0"))
