"""Arguments that stand for others: what optimizer=auto and lr_batch come to."""

from __future__ import annotations

import pytest

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError
from tunekit.training.resolve import nominal_steps, resolve_auto, resolved


def args(**settings) -> TrainArgs:
    return build_args(TrainArgs, settings)


def test_auto_is_written_out():
    short = resolved(args(epochs=10, lr0=0.5), nc=10, images=400)
    assert (short.optimizer, short.lr0, short.momentum, short.warmup_bias_lr) == ("AdamW", 0.000714, 0.9, 0.0)
    long = resolved(args(epochs=1001), nc=10, images=640)
    assert (long.optimizer, long.lr0, long.momentum, long.warmup_bias_lr) == ("MuSGD", 0.01, 0.937, 0.0)
    explicit = args(optimizer="SGD", lr0=0.5)
    assert resolved(explicit, nc=10, images=400) is explicit


def test_autos_border_and_learning_rate_are_the_references():
    """As the reference (8.4.190) was seen to choose: MuSGD beyond 10,000 steps, AdamW's lr0 by classes."""
    assert resolve_auto(10, 10_000).optimizer == "AdamW"
    assert resolve_auto(10, 10_001).optimizer == "MuSGD"
    assert [resolve_auto(nc, 1).lr0 for nc in (1, 3, 10, 80)] == [0.002, 0.001429, 0.000714, 0.000119]


def test_steps_are_counted_in_batches_of_at_least_nbs():
    assert nominal_steps(640, args(batch=16, epochs=10)) == 100
    assert nominal_steps(641, args(batch=16, epochs=10)) == 110
    assert nominal_steps(640, args(batch=128, epochs=10)) == 50
    assert nominal_steps(640, args(batch=-1, epochs=10)) == 100  # not measured yet


def test_lr_batch_scales_lr0_and_once_only():
    scaled = resolved(args(optimizer="SGD", lr0=0.01, lr_batch=16, batch=64), nc=10, images=400)
    assert scaled.lr0 == pytest.approx(0.04)
    assert scaled.lr_batch == 64  # what is recorded may be trained again
    assert resolved(scaled, nc=10, images=400) == scaled
    small = resolved(args(optimizer="AdamW", lr0=0.001, lr_batch=64, batch=16), nc=10, images=400)
    assert small.lr0 == pytest.approx(0.00025)


def test_lr_batch_with_auto_is_told():
    with pytest.raises(ArgumentError, match=r"lr_batch=16 scales lr0, which optimizer=auto chooses itself"):
        resolved(args(lr_batch=16), nc=10, images=400)


def test_a_learning_rate_scaled_beyond_its_range_is_told():
    with pytest.raises(ArgumentError, match=r"lr0=0.1, meant for lr_batch=8, is 1.6 at batch=128.*lower"):
        resolved(args(optimizer="SGD", lr0=0.1, lr_batch=8, batch=128), nc=10, images=400)


@pytest.mark.parametrize("batch", [-1, 0.7])
def test_an_unmeasured_batch_is_a_programmers_mistake(batch):
    with pytest.raises(ValueError, match="measured"):
        resolved(args(batch=batch), nc=10, images=400)
