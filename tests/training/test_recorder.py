"""A training's folder: periodic weights, nothing kept when asked, recovery from a loss that is NaN."""

from __future__ import annotations

import csv
from contextlib import closing

import pytest
import torch

from tests.training.test_engine import SMALL
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.models.weights import read_checkpoint
from tunekit.training import engine as engine_module
from tunekit.training.engine import Engine, NotFinite
from tunekit.training.recorder import Recorder


def engine(**settings) -> Engine:
    return Engine(build_args(TrainArgs, {**SMALL, "epochs": 4, "fraction": 0.03, **settings}))


def run(engine: Engine, folder, said: list[str]) -> list[int]:
    recorder = Recorder(folder, engine)
    recorder.start()
    return [result.epoch for result in recorder.epochs(said.append)]


def recorded_epochs(folder) -> list[int]:
    with (folder / "results.csv").open() as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


@pytest.fixture
def spoiled(monkeypatch):
    """Makes the loss no number in the given epoch (from 0), as many times as asked."""

    def spoil(epoch_to_spoil: int, times: int) -> None:
        original, left = engine_module.make_loss, [times]

        def make_loss(*given, epoch, epochs, total):
            loss = original(*given, epoch=epoch, epochs=epochs, total=total)
            if epoch != epoch_to_spoil or left[0] == 0:
                return loss
            left[0] -= 1

            def bad(output, batch):
                whole, parts = loss(output, batch)
                return whole * torch.nan, parts * torch.nan

            return bad

        monkeypatch.setattr(engine_module, "make_loss", make_loss)

    return spoil


def test_a_lost_epoch_is_trained_again_from_the_last_good_one_and_told(tmp_path, spoiled):
    spoiled(2, times=2)
    said: list[str] = []
    with closing(engine()) as training:
        assert run(training, tmp_path, said) == [1, 2, 3, 4]
        assert training.recoveries == 2
        assert all(tensor.isfinite().all() for tensor in training.model.state_dict().values())
    assert recorded_epochs(tmp_path) == [1, 2, 3, 4]
    assert len(said) == 2
    assert "not finite (box nan, cls nan, dfl nan) at epoch 3, batch 1 of 2, learning rate" in said[0]
    assert f"the last good checkpoint is {tmp_path / 'weights' / 'last.pt'} (epoch 2)" in said[0]
    assert "recovery 2 of 3" in said[1]


def test_a_training_that_keeps_failing_is_given_up_after_three_recoveries(tmp_path, spoiled):
    spoiled(1, times=9)
    said: list[str] = []
    told = pytest.raises(
        NotFinite, match=r"given up after 3 recoveries, the last good checkpoint is .* \(epoch 1\)"
    )
    with closing(engine()) as training, told:
        run(training, tmp_path, said)
    assert len(said) == 3
    assert recorded_epochs(tmp_path) == [1]


def test_without_a_good_epoch_there_is_nothing_to_go_back_to(tmp_path, spoiled):
    spoiled(0, times=1)
    with closing(engine()) as training, pytest.raises(NotFinite, match="epoch 1, batch 1"):
        run(training, tmp_path, [])


def test_a_recovery_survives_a_resume(tmp_path, spoiled):
    spoiled(1, times=1)
    with closing(engine()) as training:
        run(training, tmp_path, [])
    with closing(engine()) as again:
        Recorder(tmp_path, again).resume()
        assert again.recoveries == 1


def test_weights_are_kept_every_so_many_epochs(tmp_path):
    with closing(engine(save_period=2, val=False)) as training:
        run(training, tmp_path, [])
    names = {path.name for path in (tmp_path / "weights").iterdir()}
    assert names == {"best.pt", "last.pt", "epoch2.pt", "epoch4.pt"}
    kept = read_checkpoint(tmp_path / "weights" / "epoch2.pt")
    assert kept.metrics["epoch"] == 2
    assert kept.metrics["metrics/mAP50(B)"] is None
    assert 0 <= read_checkpoint(tmp_path / "weights" / "best.pt").metrics["f1_conf"] <= 1


def test_nothing_is_kept_with_save_false(tmp_path):
    with closing(engine(save=False, epochs=1)) as training:
        run(training, tmp_path, [])
    assert list((tmp_path / "weights").iterdir()) == []
    assert recorded_epochs(tmp_path) == [1]
