"""The pictures: drawn from whatever trials there are, and they show what they say."""

import cv2
import matplotlib
import numpy as np
import pytest

from tests.results.tune_folder import new_tune_folder, typical_tune_folder
from tunekit.results.plots import BEST, FAILED, fitness_figure, scatter_figure, write_plots
from tunekit.results.store import read_trials
from tunekit.results.trials import TrialRow
from tunekit.search.space import Parameter, Space, load_space


def _pixels(path, colour):
    """How many pixels of a PNG have exactly that colour."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return int((cv2.imread(str(path)) == (blue, green, red)).all(-1).sum())


def test_both_pictures_are_there_and_mark_the_best_and_the_failed(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    write_plots(folder.path, read_trials(folder.path))
    scatter, fitness = folder.path / "tune_scatter_plots.png", folder.path / "tune_fitness.png"
    assert _pixels(scatter, BEST) > 100
    assert _pixels(fitness, BEST) > 100
    assert _pixels(fitness, FAILED) > 10
    assert _pixels(scatter, FAILED) == 0


def test_they_can_be_drawn_before_there_is_anything_to_see(tmp_path):
    folder = new_tune_folder(tmp_path / "run")
    write_plots(folder.path, [])
    folder.trial([], state="FAIL")
    write_plots(folder.path, read_trials(folder.path))
    folder.trial([0.0], state="PRUNED")
    write_plots(folder.path, read_trials(folder.path))
    assert cv2.imread(str(folder.path / "tune_fitness.png")) is not None


def test_each_parameter_has_a_panel_in_its_own_scale():
    parameters = (
        Parameter(name="lr0", kind="float", low=1e-5, high=0.1, scale="log", prior=0.01),
        Parameter(name="momentum", kind="float", low=0.6, high=0.98, scale="logit", prior=0.9),
        Parameter(name="degrees", kind="float", low=0, high=45, prior=0),
        Parameter(name="close_mosaic", kind="int", low=0, high=20, prior=10),
        Parameter(name="optimizer", kind="choice", choices=("SGD", "AdamW"), prior="SGD"),
    )
    params = {"lr0": 0.01, "momentum": 0.9, "degrees": 3.0, "close_mosaic": 4, "optimizer": "AdamW"}
    trials = [TrialRow(k, "COMPLETE", 0.1 * k, params) for k in range(4)]
    panels = scatter_figure(trials, Space("a", parameters)).axes
    assert [axes.get_title(loc="left") for axes in panels] == [parameter.name for parameter in parameters]
    assert [axes.get_xscale() for axes in panels] == ["log", "logit", "linear", "linear", "linear"]
    assert [label.get_text() for label in panels[4].get_xticklabels()] == ["SGD", "AdamW"]
    for axes in panels[:4]:
        low, high = axes.get_xlim()
        assert low < axes.collections[0].get_offsets()[0, 0] < high


def test_best_so_far_never_falls_and_skips_failures(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    (axes,) = fitness_figure(read_trials(folder.path)).axes
    step = axes.lines[0].get_ydata()
    assert list(step) == [0.4, 0.5, 0.5, 0.5, 0.5]
    assert axes.lines[1].get_ydata()[0] == 0.4, "the defaults' level"


def test_stopped_trials_far_below_do_not_flatten_the_picture(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")  # full trials from .4 to .5, a stopped one at .05
    panel = scatter_figure(read_trials(folder.path), folder.space).axes[0]
    low, high = panel.get_ylim()
    assert 0.3 < low < 0.4
    assert 0.5 < high < 0.6
    stopped = panel.collections[0].get_offsets()
    assert low < stopped[0, 1] < low + 0.1 * (high - low), "it sits on the edge"


def test_drawing_leaves_matplotlib_s_own_settings_alone(tmp_path):
    folder = typical_tune_folder(tmp_path / "run")
    before = dict(matplotlib.rcParams)
    write_plots(folder.path, read_trials(folder.path))
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("space", ["default", "quick", "augment"])
def test_shipped_spaces_can_be_drawn(space):
    loaded = load_space(space)
    rng = np.random.default_rng(0)
    trials = [
        TrialRow(
            k, "COMPLETE", float(rng.random()), {p.name: p.from_unit(rng.random()) for p in loaded.parameters}
        )
        for k in range(12)
    ]
    assert len(scatter_figure(trials, loaded).axes) == len(loaded.parameters)
