"""The training loop as its users see it: results, exact resume, stopping, and what cannot go on."""

from __future__ import annotations

import io
from contextlib import closing

import pytest
import torch

from tunekit.args import OPTIMIZERS, TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError, CheckpointError, ResourceError, TrainingError
from tunekit.training.engine import Engine, EpochResult

SMALL = {"model": "yolo11p.yaml", "imgsz": 64, "fraction": 0.06, "batch": 8, "nbs": 24, "threads": 1}
TIMES = ("time", "seconds", "images_per_second")


def engine(**settings) -> Engine:
    return Engine(build_args(TrainArgs, {**SMALL, "epochs": 3, "close_mosaic": 1, **settings}))


def rows(results: list[EpochResult]) -> list[dict[str, float]]:
    return [{name: value for name, value in r.row().items() if name not in TIMES} for r in results]


def stored(state: dict) -> dict:
    """The state as a checkpoint file gives it back, read as plain data only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("optimizer", ["auto", *OPTIMIZERS])
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(optimizer):
    settings = {"optimizer": optimizer} if optimizer == "auto" else {"optimizer": optimizer, "lr0": 0.002}
    with closing(engine(**settings)) as whole:
        results = list(whole.epochs())
    with closing(engine(**settings)) as first:
        epochs = first.epochs()
        begun = [next(epochs)]
        # 24 nominal images are 3 batches: an epoch of 3 ends with gradients that wait for their step.
        assert first.state_dict()["since_step"] > 0
        state = stored(first.state_dict())
    with closing(engine(**settings)) as second:
        second.load_state_dict(state)
        rest = list(second.epochs())
    assert [result.epoch for result in rest] == [2, 3]
    assert rows(begun + rest) == rows(results)
    for name, tensor in whole.average.model.state_dict().items():
        assert torch.equal(tensor, second.average.model.state_dict()[name]), name


def test_training_does_not_touch_the_global_random_state():
    before = torch.random.get_rng_state()
    with closing(engine(epochs=1)) as training:
        list(training.epochs())
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_seed_decides():
    def losses(seed: int) -> dict[str, float]:
        with closing(engine(epochs=1, seed=seed)) as training:
            return next(training.epochs()).losses

    assert losses(1) == losses(1) != losses(2)


@pytest.mark.parametrize(
    ("epochs", "close", "expected"), [(4, 2, [1, 1, 0, 0]), (2, 10, [0, 0]), (2, 0, [1, 1])]
)
def test_the_last_epochs_are_without_mosaic_also_in_short_trainings(epochs, close, expected):
    with closing(engine(epochs=epochs, close_mosaic=close, fraction=0.02)) as training:
        seen = []
        original = training.train_loader.epoch

        def epoch(number, *, mosaic):
            seen.append(int(mosaic))
            return original(number, mosaic=mosaic)

        training.train_loader.epoch = epoch
        list(training.epochs())
    assert seen == expected


def test_patience_ends_a_training_that_no_longer_gets_better():
    with closing(engine(epochs=50, patience=2, lr0=1e-9, optimizer="SGD", warmup_epochs=0)) as training:
        results = list(training.epochs())
    best = max(result.epoch for result in results if result.best)
    assert len(results) == best + 2 < 50


def test_a_loss_that_is_not_a_number_ends_the_training_and_says_where():
    told = pytest.raises(TrainingError, match=r"not finite .* at epoch 1, batch [12] of 3, lr0=0.01")
    with closing(engine(optimizer="SGD", cls=1e38)) as training, told:
        list(training.epochs())


def test_a_training_learns():
    settings = {"optimizer": "AdamW", "lr0": 0.01, "nbs": 8, "warmup_epochs": 1}
    with closing(engine(epochs=10, fraction=0.2, close_mosaic=10, **settings)) as training:
        results = list(training.epochs())
    # It grows at first, because its targets are the overlaps, which start near 0; then it falls.
    assert results[-1].losses["cls"] < 0.75 * max(result.losses["cls"] for result in results)


def test_a_batch_that_batch_norm_cannot_take_is_refused_before_training():
    with pytest.raises(ArgumentError, match=r"imgsz=32 .* one image"):
        engine(imgsz=32, batch=1)


def test_everything_that_auto_chose_is_in_the_arguments():
    with closing(engine()) as training:
        assert training.args.optimizer == "AdamW"
        assert training.args.lr0 == 0.000714
        assert training.args.threads == 1
        assert training.args.device == "cpu"


def test_a_state_of_another_model_is_refused():
    with closing(engine()) as training:
        state = training.state_dict()
    with closing(engine(model="yolov8p.yaml")) as other, pytest.raises(CheckpointError, match="yolov8p"):
        other.load_state_dict(state)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU 0 here")
def test_a_gpu_that_is_not_there_is_an_error_that_says_what_is():
    with pytest.raises(ResourceError, match="device=0 is not there: this machine has cpu"):
        engine(device="0")
