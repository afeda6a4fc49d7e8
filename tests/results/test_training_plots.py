"""results.png and labels.jpg: drawn from whatever there is, and they show what they say."""

import csv

import cv2
import matplotlib
import numpy as np
import pytest

from tests.data.pictures import painted
from tunekit.errors import RunFolderError
from tunekit.results.style import BEST, class_colour, drawable, shortened
from tunekit.results.training_plots import (
    FITNESS,
    PANELS,
    labels_figure,
    results_figure,
    smoothed,
    write_labels_plot,
    write_results_plot,
)

COLUMNS = [name for line in PANELS for name in line]


def _rows(epochs, rng, without=()):
    rows = []
    for epoch in range(1, epochs + 1):
        values = {name: repr(float(rng.random())) for name in COLUMNS}
        if epoch in without:
            values.update({name: "" for name in COLUMNS if not name.startswith("train/")})
        rows.append({"epoch": str(epoch), **values})
    return rows


def _write(folder, rows):
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", *COLUMNS])
        writer.writeheader()
        writer.writerows(rows)


def _has(path, colour):
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return (cv2.imread(str(path)) == (blue, green, red)).all(-1).sum() > 20


@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_the_results_of_any_number_of_epochs_are_drawn(tmp_path, epochs):
    _write(tmp_path, _rows(epochs, np.random.default_rng(0)))
    write_results_plot(tmp_path)
    assert _has(tmp_path / "results.png", BEST), "the best epoch is marked"


def test_a_panel_shows_every_epoch_that_was_measured_and_a_smooth_line():
    rows = _rows(12, np.random.default_rng(0), without=range(2, 12, 3))
    panels = {axes.get_title(loc="left"): axes for axes in results_figure(rows).axes}
    assert list(panels) == COLUMNS
    assert len(panels["train/box_loss"].lines[0].get_xdata()) == 12
    line, smooth = panels[FITNESS].lines[:2]
    assert line.get_xdata().tolist() == [1, 3, 4, 6, 7, 9, 10, 12]
    assert line.get_ydata().tolist() == [float(row[FITNESS]) for row in rows if row[FITNESS]]
    assert np.ptp(smooth.get_ydata()) < np.ptp(line.get_ydata())


def test_the_values_written_above_the_panels_are_those_of_the_best_epoch():
    rows = _rows(20, np.random.default_rng(1))
    best = max(rows, key=lambda row: float(row[FITNESS]))
    for axes in results_figure(rows).axes:
        assert axes.get_title(loc="right") == f"{float(best[axes.get_title(loc='left')]):.4g}"


def test_a_training_that_was_never_validated_has_panels_that_say_so():
    rows = _rows(3, np.random.default_rng(0), without=range(1, 4))
    panels = {axes.get_title(loc="left"): axes for axes in results_figure(rows).axes}
    assert [text.get_text() for text in panels[FITNESS].texts] == ["not measured"]
    assert not panels["train/box_loss"].texts
    results_figure([])


def test_smoothing_keeps_a_constant_and_a_gap_does_not_bend_it():
    epochs = np.array([1.0, 2, 3, 20, 21, 90])
    assert smoothed(epochs, np.full(6, 0.7)) == pytest.approx(0.7)
    assert smoothed(np.array([4.0]), np.array([0.3])) == pytest.approx(0.3)


def test_a_missing_table_is_told(tmp_path):
    with pytest.raises(RunFolderError, match=r"cannot read .*results\.csv"):
        write_results_plot(tmp_path)


def _labels(rng, count, nc):
    classes = rng.integers(0, nc, (count, 1))
    return np.concatenate((classes, rng.random((count, 2)), rng.random((count, 2)) / 3), 1).astype(np.float32)


@pytest.mark.parametrize(("count", "nc"), [(0, 2), (1, 1), (40, 10), (2000, 80), (3000, 1000)])
def test_labels_of_few_and_of_many_classes_are_drawn(count, nc):
    labels = _labels(np.random.default_rng(0), count, nc)
    figure = labels_figure(labels, [f"a${k} $ 猫 and a long name" for k in range(nc)], 7)
    figure.canvas.draw()
    histogram = figure.axes[0]
    expected = np.bincount(labels[:, 0].astype(int), minlength=nc)
    if nc <= 30:
        assert [bar.get_height() for bar in histogram.patches] == expected.tolist()
        assert len(histogram.get_xticklabels()) == nc
    else:
        assert f"{expected.max():,}" in histogram.texts[0].get_text()


def test_the_labels_of_a_source_become_a_jpeg(tmp_path):
    write_labels_plot(tmp_path, painted(5, 64, (20, 10)))
    picture = cv2.imread(str(tmp_path / "labels.jpg"))
    assert picture.shape[0] == picture.shape[1] > 800


def test_the_first_hundred_classes_have_colours_of_their_own():
    colours = np.array([[int(class_colour(k)[at : at + 2], 16) for at in (1, 3, 5)] for k in range(100)])
    apart = np.abs(colours[:, None] - colours).sum(-1) + 1000 * np.eye(100, dtype=int)
    assert apart.min() >= 10
    assert apart[:10, :10].min() >= 80


def test_names_that_cannot_be_drawn_are_told_by_number_and_long_ones_are_cut():
    shown, fonts = drawable(["cat", "\u0378", "Größe кошка"], [4, 5, 6])
    assert shown == ["cat", "class 5", "Größe кошка"]
    assert fonts[0] == "DejaVu Sans"
    assert shortened("a  b\nc", 10) == "a b c"
    assert shortened("a very long name", 8) == "a very…"
    assert drawable(["a$b$"], [0])[0] == [r"a\$b\$"]


def test_drawing_leaves_matplotlib_s_own_settings_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    _write(tmp_path, _rows(5, np.random.default_rng(0)))
    write_results_plot(tmp_path)
    assert dict(matplotlib.rcParams) == before
