"""Pictures while a search runs: when they are drawn, that nobody waits for them, and what goes wrong."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.results.tune_folder import TuneFolder, new_tune_folder
from tunekit.results.store import read_trials
from tunekit.tuning import drawing
from tunekit.tuning.drawing import PICTURES_AFTER, SHARE, Pictures, begun

PICTURE = "tune_scatter_plots.png"


@pytest.fixture
def folder(tmp_path) -> TuneFolder:
    folder = new_tune_folder(tmp_path / "run")
    folder.trial([0.1, 0.2])
    return folder


class Scene:
    """A clock, and processes that take `cost` seconds of it."""

    def __init__(self, cost: float) -> None:
        self.now, self.cost = 1000.0, cost
        self.drawn: list[tuple[float, object]] = []

    def monotonic(self) -> float:
        return self.now

    def begun(self, run, trials) -> SimpleNamespace:
        began = self.now
        self.drawn.append((began, trials))
        return SimpleNamespace(poll=lambda: 0 if self.now >= began + self.cost else None)


@pytest.fixture
def scene(monkeypatch) -> Scene:
    scene = Scene(4.0)
    monkeypatch.setattr(drawing, "time", SimpleNamespace(monotonic=scene.monotonic))
    monkeypatch.setattr(drawing, "begun", scene.begun)
    return scene


def test_pictures_wait_a_while_and_then_take_a_share_of_the_time(scene, tmp_path):
    began, pictures = scene.now, Pictures(tmp_path)
    for second in range(300):
        scene.now = began + second
        pictures.show([second])
    assert scene.drawn[0] == (began + PICTURES_AFTER, [PICTURES_AFTER])
    later = [at for at, _ in scene.drawn]
    apart = {after - before for before, after in itertools.pairwise(later)}
    assert apart == {scene.cost + scene.cost / SHARE}


def test_what_was_shown_last_is_drawn_even_if_no_trial_ends_any_more(scene, tmp_path):
    pictures = Pictures(tmp_path)
    pictures.show(["first"])
    pictures.show(["second"])
    for _ in range(200):
        scene.now += 1
        pictures.catch_up()
    assert [trials for _, trials in scene.drawn] == [["second"]]


def test_a_disk_that_is_full_for_a_while_delays_a_picture_and_nothing_else(
    scene, tmp_path, monkeypatch, capsys
):
    def full(run, trials):
        raise OSError(28, "No space left on device")

    pictures = Pictures(tmp_path)
    monkeypatch.setattr(drawing, "begun", full)
    scene.now += PICTURES_AFTER
    pictures.show(["trials"])
    assert "pictures could not be drawn: [Errno 28] No space left" in capsys.readouterr().out
    monkeypatch.setattr(drawing, "begun", scene.begun)
    pictures.catch_up()
    assert scene.drawn == [], "not ten times a second"
    scene.now += PICTURES_AFTER
    pictures.catch_up()
    assert [trials for _, trials in scene.drawn] == [["trials"]]


def test_nobody_waits_for_a_picture(folder):
    process = begun(folder.path, read_trials(folder.path))
    assert process.poll() is None, "it has only begun"
    assert process.wait(timeout=60) == 0
    assert (folder.path / PICTURE).read_bytes().startswith(b"\x89PNG")


def test_the_last_picture_is_not_overtaken_by_one_that_was_begun_before(folder, monkeypatch):
    processes = []

    def begin(run, trials):
        processes.append(begun(run, trials))
        return processes[-1]

    monkeypatch.setattr(drawing, "PICTURES_AFTER", 0.0)
    monkeypatch.setattr(drawing, "begun", begin)
    pictures = Pictures(folder.path)
    pictures.show(read_trials(folder.path))
    folder.trial([0.1, 0.9])
    pictures.finish(read_trials(folder.path))
    assert [process.returncode for process in processes] == [0], "it was waited for"
    assert (folder.path / PICTURE).exists()


def test_a_process_that_cannot_draw_says_why(folder, capfd):
    (folder.path / "space.yaml").unlink()
    process = begun(folder.path, read_trials(folder.path))
    assert process.wait(timeout=60) != 0
    assert "space.yaml" in capfd.readouterr().err


def test_ctrl_c_does_not_reach_a_picture(folder):
    process = begun(folder.path, read_trials(folder.path))
    status = Path(f"/proc/{process.pid}/status")
    while not int(status.read_text().split("SigIgn:")[1].split()[0], 16) >> (signal.SIGINT - 1) & 1:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
