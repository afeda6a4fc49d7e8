"""The curves of a validation, of no, one, ten, and very many classes."""

import cv2
import numpy as np
import pytest

from tunekit.evaluation.curves import CONFIDENCES, FINE_RECALLS, Curves
from tunekit.results.curve_plots import FILES, f1_figure, pr_figure, write_curves


def _curves(count, names=None):
    rng = np.random.default_rng(0)
    falling = np.sort(rng.random((count, 1000)))[:, ::-1]
    envelope = np.sort(rng.random((count, 1001)))[:, ::-1]
    names = names or tuple(f"thing {k}" for k in range(count))
    return Curves(
        tuple(range(5, count + 5)), names, CONFIDENCES, falling[:, ::-1], falling, FINE_RECALLS, envelope,
        envelope[:, ::10].mean(1), 0.3,
    )  # fmt: skip


def _legend(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.parametrize("count", [0, 1, 10, 1000])
def test_all_four_are_drawn(tmp_path, count):
    write_curves(tmp_path, _curves(count))
    for name in FILES:
        assert min(cv2.imread(str(tmp_path / name)).shape[:2]) > 400


def test_up_to_twenty_classes_are_named_the_best_first():
    curves = _curves(20)
    names = [line.split("  ")[1] for line in _legend(pr_figure(curves))]
    best_first = [curves.names[row] for row in np.argsort(-curves.ap50)]
    assert names == ["mAP50 of all", *best_first]


def test_of_more_the_legend_names_the_ends_and_counts_the_others():
    curves = _curves(80)
    figure = pr_figure(curves)
    legend = _legend(figure)
    assert "68 others" in legend
    assert len(legend) == 1 + 12 + 1
    assert legend[1].endswith(curves.names[int(curves.ap50.argmax())])
    assert legend[-1].endswith(curves.names[int(curves.ap50.argmin())])
    (crowd,) = figure.axes[0].collections
    assert len(crowd.get_segments()) == 68


def test_the_f1_figure_marks_the_best_confidence_and_says_the_f1_there():
    curves = _curves(3)
    figure = f1_figure(curves)
    point = int(np.argmin(abs(CONFIDENCES - 0.3)))
    assert _legend(figure)[0] == f"{curves.f1[:, point].mean():.3f}  mean of all"
    assert any(list(line.get_xdata()) == [0.3, 0.3] for line in figure.axes[0].lines)


def test_names_that_matplotlib_takes_for_something_else_are_shown():
    names = _legend(
        pr_figure(_curves(3, ("_hidden", "$formula$", "a name that is far too long to be shown")))
    )
    assert any(line.endswith("_hidden") for line in names)
    assert any(line.endswith(r"\$formula\$") for line in names)
    assert any(line.endswith("…") for line in names)
