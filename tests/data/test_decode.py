"""Images of every kind become 8-bit RGB at training size; what is no whole image is told, not drawn."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tunekit.data import decode
from tunekit.data.decode import BadImage, read_image, resize


def save(image: Image.Image, path: Path, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def smooth(height: int, width: int) -> np.ndarray:
    """(height, width, 3): red grows to the right, green downwards, blue is 30."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([red, green, np.full_like(red, 30)], axis=2).round().astype(np.uint8)


def test_an_image_of_the_right_size_is_read_as_it_is_in_rgb(tmp_path: Path) -> None:
    pixels = smooth(20, 40)
    image = read_image(save(Image.fromarray(pixels), tmp_path / "a.png"), 40)
    np.testing.assert_array_equal(image, pixels)
    assert image.flags.c_contiguous


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    path = save(Image.fromarray(smooth(32, 64)), tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(path, 64)
    assert image.shape == (64, 32, 3)
    assert np.abs(image.astype(int) - np.rot90(smooth(32, 64), -1)).mean() < 4


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_8_bit_rgb(tmp_path: Path, mode: str) -> None:
    grey = smooth(16, 32)[:, :, 0]
    if mode == "I;16":
        source = Image.fromarray(grey.astype(np.uint16) * 257)
        expected = np.repeat(grey[:, :, None], 3, axis=2)
    else:
        source = Image.fromarray(smooth(16, 32)).convert(mode)
        expected = np.asarray(source.convert("RGB"))
    path = save(source, tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    image = read_image(path, 32)
    assert image.shape == (16, 32, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - expected).mean() < (8 if mode == "CMYK" else 1)


def wide(height: int = 16, width: int = 32, full: int = 65535) -> np.ndarray:
    """(height, width, 3) uint16 RGB: `smooth` over the range 0..full."""
    return (smooth(height, width).astype(np.float64) * full / 255).round().astype(np.uint16)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("full", [65535, 4095, 255])
def test_16_bits_become_8_over_the_range_that_is_used(tmp_path: Path, kind: str, full: int) -> None:
    """Also where 12 or 8 bits were put into a file of 16, whose upper byte is next to nothing."""
    path = str(tmp_path / f"a.{kind}")
    assert cv2.imwrite(path, wide(full=full)[:, :, ::-1])
    image = read_image(path, 32)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - smooth(16, 32)).max() <= 1


def test_a_dark_photograph_of_16_bits_stays_dark(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    assert cv2.imwrite(path, wide()[:, :, ::-1] // 8)
    image = read_image(path, 32)
    assert np.abs(image.astype(int) - smooth(16, 32) // 8).max() <= 1


def test_pixels_that_are_no_whole_numbers_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "a.tiff")
    assert cv2.imwrite(path, smooth(16, 32).astype(np.float32) / 255)
    with pytest.raises(BadImage, match="float32: save it with 8 or 16 bits"):
        read_image(path, 32)


def test_transparency_is_dropped_and_the_colours_under_it_show(tmp_path: Path) -> None:
    pixels = np.dstack((smooth(16, 32), np.zeros((16, 32), np.uint8)))
    image = read_image(save(Image.fromarray(pixels), tmp_path / "a.png"), 32)
    np.testing.assert_array_equal(image, smooth(16, 32))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_the_smallest_images_fill_the_long_side(tmp_path: Path, size: tuple[int, int]) -> None:
    path = save(Image.fromarray(np.full((*size, 3), 77, np.uint8)), tmp_path / "a.png")
    image = read_image(path, 64)
    assert image.shape == (*(64 if side == max(size) else 2 for side in size), 3)
    assert (image == 77).all()


@pytest.mark.parametrize(("kind", "limit"), [("jpg", decode.LARGE), ("png", 1000)])
def test_an_image_20000_pixels_wide_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int
) -> None:
    """With the low limit it is one of the large ones, which threads decode one after another."""
    monkeypatch.setattr(decode, "LARGE", limit)
    path = save(Image.fromarray(smooth(200, 20_000)), tmp_path / f"a.{kind}")
    with ThreadPoolExecutor(2) as pool:
        images = list(pool.map(lambda _: read_image(path, 640), range(2)))
    for image in images:
        assert image.shape == (7, 640, 3)
        expected = resize(smooth(200, 20_000), 640)
        assert np.abs(image.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "png", "bmp"])
@pytest.mark.parametrize(("pixels", "waits"), [(60 * 80 - 1, True), (60 * 80 * 4, False)])
def test_large_images_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, pixels: int, waits: bool
) -> None:
    """Which bounds the memory: their size is read from the file's head."""
    (tmp_path / "a").write_bytes(encoded_as(kind))
    monkeypatch.setattr(decode, "LARGE", pixels)
    entered = []

    class Lock:
        def __enter__(self) -> None:
            entered.append(True)

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(decode, "_one_large_at_a_time", Lock())
    assert read_image(str(tmp_path / "a"), 80).shape == (60, 80, 3)
    assert bool(entered) == waits


@settings(max_examples=60)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 5).map(lambda number: number * 32))
def test_the_long_side_becomes_imgsz_and_the_short_one_is_rounded_up(
    height: int, width: int, imgsz: int
) -> None:
    shape = resize(np.zeros((height, width, 3), np.uint8), imgsz).shape
    assert max(shape[:2]) == imgsz
    exact = min(height, width) * imgsz / max(height, width)
    assert exact - 1e-6 <= min(shape[:2]) <= math.ceil(exact + 1e-6)


@pytest.mark.parametrize(  # measured with the reference's own loader
    ("before", "after"), [((100, 333), (49, 160)), ((101, 640), (26, 160)), ((51, 53), (154, 160))]
)
def test_sizes_are_those_of_the_reference(before: tuple[int, int], after: tuple[int, int]) -> None:
    assert resize(np.zeros((*before, 3), np.uint8), 160).shape[:2] == after


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


FORMATS = {
    "jpeg": {},
    "progressive": {"progressive": True},
    "png": {},
    "webp": {},
    "bmp": {},
    "tiff": {},
}


def encoded_as(kind: str) -> bytes:
    return encoded("jpeg" if kind == "progressive" else kind, **FORMATS[kind])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_a_cut_off_image_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    data = encoded_as(kind)
    (tmp_path / "a").write_bytes(data)
    assert read_image(str(tmp_path / "a"), 80).shape == (60, 80, 3)
    (tmp_path / "a").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadImage):
        read_image(str(tmp_path / "a"), 80)


def test_a_cut_off_jpeg_with_a_whole_thumbnail_inside_is_refused(tmp_path: Path) -> None:
    thumbnail = encoded("jpeg")[:60000]
    data = encoded("jpeg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    (tmp_path / "a.jpg").write_bytes(whole + b"\0\0trailing bytes of a camera")
    assert read_image(str(tmp_path / "a.jpg"), 80).shape == (60, 80, 3)
    (tmp_path / "a.jpg").write_bytes(whole[:-500] + b"\0" * 500)
    with pytest.raises(BadImage, match="cut off"):
        read_image(str(tmp_path / "a.jpg"), 80)


@pytest.mark.parametrize(
    "content", [b"", b"GIF of my cat", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\nIEND\xaeB`\x82"]
)
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadImage):
        read_image(str(tmp_path / "a.jpg"), 32)


def test_an_image_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="not there"):
        read_image(str(tmp_path / "a.jpg"), 32)
    with pytest.raises(BadImage, match="cannot be read"):
        read_image(str(tmp_path), 32)


def test_a_picture_too_large_to_decode_is_refused(tmp_path: Path) -> None:
    ok, data = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))
    assert ok
    header = bytearray(data.tobytes())
    header[16:24] = (1 << 20).to_bytes(4, "big") * 2  # claims a million by a million pixels
    (tmp_path / "a.png").write_bytes(header)
    with pytest.raises(BadImage):
        read_image(str(tmp_path / "a.png"), 32)


@given(st.binary(max_size=200), st.sampled_from(sorted(FORMATS)), st.integers(0, 4000))
@settings(max_examples=80, deadline=None)
def test_damaged_bytes_never_do_more_than_refuse(junk: bytes, kind: str, at: int) -> None:
    data = bytearray(encoded_as(kind))
    data[at : at + len(junk)] = junk
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(BadImage):
            assert read_image(file.name, 64).dtype == np.uint8
