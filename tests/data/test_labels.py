"""Label files: what is usable is kept, everything else is told with file and line."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.data.labels import Labels, Problem, parse_labels, read_labels, summarize

GOOD = b"1 0.5 0.5 0.25 0.25"
TRIANGLE = b"0 0.1 0.2 0.5 0.2 0.3 0.8"


def parts(labels: Labels) -> tuple[np.ndarray, tuple[Problem, ...]]:
    return labels.boxes, labels.problems


def parsed(data: bytes, nc: int, source: str) -> tuple[np.ndarray, tuple[Problem, ...]]:
    return parts(parse_labels(data, nc, source))


def test_lines_become_rows_of_class_centre_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0 0.5 0.4 0.2 0.1\n\n 2\t1 0 1e-3 1.0 \r\n")
    boxes, problems = parts(read_labels(path, nc=3))
    assert problems == ()
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[0, 0.5, 0.4, 0.2, 0.1], [2, 1, 0, 0.001, 1]], rtol=1e-6)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_label_file_is_background(content: bytes) -> None:
    boxes, problems = parsed(content, 3, "a.txt")
    assert boxes.shape == (0, 5)
    assert problems == ()


def test_no_label_file_is_background(tmp_path: Path) -> None:
    boxes, problems = parts(read_labels(tmp_path / "none.txt", 3))
    assert boxes.shape == (0, 5)
    assert problems == ()


def test_a_label_path_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    _, problems = parts(read_labels(tmp_path, 3))
    assert [problem.where for problem in problems] == [str(tmp_path)]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"3 0.5 0.5 0.1 0.1", "class id out of range"),
        (b"-1 0.5 0.5 0.1 0.1", "class id out of range"),
        (b"1e300 0.5 0.5 0.1 0.1", "class id out of range"),
        (b"1.5 0.5 0.5 0.1 0.1", "class id not a whole number"),
        (b"cat 0.5 0.5 0.1 0.1", "not a number"),
        (b"0 0.5 0,5 0.1 0.1", "not a number"),
        (b"0 0.5 0_0.5 0.1 0.1", "not a number"),  # Python reads 0.5
        (b"0,0.5,0.5,0.1,0.1", "not five columns"),
        (b"0 0.5 0.5 0.1", "not five columns"),
        (b"0 0.5 0.5 0.1 0.1 0.9", "not five columns"),
        (b"0 0.5 0.5", "not five columns"),  # one point
        (b"0 0.1 0.1 0.9 0.1 0.9 0.9 0.5", "odd number of coordinates"),
        (b"0 0.1 0.1 0.9 0.1 0.9 x", "not a number"),
        (b"0 0.1 0.1 0.9 0.1 0.9 nan", "not finite"),
        (b"0 0.1 0.1 0.9 0.1 0.9 1.1", "coordinates outside [0, 1]"),
        (b"0 10 10 90 10 90 90", "coordinates outside [0, 1]"),
        (b"3 0.1 0.1 0.9 0.1 0.9 0.9", "class id out of range"),
        (b"0 0.1 0.1 0.9 0.1 0.5 0.1", "polygon without area"),  # level
        (b"0 0.1 0.2 0.2 0.4 0.3 0.6 0.4 0.8", "polygon without area"),  # on a slope
        (b"0 0.1 0.1 0.9 0.9 0.1 0.1 0.9 0.9", "polygon without area"),  # two points, twice
        (b"0 1.5 0.5 0.1 0.1", "coordinates outside [0, 1]"),
        (b"0 0.5 -0.2 0.1 0.1", "coordinates outside [0, 1]"),
        (b"0 320 240 64 48", "coordinates outside [0, 1]"),
        (b"0 0.5 0.5 0 0.1", "width or height not positive"),
        (b"0 0.5 0.5 0.1 -0.00001", "width or height not positive"),
        (b"0 0.5 0.5 0.1 1e-60", "width or height not positive"),  # zero once it is float32
        (b"0 nan 0.5 0.1 0.1", "not finite"),
        (b"nan 0.5 0.5 0.1 0.1", "not finite"),
        (b"0 0.5 inf 0.1 0.1", "not finite"),
        (b"0 0.5 0.5 0.1 \xff\xfe", "not UTF-8 text"),
        (GOOD, "duplicate line"),
        (b"1.0 .5 0.50 25e-2 0.25", "duplicate line"),
    ],
)
def test_a_bad_line_is_told_with_its_number_and_the_others_are_kept(line: bytes, kind: str) -> None:
    boxes, problems = parsed(b"\n".join([GOOD, b"", line, b"2 0.1 0.1 0.1 0.1"]), 3, "x/a.txt")
    assert boxes[:, 0].tolist() == [1, 2]
    assert [(problem.where, problem.kind) for problem in problems] == [("x/a.txt:3", kind)]


def test_a_rounding_error_outside_is_clipped_not_refused() -> None:
    boxes, problems = parsed(b"0 0.5 0.5 1.000001 -0.0", 1, "a.txt")
    assert len(boxes) == 0  # the height is zero
    boxes, problems = parsed(b"0 0.5 -0.000001 1.000001 0.5", 1, "a.txt")
    assert problems == ()
    assert boxes[0].tolist() == [0, 0.5, 0, 1, 0.5]


share = st.floats(0, 1, width=32)
size = st.floats(2**-20, 1, width=32)
box = st.tuples(st.integers(0, 79), share, share, size, size)


@given(st.lists(box, unique=True, max_size=12))
def test_what_is_written_is_read_back_to_the_bit(boxes: list[tuple[float, ...]]) -> None:
    text = "\n".join(" ".join(repr(value) for value in row) for row in boxes)
    read, problems = parsed(text.encode(), 80, "a.txt")
    unique = {np.array(row, np.float32).tobytes() for row in boxes}
    if len(unique) == len(boxes):  # 0.0 and -0.0 may make twins of two rows
        assert problems == ()
        np.testing.assert_array_equal(read, np.array(boxes, np.float32).reshape(-1, 5))


word = st.one_of(
    st.integers(-2, 90).map(str), st.floats().map(repr), st.text(max_size=4), st.just("0.5"), st.just("0")
)
line = st.one_of(
    st.lists(word, max_size=7).map(lambda words: " ".join(words).encode("utf-8", "replace")),
    st.binary(max_size=30),
    st.just(GOOD),
)


@given(st.lists(line, max_size=8).map(b"\n".join), st.integers(1, 90))
def test_garbage_never_crashes_and_every_line_is_kept_or_told(data: bytes, nc: int) -> None:
    boxes, problems = parsed(data, nc, "a.txt")
    lines = [text for text in data.removeprefix(b"\xef\xbb\xbf").splitlines() if text.strip()]
    assert len(boxes) + len(problems) == len(lines)
    assert boxes.dtype == np.float32
    assert np.isfinite(boxes).all()
    assert ((boxes[:, 0] >= 0) & (boxes[:, 0] < nc)).all()
    assert ((boxes[:, 1:] >= 0) & (boxes[:, 1:] <= 1)).all()
    assert (boxes[:, 3:] > 0).all()
    assert len({row.tobytes() for row in boxes}) == len(boxes)


@given(st.lists(st.one_of(box.map(lambda row: " ".join(map(repr, row))), st.just("9 x")), max_size=6))
def test_a_fault_does_not_change_how_the_other_lines_are_read(lines: list[str]) -> None:
    """The clean case is read at once, a faulty file line by line: both must agree."""
    clean = [text for text in lines if text != "9 x"]
    alone, problems = parsed("\n".join(clean).encode(), 80, "a.txt")
    together, _ = parsed("\n".join([*lines, "bad"]).encode(), 80, "a.txt")
    np.testing.assert_array_equal(alone, together)
    assert len(problems) == len(clean) - len(alone)


def test_the_summary_counts_kinds_commonest_first_and_shows_the_first_few() -> None:
    problems = [Problem(f"b.txt:{number}", "not a number: 'x'") for number in range(1, 6)]
    text = summarize([Problem("a.jpg", "image not there"), *problems], examples=2)
    assert text.splitlines() == [
        "5 x not a number",
        "    b.txt:1: not a number: 'x'",
        "    b.txt:2: not a number: 'x'",
        "    and 3 more",
        "1 x image not there",
        "    a.jpg: image not there",
    ]
    assert summarize([]) == ""


def outlines(labels: Labels) -> list[list[list[float]] | None]:
    assert labels.polygons is not None
    return [None if points is None else points.tolist() for points in labels.polygons.each()]


def test_a_polygon_becomes_the_box_around_it_and_is_kept() -> None:
    labels = parse_labels(TRIANGLE, 1, "a.txt")
    np.testing.assert_allclose(labels.boxes, [[0, 0.3, 0.5, 0.4, 0.6]], rtol=1e-6)
    assert labels.polygons is not None
    (points,) = labels.polygons.each()
    assert points is not None
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, [[0.1, 0.2], [0.5, 0.2], [0.3, 0.8]], rtol=1e-6)


def test_each_line_of_a_file_is_a_box_or_a_polygon_by_its_own_length() -> None:
    square = b"2 0.5 0.5 0.75 0.5 0.75 0.75 0.5 0.75"
    labels = parse_labels(b"\n".join([GOOD, TRIANGLE, b"0 0.5 0.5 0.1 0.1", square]), 3, "a.txt")
    assert labels.problems == ()
    assert labels.boxes[:, 0].tolist() == [1, 0, 0, 2]
    expected = [[0.5, 0.5, 0.25, 0.25], [0.5, 0.5, 0.1, 0.1], [0.625, 0.625, 0.25, 0.25]]
    np.testing.assert_allclose(labels.boxes[[0, 2, 3], 1:], expected, rtol=1e-6)
    assert [points if points is None else len(points) for points in outlines(labels)] == [None, 3, None, 4]


def test_a_file_without_polygons_has_none() -> None:
    assert parse_labels(GOOD, 3, "a.txt").polygons is None
    assert parse_labels(b"", 3, "a.txt").polygons is None


def test_polygons_stay_with_their_boxes_when_lines_between_are_left_out() -> None:
    other = TRIANGLE.replace(b"0.8", b"0.9")
    lines = [TRIANGLE, b"0 0.1 0.2 0.5 0.2 0.3", GOOD, TRIANGLE, b"nonsense", other, GOOD]
    labels = parse_labels(b"\n".join(lines), 3, "a.txt")
    told = [(problem.where, problem.kind) for problem in labels.problems]
    assert told == [
        ("a.txt:2", "not five columns"),
        ("a.txt:4", "duplicate line"),
        ("a.txt:5", "not five columns"),
        ("a.txt:7", "duplicate line"),
    ]
    assert labels.boxes[:, 0].tolist() == [0, 1, 0]
    first, none, last = outlines(labels)
    assert none is None
    np.testing.assert_allclose(first, [[0.1, 0.2], [0.5, 0.2], [0.3, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(last, [[0.1, 0.2], [0.5, 0.2], [0.3, 0.9]], rtol=1e-6)


def test_a_polygon_that_crosses_itself_has_an_area() -> None:
    bow = b"0 0.2 0.2 0.8 0.8 0.8 0.2 0.2 0.8"  # the signed areas of its halves cancel
    assert parse_labels(bow, 1, "a.txt").problems == ()


point = st.tuples(share, share)
outline = st.lists(point, min_size=3, max_size=9, unique=True)


@given(st.lists(st.one_of(box, st.tuples(st.integers(0, 79), outline)), max_size=8))
def test_lines_of_both_kinds_are_read_as_each_of_them_alone(rows: list[tuple]) -> None:
    lines = [
        " ".join(map(repr, row))
        if len(row) == 5
        else " ".join([str(row[0]), *(repr(value) for pair in row[1] for value in pair)])
        for row in rows
    ]
    alone = [parse_labels(line.encode(), 80, "a.txt") for line in lines]
    together = parse_labels("\n".join(lines).encode(), 80, "a.txt")
    kept = [labels for labels in alone if len(labels.boxes)]
    unique = {labels.boxes.tobytes(): labels for labels in reversed(kept)}
    boxes = list(dict.fromkeys(labels.boxes.tobytes() for labels in kept))
    assert [row.tobytes() for row in together.boxes] == boxes
    assert len(together.boxes) + len(together.problems) == len(lines)
    if together.polygons is None:
        assert all(unique[key].polygons is None for key in boxes)
        return
    for key, points in zip(boxes, together.polygons.each(), strict=True):
        expected = unique[key].polygons
        assert (points is None) == (expected is None)
        if points is not None and expected is not None:
            np.testing.assert_array_equal(points, expected.points)
            low, high = points.min(axis=0), points.max(axis=0)
            _, x, y, w, h = np.frombuffer(key, np.float32)
            np.testing.assert_allclose([x, y, w, h], [*(low + high) / 2, *(high - low)], atol=1e-6)


@pytest.mark.parametrize("bad", [b"", b"\n0 0.5 x 0.1 0.1"])
def test_ten_thousand_boxes_are_read_in_a_blink(bad: bytes) -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(0, 80, 10_000), rng.uniform(0.1, 0.9, (10_000, 4)).round(6)])
    data = "\n".join(f"{row[0]:.0f} {row[1]} {row[2]} {row[3]} {row[4]}" for row in rows.tolist())
    begin = time.process_time()
    labels = parse_labels(data.encode() + bad, 80, "a.txt")
    assert time.process_time() - begin < 2  # 10 to 20 ms on a free core; a hundred times that is quadratic
    np.testing.assert_allclose(labels.boxes, rows, rtol=1e-6)
    assert len(labels.problems) == bool(bad)
