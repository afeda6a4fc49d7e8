"""All chance of an epoch, as one table of uniform numbers: row p belongs to position p of the epoch.

In: (seed, epoch, attempt) and a range of positions. Out: their rows, by name. The table is never made
as a whole: its generator is moved on to where the rows begin. So a row is the same however the epoch is
cut into batches, on whichever worker, and after whatever a resumed run left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PICTURE = 15  # an image, whether a mosaic, its centre, three partners, eight numbers of the view
RATIO = 63  # the median of so many uniform numbers is Beta(32, 32)
WIDTHS = (5, 3, PICTURE, PICTURE, PICTURE, 9, RATIO)
STREAM = 1  # apart from whatever else is drawn for (seed, epoch, number, attempt)


@dataclass(frozen=True)
class Chance:
    """Uniform numbers in [0, 1) for B samples."""

    choices: np.ndarray  # (B, 5) against the probabilities of mixup, cutmix, bgr, flipud, fliplr
    colour: np.ndarray  # (B, 3) hue, saturation, value
    own: np.ndarray  # (B, 15) of the sample's own picture (its first number is not used),
    mixed: np.ndarray  # (B, 15) of the one that MixUp blends in,
    cut: np.ndarray  # (B, 15) and of the one that CutMix takes a rectangle from
    rectangles: np.ndarray  # (B, 9) three times: area, x, y
    ratio: np.ndarray  # (B, 63) MixUp's


def chance(seed: int, epoch: int, attempt: int, positions: np.ndarray) -> Chance:
    """The rows of `positions` (B,), ascending; those between them are drawn and left out."""
    row, first = sum(WIDTHS), int(positions[0])
    stream = np.random.PCG64((seed, epoch, 0, attempt, STREAM)).advance(first * row)
    table = np.random.Generator(stream).random((int(positions[-1]) - first + 1, row))
    return Chance(*np.split(table[positions - first], np.cumsum(WIDTHS[:-1]), axis=1))
