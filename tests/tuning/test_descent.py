"""Real trainings that go on from another one's state, in this process."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.tuning.test_run import TIMES
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import RunFolderError
from tunekit.tuning.descent import Descent, Snapshots
from tunekit.tuning.mailbox import Order
from tunekit.tuning.storage import Storage
from tunekit.tuning.training import Training

SETTINGS = {
    "model": "yolo11p.yaml",
    "imgsz": 32,
    "fraction": 0.05,
    "batch": 4,
    "epochs": 5,
    "warmup_epochs": 0,
    "optimizer": "AdamW",
    "device": "cpu",
    "threads": 1,
    "plots": False,
}


def order(folder: Path, number: int, origin: tuple[int, int] | None = None, told: int = 0, **given) -> Order:
    snapshots = Snapshots((2, 4), Storage(str(folder)).below("population"))
    descent = Descent(number, origin, told, snapshots)
    return Order(build_args(TrainArgs, {**SETTINGS, **given}), folder / str(number), None, descent)


def trained(training: Training, epochs: int) -> list[dict]:
    results = [training.next() for _ in range(epochs)]
    training.close()
    return results


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Path:
    """Trial 0, whole."""
    folder = tmp_path_factory.mktemp("family")
    trained(Training(order(folder, 0)), 5)
    return folder


def test_a_child_with_its_parents_hyperparameters_trains_as_the_parent_did(family):
    results = trained(Training(order(family, 1, origin=(0, 2))), 3)
    assert [result["epoch"] for result in results] == [3, 4, 5]
    assert results[-1]["finished"]
    assert rows(family / "1") == rows(family / "0")[2:], "from the state at epoch 2, to the bit"
    assert not (family / "1" / "weights" / "parent.pt").exists()


def test_a_child_has_its_own_hyperparameters_and_its_parents_momenta(family):
    given = {"lr0": 0.05, "weight_decay": 0.01, "momentum": 0.6}
    parent, child = Training(order(family, 0)), Training(order(family, 2, origin=(0, 4), **given))
    # The parent's last.pt is of epoch 5, the child's of epoch 4: the momenta are there, not the same.
    mine, theirs = child.engine.learner.optimizer, parent.engine.learner.optimizer
    assert len(mine.state) == len(theirs.state) > 0
    assert [group["betas"] for group in mine.param_groups] == [(0.6, 0.999)] * len(mine.param_groups)
    decays = [group["weight_decay"] for group in mine.param_groups]
    assert max(decays) == pytest.approx(20 * max(group["weight_decay"] for group in theirs.param_groups))
    (result,) = trained(child, 1)
    parent.close()
    assert (result["epoch"], result["finished"]) == (5, True)
    assert float(rows(family / "2")[0]["lr"]) == pytest.approx(0.05 * (0.2 * 0.99 + 0.01))


def test_a_child_is_taken_up_again_where_it_was(family):
    trained(Training(order(family, 3, origin=(0, 2), lr0=0.02)), 1)
    trained(Training(order(family, 3, origin=(0, 2), lr0=0.02)), 2)
    trained(Training(order(family, 4, origin=(0, 2), lr0=0.02)), 3)
    assert rows(family / "3") == rows(family / "4")


def test_a_trial_that_was_cut_off_at_a_point_tells_it_again_and_keeps_its_state(family):
    first = trained(Training(order(family, 5)), 2)
    kept = order(family, 5).descent.snapshots
    kept.forget({(5, 2)})
    again = trained(Training(order(family, 5, told=1)), 2)
    assert (5, 2) in kept.kept()
    assert [(result["epoch"], result["fitness"]) for result in again] == [
        (2, first[-1]["fitness"]),
        (3, again[-1]["fitness"]),
    ]
    assert not again[0]["done"]
    known = trained(Training(order(family, 5, told=3)), 1)
    assert known[0]["epoch"] == 4


def test_a_parent_that_is_gone_is_told(family):
    with pytest.raises(RunFolderError, match=r"population/9-2\.pt, from which trial 6 goes on, is gone"):
        Training(order(family, 6, origin=(9, 2)))
