"""Batches as pictures for people: up to sixteen images side by side with their boxes and classes.

In: a Batch (uint8 images, boxes in their pixels), or what was detected in its images. Out: JPEG files of
bounded size. Small images are enlarged so that names can be read. Knows nothing of models or training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from tunekit.data.loader import Batch
from tunekit.evaluation.confusion import CONFIDENCE
from tunekit.evaluation.validator import Detections
from tunekit.results.style import class_colour, shortened, write_jpeg

MOST = 16  # images of a batch that are shown
WIDEST = 1920  # pixels of a picture's longer side
LEAST = 480  # a tile's longer side is enlarged to this, where the picture has room
GAP = 4  # white pixels between tiles
LETTERS = 24  # of a name
MARGIN = 3  # pixels beside a name on its plate
WEIGHT = 550  # of the letters: 400 is regular, 700 bold
Colour = tuple[int, int, int]
Area = tuple[int, int, int, int]  # x1, y1, x2, y2
CAPTION: Colour = (31, 41, 55)


@dataclass(frozen=True)
class Marks:
    """The boxes of one image, the most important last: it is drawn over the others."""

    boxes: np.ndarray  # (n, 4) xyxy pixels
    classes: np.ndarray  # (n,)
    labels: list[str]


def write_truth(path: Path, batch: Batch, names: Sequence[str], captions: Sequence[str] = ()) -> None:
    """The batch's images with their true boxes; `captions`: one an image."""
    write_jpeg(path, grid(_images(batch), truth_marks(batch, names), captions))


def write_detections(
    path: Path, batch: Batch, found: Sequence[Detections], names: Sequence[str], captions: Sequence[str] = ()
) -> None:
    """The batch's images with what was found in them above a confidence of .25."""
    write_jpeg(path, grid(_images(batch), [detection_marks(one, names) for one in found[:MOST]], captions))


def truth_marks(batch: Batch, names: Sequence[str]) -> list[Marks]:
    """Each image's true boxes, the large ones first."""
    boxes, classes = batch.boxes.cpu().numpy(), batch.classes.cpu().numpy()
    bounds = np.searchsorted(batch.image_index.cpu().numpy(), np.arange(len(batch.images) + 1))
    marks = []
    for first, end in pairwise(bounds[: MOST + 1].tolist()):
        mine = boxes[first:end]
        order = first + np.argsort(-(mine[:, 2:] - mine[:, :2]).prod(1), kind="stable")
        labels = [shortened(names[index], LETTERS) for index in classes[order].tolist()]
        marks.append(Marks(boxes[order], classes[order], labels))
    return marks


def detection_marks(found: Detections, names: Sequence[str]) -> Marks:
    """Those above a confidence of .25, the most confident last."""
    sure = np.flatnonzero(found.scores > CONFIDENCE)
    sure = sure[np.argsort(found.scores[sure], kind="stable")]
    labels = [f"{shortened(names[found.classes[row]], LETTERS)} {found.scores[row]:.2f}" for row in sure]
    return Marks(found.boxes[sure], found.classes[sure], labels)


