"""YOLO label files: text in, checked boxes and the faults of every other line out.

A line is `class x y w h`: the class a whole number in 0..nc-1, the box's centre and size as shares
of the image's width and height. Or it is a polygon, `class x1 y1 x2 y2 x3 y3 ...`: the box is then the
one around it. Both may stand in one file. Knows nothing of images, splits or training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from tunekit.data.polygons import Polygons

COLUMNS = 5
FEWEST = 7  # columns of a polygon: the class and three points
# Writers round: a full-width box may say 1.000001. So far outside is clipped, further out is a fault.
ROUNDING = 1e-4
NO_AREA = 1e-12  # of the image: a polygon on one line has less, but for the rounding of floats


@dataclass(frozen=True)
class Problem:
    """Something of a data set that was left out."""

    where: str  # "path/to/file.txt:3", or the path of an image
    what: str  # "kind: detail"

    @property
    def kind(self) -> str:
        return self.what.partition(":")[0]

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Labels:
    """The usable lines of a label file and what is wrong with the others."""

    boxes: np.ndarray  # (n, 5) float32 class, x, y, w, h
    polygons: Polygons | None  # of each box, in shares of the image; None: no line is a polygon
    problems: tuple[Problem, ...]


def read_labels(path: Path | str, nc: int) -> Labels:
    """An image may have no label file: that is background, no boxes and no problem."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return Labels(*_nothing(), ())
    except OSError as fault:
        return Labels(*_nothing(), (Problem(str(path), f"label file cannot be read: {fault.strerror}"),))
    return parse_labels(data, nc, str(path))


def parse_labels(data: bytes, nc: int, source: str) -> Labels:
    """`read_labels` on the bytes of a file; `source` names it in the problems."""
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()  # some Windows editors put a BOM
    numbered = [(number, row) for number, line in enumerate(lines, start=1) if (row := line.split())]
    rows = [row for _, row in numbered]
    parsed = _parsed(rows, nc)
    if parsed is not None and not _twins(parsed[0]):
        return Labels(*parsed, ())

    faults = {row: _fault(rows[row], nc) for row in _faulty(rows, nc)}
    good = [row for row in range(len(rows)) if row not in faults]
    parsed = _parsed([rows[row] for row in good], nc)
    if parsed is None:
        raise AssertionError(f"{source}: lines that are right one by one are not so together")
    boxes, polygons = parsed
    single = np.ones(len(boxes), bool)
    for twin, first in _twins(boxes).items():
        single[twin] = False
        faults[good[twin]] = f"duplicate line: same as line {numbered[good[first]][0]}"
    problems = tuple(Problem(f"{source}:{numbered[row][0]}", faults[row]) for row in sorted(faults))
    return Labels(boxes[single], None if polygons is None else polygons.chosen(single), problems)


def summarize(problems: Iterable[Problem], examples: int = 3) -> str:
    """A few lines for a person: how many of each kind, commonest first, with examples. '' for none."""
    by_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    lines = []
    for kind, found in sorted(by_kind.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(f"{len(found)} x {kind}")
        lines += [f"    {problem.where}: {problem.what}" for problem in found[:examples]]
        if len(found) > examples:
            lines.append(f"    and {len(found) - examples} more")
    return "\n".join(lines)


Parsed = tuple[np.ndarray, Polygons | None]


def _nothing() -> Parsed:
    return np.zeros((0, COLUMNS), np.float32), None


def _parsed(rows: list[list[bytes]], nc: int) -> Parsed | None:
    """All rows at once; None where any of them has a fault."""
    if not rows:
        return _nothing()
    sizes = set(map(len, rows))
    if any(not _is_size(size) for size in sizes):
        return None
    try:
        values = np.array([float(word) for word in chain.from_iterable(rows)])
    except ValueError:
        return None
    if b"_" in b"".join(chain.from_iterable(rows)):
        return None  # Python reads 1_0 as ten
    if sizes == {COLUMNS}:
        rows_of_five = values.reshape(-1, COLUMNS)
        classes, shares = rows_of_five[:, 0], rows_of_five[:, 1:]
    else:
        starts = np.cumsum([0, *map(len, rows[:-1])])
        classes, shares = values[starts], np.delete(values, starts)
    if not ((classes >= 0) & (classes < nc) & (classes == np.floor(classes))).all():
        return None
    if not ((shares >= -ROUNDING) & (shares <= 1 + ROUNDING)).all():  # nor is NaN
        return None
    shares.clip(0, 1, out=shares)
    if sizes == {COLUMNS}:
        boxes, polygons = rows_of_five.astype(np.float32), None
    else:
        boxes, polygons, area = _outlined(
            classes, shares.reshape(-1, 2), np.array([len(row) // 2 for row in rows])
        )
        if not (area > NO_AREA).all():
            return None
    return (boxes, polygons) if (boxes[:, 3:] > 0).all() else None


def _is_size(columns: int) -> bool:
    return columns == COLUMNS or (columns >= FEWEST and columns % 2 == 1)


def _outlined(
    classes: np.ndarray, pairs: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, Polygons, np.ndarray]:
    """Boxes, polygons and the area (boxes: 1) of rows with `counts` of the pairs each; a box has two."""
    first = np.cumsum(counts) - counts
    low, high = np.minimum.reduceat(pairs, first), np.maximum.reduceat(pairs, first)
    plain = counts == 2
    centres, sizes = (low + high) / 2, high - low
    centres[plain], sizes[plain] = pairs[first[plain]], pairs[first[plain] + 1]

    # Triangles from the first point to each edge: all of them empty is to lie on one line.
    spokes = pairs - np.repeat(pairs[first], counts, axis=0)
    after = np.roll(spokes, -1, axis=0)
    after[first + counts - 1] = 0
    triangles = np.abs(spokes[:, 0] * after[:, 1] - spokes[:, 1] * after[:, 0])
    area = np.where(plain, 1, np.add.reduceat(triangles, first) / 2)

    corners = np.where(plain, 0, counts).astype(np.int32)
    points = pairs[np.repeat(~plain, counts)].astype(np.float32)
    polygons = Polygons(corners, points)
    boxes = np.column_stack((classes, centres, sizes)).astype(np.float32)
    return boxes, polygons, area


def _twins(boxes: np.ndarray) -> dict[int, int]:
    """Rows that say what an earlier one says, with that one."""
    keys = boxes.view(f"V{boxes.itemsize * COLUMNS}").ravel().tolist()
    if len(set(keys)) == len(keys):
        return {}
    first: dict[bytes, int] = {}
    return {row: first[key] for row, key in enumerate(keys) if first.setdefault(key, row) != row}


def _faulty(rows: list[list[bytes]], nc: int, offset: int = 0) -> list[int]:
    """The rows that cannot be parsed, by halving: few of many cost little."""
    if _parsed(rows, nc) is not None:
        return []
    if len(rows) == 1:
        return [offset]
    middle = len(rows) // 2
    return [*_faulty(rows[:middle], nc, offset), *_faulty(rows[middle:], nc, offset + middle)]


def _fault(row: list[bytes], nc: int) -> str:
    """What is wrong with one line, of which it is known that something is."""
    line = b" ".join(row)
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8 text"
    if len(row) >= FEWEST and len(row) % 2 == 0:
        return f"odd number of coordinates: {len(row) - 1} found; a polygon is 'class x1 y1 x2 y2 x3 y3 ...'"
    if not _is_size(len(row)):
        return (
            f"not five columns: {len(row)} found; a line is 'class x y w h' or a polygon of 3 or more points"
        )
    numbers = [_number(word) for word in row]
    if None in numbers:
        return f"not a number: {_shown(row[numbers.index(None)])}"
    values = np.array(numbers, np.float64)
    class_id, shares = values[0], values[1:]
    if not np.isfinite(values).all():
        return f"not finite: {_shown(line)}"
    if class_id != np.floor(class_id):
        return f"class id not a whole number: {_shown(row[0])}"
    if not 0 <= class_id < nc:
        return f"class id out of range: {_shown(row[0])}, the data set has 0..{nc - 1}"
    if (shares < -ROUNDING).any() or (shares > 1 + ROUNDING).any():
        return f"coordinates outside [0, 1]: {_shown(line)}"
    return (
        f"{'width or height not positive' if len(row) == COLUMNS else 'polygon without area'}: {_shown(line)}"
    )


def _number(word: bytes) -> float | None:
    if b"_" in word:  # Python would read 1_0 as ten
        return None
    try:
        return float(word)
    except ValueError:
        return None


def _shown(text: bytes) -> str:
    """Text of a file for a message: printable, and not longer than helps."""
    shown = text.decode(errors="replace").strip()
    shown = "".join(letter if letter.isprintable() else "?" for letter in shown)
    return f"'{shown[:60]}...'" if len(shown) > 60 else f"'{shown}'"
