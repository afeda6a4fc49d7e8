"""The confusion matrix as a picture: numbers where they can be read, else words for the worst."""

import cv2
import numpy as np
import pytest

from tunekit.evaluation.confusion import ConfusionMatrix
from tunekit.results.confusion_plots import COUNTS, SHARES, TABLE, confusion_figure, write_confusion


def _matrix(count, names=None):
    matrix = ConfusionMatrix(names or [f"thing {k}" for k in range(count)])
    matrix.counts[:] = np.diag(np.arange(10, count + 11))
    matrix.counts[-1, -1] = 0
    return matrix


def _texts(figure):
    return [text.get_text() for text in [*figure.texts, *(t for axes in figure.axes for t in axes.texts)]]


@pytest.mark.parametrize("count", [1, 10, 80, 1000])
def test_both_pictures_and_the_table_are_written(tmp_path, count):
    write_confusion(tmp_path, _matrix(count))
    for name in (COUNTS, SHARES):
        assert min(cv2.imread(str(tmp_path / name)).shape[:2]) > 400
    assert len((tmp_path / TABLE).read_text().splitlines()) == count + 2


def test_cells_of_few_classes_have_their_numbers():
    matrix = _matrix(3)
    matrix.counts[0, 2], matrix.counts[3, 0] = 4, 30
    assert set(_texts(confusion_figure(matrix, normalized=False))[2:]) == {"10", "11", "12", "4", "30"}
    shares = _texts(confusion_figure(matrix, normalized=True))[2:]
    assert {".25", ".75", "1.00"} <= set(shares)


def test_of_many_classes_the_worst_mistakes_are_told_in_words():
    matrix = _matrix(50)
    matrix.counts[7, 3], matrix.counts[50, 4], matrix.counts[9, 50] = 13, 21, 33
    told = _texts(confusion_figure(matrix, normalized=False))
    assert "13  thing 3 → thing 7  (50%)" in told
    assert "21  thing 4  (60%)" in told
    assert "33  thing 9" in told


def test_without_any_mistake_it_says_never():
    assert _texts(confusion_figure(_matrix(40), normalized=True)).count("never") == 3


def test_a_single_mistake_among_a_million_cells_is_drawn():
    matrix = _matrix(1000)
    matrix.counts[:] = 0
    before = confusion_figure(matrix, normalized=False).axes[0].images[0].get_array().sum()
    matrix.counts[123, 877] = 1
    image = confusion_figure(matrix, normalized=False).axes[0].images[0].get_array()
    assert before == 0
    assert image.sum() == 1
    assert max(image.shape) <= 400


def test_empty_matrices_and_odd_names_are_drawn(tmp_path):
    names = ["a$b$", "_x", "猫 \u0378", "a name that is far too long to be shown in full"]
    write_confusion(tmp_path, ConfusionMatrix(names))
    (axes,) = confusion_figure(_matrix(4, names), normalized=False).axes
    ticks = [label.get_text() for label in axes.get_yticklabels()]
    assert ticks[:3] == [r"a\$b\$", "_x", "class 2"]
    assert ticks[3].endswith("…")
    assert ticks[4] == "background"
