"""The training loop as its users see it: results, exact resume, stopping, and what cannot go on."""

from __future__ import annotations

import io
from contextlib import closing

import pytest
import torch

from tunekit.args import OPTIMIZERS, TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError, CheckpointError, ResourceError
from tunekit.training import engine as engine_module
from tunekit.training.engine import Engine, NotFinite
from tunekit.training.result import EpochResult

SMALL = {
    "plots": False,
    "model": "yolo11p.yaml",
    "imgsz": 64,
    "fraction": 0.06,
    "batch": 8,
    "nbs": 24,
    "threads": 1,
}
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


OFTEN = ("auto", "MuSGD", "AdamW", "SGD")  # auto, what it chooses among, and the plain one


@pytest.mark.parametrize(
    "optimizer",
    [*OFTEN, *(pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS if name not in OFTEN)],
)
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(optimizer):
    settings = {"optimizer": optimizer} if optimizer == "auto" else {"optimizer": optimizer, "lr0": 0.002}
    with closing(engine(**settings)) as whole:
        results = list(whole.epochs())
    with closing(engine(**settings)) as first:
        epochs = first.epochs()
        begun = [next(epochs)]
        # 24 nominal images are 3 batches: an epoch of 3 ends with gradients that wait for their step.
        assert first.state_dict()["learner"]["since_step"] > 0
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

        def epoch(number, *, mosaic, attempt):
            seen.append(int(mosaic))
            return original(number, mosaic=mosaic, attempt=attempt)

        training.train_loader.epoch = epoch
        list(training.epochs())
    assert seen == expected


def test_patience_ends_a_training_that_no_longer_gets_better():
    with closing(engine(epochs=50, patience=2, lr0=1e-9, optimizer="SGD", warmup_epochs=0)) as training:
        results = list(training.epochs())
    best = max(result.epoch for result in results if result.best)
    assert len(results) == best + 2 < 50


def test_a_loss_that_is_not_a_number_ends_the_training_and_says_where():
    told = pytest.raises(
        NotFinite, match=r"not finite .* at epoch 1, batch [12] of 3, learning rate \S+: lower lr0"
    )
    with closing(engine(optimizer="SGD", cls=1e38)) as training, told:
        list(training.epochs())


def test_a_resumed_training_with_cosine_rates_and_sizes_of_its_own_is_the_same_to_the_bit():
    settings = {"cos_lr": True, "multi_scale": 0.5, "optimizer": "SGD"}
    with closing(engine(**settings)) as whole:
        results = list(whole.epochs())
    with closing(engine(**settings)) as first:
        begun = [next(first.epochs())]
        state = stored(first.state_dict())
    with closing(engine(**settings)) as second:
        second.load_state_dict(state)
        assert rows(begun + list(second.epochs())) == rows(results)


def test_frozen_layers_keep_weights_and_statistics():
    with closing(engine(freeze=5, epochs=1, nbs=8, optimizer="SGD")) as training:
        before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
        list(training.epochs())
        changed = {
            int(name.split(".")[1])
            for name, tensor in training.model.state_dict().items()
            if not torch.equal(tensor, before[name])
        }
    assert changed >= {5, 6, 22, 23}
    assert changed.isdisjoint(range(5))


def test_without_validation_only_the_last_epoch_has_metrics():
    with closing(engine(val=False, patience=1)) as training:
        results = list(training.epochs())
    assert [result.metrics is None for result in results] == [True, True, False]
    assert results[0].row()["metrics/mAP50(B)"] is None
    assert [result.best for result in results] == [False, False, True]


def test_a_training_of_given_hours_fits_its_epochs_to_them():
    with closing(engine(time=1e-9, epochs=50, val=False)) as training:
        results = list(training.epochs())
    assert [result.epoch for result in results] == [1]
    assert results[0].metrics is not None  # the last epoch is validated, also when it came early
    with closing(engine(time=1.0, epochs=1)) as training:
        next(training.epochs())
        assert training.planned > 100  # an epoch takes seconds, an hour has many
        assert not training.finished


def test_a_repeated_epoch_draws_other_chance():
    with closing(engine(epochs=1)) as first, closing(engine(epochs=1)) as second:
        second.recoveries = 1
        assert next(first.epochs()).losses != next(second.epochs()).losses


def test_one_class_for_all():
    with closing(engine(single_cls=True, epochs=1)) as training:
        assert training.model.names == ("item",)
        assert [row.name for row in next(training.epochs()).metrics.classes] == ["item"]


def test_a_batch_larger_than_the_data_set_is_one_batch():
    with closing(engine(batch=1000, epochs=1)) as training:
        assert len(training.train_loader) == 1
        assert next(training.epochs()).epoch == 1


def test_the_loss_is_told_the_epoch_and_how_many_there_are(monkeypatch):
    seen = []
    original = engine_module.make_loss

    def make_loss(*given, epoch, epochs, total):
        seen.append((epoch, epochs))
        return original(*given, epoch=epoch, epochs=epochs, total=total)

    monkeypatch.setattr(engine_module, "make_loss", make_loss)
    with closing(engine(epochs=2)) as training:
        list(training.epochs())
    assert seen == [(0, 2), (0, 2), (1, 2), (1, 2)]  # once to train, once to validate


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