def grid(images: np.ndarray, marks: Sequence[Marks], captions: Sequence[str] = ()) -> np.ndarray:
    """(h, w, 3) uint8 RGB of up to sixteen images (B, h, w, 3), as square as can be."""
    images = images[:MOST]
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height, width = images.shape[1:3]
    scale = max(1.0, LEAST / max(height, width))
    scale = min(
        scale, *((WIDEST + GAP) / n / side - GAP / side for n, side in ((columns, width), (rows, height)))
    )
    tile = max(round(height * scale), 1), max(round(width * scale), 1)
    picture = np.full((rows * (tile[0] + GAP) - GAP, columns * (tile[1] + GAP) - GAP, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = (index * (side + GAP) for index, side in zip(divmod(place, columns), tile, strict=True))
        window = picture[top : top + tile[0], left : left + tile[1]]
        window[:] = cv2.resize(image, tile[::-1], interpolation=_filter(scale))
        _draw(window, marks[place], (tile[1] / width, tile[0] / height))
        if captions:
            _caption(window, captions[place])
    return picture


def _images(batch: Batch) -> np.ndarray:
    return batch.images[:MOST].cpu().permute(0, 2, 3, 1).contiguous().numpy()


def _filter(scale: float) -> int:
    return cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC


def _draw(window: np.ndarray, marks: Marks, scale: tuple[float, float]) -> None:
    """Boxes first, then names, so that no line crosses a name."""
    height, width = window.shape[:2]
    corners = np.rint(marks.boxes.astype(np.float64) * (*scale, *scale))
    boxes = corners.clip(0, (width - 1, height - 1) * 2).astype(int).tolist()
    colours = [_rgb(class_colour(index)) for index in marks.classes.tolist()]
    for (x1, y1, x2, y2), colour in zip(boxes, colours, strict=True):
        cv2.rectangle(window, (x1, y1), (x2, y2), colour, 2 if max(height, width) >= 360 else 1)
    pen = _Pen(window)
    taken: list[Area] = []
    for box, colour, label in reversed(list(zip(boxes, colours, marks.labels, strict=True))):
        text, size = pen.fitting(label)
        place = _free_place(box, size, (width, height), taken)
        if (
            place is not None
        ):  # in a crowd the less important names give way; the colour still tells the class
            taken.append((*place, place[0] + size[0], place[1] + size[1]))
            pen.write(text, place, size, colour)


def _caption(window: np.ndarray, caption: str) -> None:
    pen = _Pen(window)
    text, size = pen.fitting(shortened(caption, 40))
    pen.write(text, (0, window.shape[0] - size[1]), size, CAPTION)


class _Pen:
    """Writes on one image, in letters that suit its size."""

    def __init__(self, window: np.ndarray) -> None:
        self._window = window
        self._font = cv2.FontFace("sans")  # OpenCV's own; it has the letters of most languages
        self._points = int(np.clip(max(window.shape[:2]) / 34, 11, 15))

    def fitting(self, text: str) -> tuple[str, tuple[int, int]]:
        """The text, cut where it would be wider than the image, and the size of its plate."""
        while (size := self._size(text))[0] > self._window.shape[1] and len(text) > 1:
            text = shortened(text, len(text) - 1)
        return text, size

    def _size(self, text: str) -> tuple[int, int]:
        box = cv2.getTextSize((0, 0), text, (0, 0), self._font, self._points, WEIGHT)
        return box[2] + 2 * MARGIN, round(self._points * 1.3)

    def write(self, text: str, place: tuple[int, int], size: tuple[int, int], colour: Colour) -> None:
        """On a plate of the colour whose upper left corner is `place`."""
        (x, y), (width, height) = place, size
        cv2.rectangle(self._window, (x, y), (x + width - 1, y + height - 1), colour, cv2.FILLED)
        ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 150 else (255, 255, 255)
        base = x + MARGIN, y + round(self._points * 0.98)
        cv2.putText(self._window, text, base, ink, self._font, self._points, WEIGHT)


def _free_place(
    box: Sequence[int], size: tuple[int, int], limits: tuple[int, int], taken: Sequence[Area]
) -> tuple[int, int] | None:
    """Above the box, below, or inside, wherever no other name is; None where all is taken."""
    x1, y1, x2, y2 = box
    width, height = size
    places = ((x1, y1 - height), (x1, y2 + 1), (x1, y1), (x2 - width, y1 - height), (x1, y2 - height))
    for x, y in places:
        left = min(max(x, 0), max(limits[0] - width, 0))
        if 0 <= y <= limits[1] - height and not any(
            left < right and other < left + width and y < bottom and top < y + height
            for other, top, right, bottom in taken
        ):
            return left, y
    return None


def _rgb(colour: str) -> Colour:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue
