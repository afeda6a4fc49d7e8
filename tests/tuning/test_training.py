"""A trial's training as the search asks for it, one epoch at a time, without Ray."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tunekit.args import TrainArgs
from tunekit.tuning.mailbox import Order
from tunekit.tuning.training import Training

SMALL = TrainArgs(
    model="yolo11p.yaml", imgsz=32, fraction=0.05, batch=8, epochs=2, warmup_epochs=0, threads=1, device="cpu"
)


def test_costs_are_told_with_the_last_epoch_and_again_when_that_news_was_lost(tmp_path: Path) -> None:
    order = Order(SMALL, tmp_path / "0", costs=("gflops", "parameters"))
    with closing(Training(order)) as training:
        first, last = training.next(), training.next()
    assert "costs" not in first
    assert (last["epoch"], last["finished"]) == (2, True)
    assert [name for name, _ in last["costs"]] == ["gflops", "parameters"]
    assert all(cost > 0 for _, cost in last["costs"])
    with closing(Training(order)) as again:
        told = again.next()
    assert (told["epoch"], told["finished"], told["costs"]) == (2, True, last["costs"])


def test_without_costs_nothing_is_measured(tmp_path: Path) -> None:
    with closing(Training(Order(SMALL, tmp_path / "0"))) as training:
        training.next()
        assert "costs" not in training.next()
