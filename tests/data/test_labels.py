"""Label files: what is usable is kept, everything else is told with file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.data.labels import Problem, parse_labels, read_labels, summarize

GOOD = b"1 0.5 0.5 0.25 0.25"


def test_lines_become_rows_of_class_centre_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0 0.5 0.4 0.2 0.1\n\n 2\t1 0 1e-3 1.0 \r\n")
    boxes, problems = read_labels(path, nc=3)
    assert problems == []
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[0, 0.5, 0.4, 0.2, 0.1], [2, 1, 0, 0.001, 1]], rtol=1e-6)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_label_file_is_background(content: bytes) -> None:
    boxes, problems = parse_labels(content, 3, "a.txt")
    assert boxes.shape == (0, 5)
    assert problems == []


def test_no_label_file_is_background(tmp_path: Path) -> None:
    boxes, problems = read_labels(tmp_path / "none.txt", 3)
    assert boxes.shape == (0, 5)
    assert problems == []


def test_a_label_path_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    _, problems = read_labels(tmp_path, 3)
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
        (b"0 0.1 0.1 0.9 0.1 0.9 0.9", "not five columns"),
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
    boxes, problems = parse_labels(b"\n".join([GOOD, b"", line, b"2 0.1 0.1 0.1 0.1"]), 3, "x/a.txt")
    assert boxes[:, 0].tolist() == [1, 2]
    assert [(problem.where, problem.kind) for problem in problems] == [("x/a.txt:3", kind)]


def test_a_rounding_error_outside_is_clipped_not_refused() -> None:
    boxes, problems = parse_labels(b"0 0.5 0.5 1.000001 -0.0", 1, "a.txt")
    assert len(boxes) == 0  # the height is zero
    boxes, problems = parse_labels(b"0 0.5 -0.000001 1.000001 0.5", 1, "a.txt")
    assert problems == []
    assert boxes[0].tolist() == [0, 0.5, 0, 1, 0.5]


share = st.floats(0, 1, width=32)
size = st.floats(2**-20, 1, width=32)
box = st.tuples(st.integers(0, 79), share, share, size, size)


@given(st.lists(box, unique=True, max_size=12))
def test_what_is_written_is_read_back_to_the_bit(boxes: list[tuple[float, ...]]) -> None:
    text = "\n".join(" ".join(repr(value) for value in row) for row in boxes)
    read, problems = parse_labels(text.encode(), 80, "a.txt")
    unique = {np.array(row, np.float32).tobytes() for row in boxes}
    if len(unique) == len(boxes):  # 0.0 and -0.0 may make twins of two rows
        assert problems == []
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
    boxes, problems = parse_labels(data, nc, "a.txt")
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
    alone, problems = parse_labels("\n".join(clean).encode(), 80, "a.txt")
    together, _ = parse_labels("\n".join([*lines, "bad"]).encode(), 80, "a.txt")
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
