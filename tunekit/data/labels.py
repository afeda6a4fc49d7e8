"""YOLO label files: text in, checked boxes and the faults of every other line out.

A line is `class x y w h`: the class a whole number in 0..nc-1, the box's centre and size as shares
of the image's width and height. Knows nothing of images, splits or training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COLUMNS = 5
# Writers round: a full-width box may say 1.000001. So far outside is clipped, further out is a fault.
ROUNDING = 1e-4


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


def read_labels(path: Path | str, nc: int) -> tuple[np.ndarray, list[Problem]]:
    """The usable lines of a label file and what is wrong with the others.

    Returns (n, 5) float32 rows of class, x, y, w, h. An image may have no label file: that is
    background, no boxes and no problem.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return _no_boxes(), []
    except OSError as fault:
        return _no_boxes(), [Problem(str(path), f"label file cannot be read: {fault.strerror}")]
    return parse_labels(data, nc, str(path))


def parse_labels(data: bytes, nc: int, source: str) -> tuple[np.ndarray, list[Problem]]:
    """`read_labels` on the bytes of a file; `source` names it in the problems."""
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()  # some Windows editors put a BOM
    boxes = _all_at_once(lines, nc)
    return (boxes, []) if boxes is not None else _one_by_one(lines, nc, source)


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


def _no_boxes() -> np.ndarray:
    return np.zeros((0, COLUMNS), np.float32)


def _all_at_once(lines: list[bytes], nc: int) -> np.ndarray | None:
    """The boxes of a file without a fault; None where any line needs a closer look."""
    rows = [row for row in (line.split() for line in lines) if row]
    if not rows:
        return _no_boxes()
    if any(len(row) != COLUMNS for row in rows) or any(b"_" in line for line in lines):
        return None
    try:
        boxes = np.array([[float(word) for word in row] for row in rows])
    except ValueError:
        return None
    classes = boxes[:, 0]
    known = (classes < nc).all() and (classes == np.floor(classes)).all()
    if not (known and (boxes >= 0).all() and (boxes[:, 1:] <= 1).all()):
        return None
    boxes = boxes.astype(np.float32)
    if not (boxes[:, 3:] > 0).all() or len({row.tobytes() for row in boxes}) < len(boxes):
        return None
    return boxes


def _one_by_one(lines: list[bytes], nc: int, source: str) -> tuple[np.ndarray, list[Problem]]:
    """The same with every fault located: line numbers count from 1, as editors do."""
    first_line_of: dict[bytes, int] = {}
    boxes, problems = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            box = _parse_line(line, nc)
            twin = first_line_of.setdefault(box.tobytes(), number)
            if twin != number:
                raise _Fault(f"duplicate line: same as line {twin}")
            boxes.append(box)
        except _Fault as fault:
            problems.append(Problem(f"{source}:{number}", str(fault)))
    return (np.stack(boxes) if boxes else _no_boxes()), problems


class _Fault(Exception):
    """What is wrong with one line."""


def _parse_line(line: bytes, nc: int) -> np.ndarray:
    try:
        line.decode()
    except UnicodeDecodeError:
        raise _Fault("not UTF-8 text") from None
    words = line.split()
    if len(words) != COLUMNS:
        hint = ", a polygon?" if len(words) > COLUMNS and len(words) % 2 else ""
        raise _Fault(f"not five columns: {len(words)} found{hint}; a line is 'class x y w h'")
    values = [_number(word) for word in words]
    class_id, xywh = values[0], np.array(values[1:], np.float64)
    if not np.isfinite(values).all():
        raise _Fault(f"not finite: {_shown(line)}")
    if class_id != np.floor(class_id):
        raise _Fault(f"class id not a whole number: {_shown(words[0])}")
    if not 0 <= class_id < nc:
        raise _Fault(f"class id out of range: {_shown(words[0])}, the data set has 0..{nc - 1}")
    if (xywh < -ROUNDING).any() or (xywh > 1 + ROUNDING).any():
        raise _Fault(f"coordinates outside [0, 1]: {_shown(line)}")
    box = np.array([class_id, *np.clip(xywh, 0, 1)], np.float32)
    if not (box[3:] > 0).all():
        raise _Fault(f"width or height not positive: {_shown(line)}")
    return box


def _number(word: bytes) -> float:
    try:
        if b"_" in word:  # Python would read 1_0 as ten
            raise ValueError
        return float(word)
    except ValueError:
        raise _Fault(f"not a number: {_shown(word)}") from None


def _shown(text: bytes) -> str:
    """Text of a file for a message: printable, and not longer than helps."""
    shown = text.decode(errors="replace").strip()
    shown = "".join(letter if letter.isprintable() else "?" for letter in shown)
    return f"'{shown[:60]}...'" if len(shown) > 60 else f"'{shown}'"
