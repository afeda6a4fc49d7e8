"""Two workers over one model are one worker with their images, to the last bits of float32.

Batch norm is held in these comparisons: it measures over the images of one worker, which alone would tell
two workers from one. What is left differs by the order of sums. Measured with SGD, AdamW and MuSGD, YOLOv8,
11 and 26: losses by 6e-7 of their size, weights (of size 1) by 4e-6.
"""

from __future__ import annotations

import time
from contextlib import closing
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.training.pair import Pair, pair_of_processes
from tests.training.test_engine import TIMES, stored
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.data.loader import ValLoader
from tunekit.data.sources import open_sources
from tunekit.errors import ArgumentError, RunFolderError
from tunekit.evaluation.metrics import DetectionMetrics
from tunekit.evaluation.validator import evaluate
from tunekit.training.engine import Engine
from tunekit.training.feed import train_loader
from tunekit.training.ranks import ALONE, Ranks

LOSSES, WEIGHTS = (
    1e-5,
    2e-5,
)  # the largest differences allowed: of the losses relative, of the weights absolute
TINY = {
    "model": "yolo11p.yaml",
    "imgsz": 64,
    "fraction": 0.065,  # 39 digits: two batches of 16 and one of 7, of which one worker has 3
    "batch": 16,
    "nbs": 48,  # three batches an optimizer step
    "optimizer": "SGD",
    "epochs": 3,
    "warmup_epochs": 1,
    "close_mosaic": 1,
    "val": False,
    "amp": False,
    "threads": 1,
    "loader_workers": 1,
    "plots": False,
}


Trained = tuple[list[dict], list[dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def pair():
    with pair_of_processes() as running:
        yield running


def build(ranks: Ranks, settings: dict, *, held: bool = True) -> Engine:
    engine = Engine(build_args(TrainArgs, {**TINY, **settings}), ranks)
    if held:
        norms = [module for module in engine.model.modules() if isinstance(module, _BatchNorm)]
        engine.learner.held_norms = tuple(norms)
    return engine


def weights(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}


def rows(results: list) -> list[dict]:
    return [{name: value for name, value in r.row().items() if name not in TIMES} for r in results]


def trained(
    ranks: Ranks, settings: dict, held: bool = True
) -> tuple[list[dict], list[dict[str, np.ndarray]]]:
    """The rows of its epochs, and the weights and the averaged weights in the end."""
    with closing(build(ranks, settings, held=held)) as engine:
        results = list(engine.epochs())
        return rows(results), [weights(engine.model), weights(engine.average.model)]


def assert_alike(ours: Trained, theirs: Trained) -> None:
    for mine, other in zip(ours[0], theirs[0], strict=True):
        assert mine.keys() == other.keys()
        for name, value in other.items():
            assert mine[name] == (None if value is None else pytest.approx(value, rel=LOSSES)), name
    for mine, other in zip(ours[1], theirs[1], strict=True):
        for name in other:
            np.testing.assert_allclose(mine[name], other[name], rtol=0, atol=WEIGHTS, err_msg=name)


def all_equal(ours: list[dict[str, np.ndarray]], theirs: list[dict[str, np.ndarray]]) -> bool:
    return all(np.array_equal(a[name], b[name]) for a, b in zip(ours, theirs, strict=True) for name in b)


def words(ranks: Ranks) -> tuple:
    values = torch.arange(3.0) + 10 * ranks.rank
    own = torch.arange(24.0).view(1, 2, 3, 4) + 100 * ranks.rank
    aligned = [
        own[0, 0, 0].clone(),
        torch.tensor(ranks.rank),
        own.contiguous(memory_format=torch.channels_last),
    ]
    ranks.align(aligned)
    return (
        ranks.total(values).tolist(),
        values.tolist(),
        ranks.share(f"said by {ranks.rank}" if ranks.first else None),
        ranks.gather(("rank", ranks.rank)),
        [tensor.tolist() for tensor in aligned],
    )


def test_workers_sum_gather_and_hear_the_first_one(pair: Pair):
    first, second = pair(words)
    said = "said by 0", [("rank", 0), ("rank", 1)]
    aligned = [[0, 1, 2, 3], 0, torch.arange(24.0).view(1, 2, 3, 4).tolist()]
    assert first == ([10, 12, 14], [0, 1, 2], *said, aligned)
    assert second == ([10, 12, 14], [10, 11, 12], *said, aligned)


def decided(ranks: Ranks) -> list[str]:
    def choose() -> str:
        assert ranks.first, "only the first is asked"
        return "chosen"

    def fail() -> str:
        raise RunFolderError("no room")

    found = [ranks.decide(choose)]
    try:
        ranks.decide(fail)
    except RunFolderError as fault:
        found.append(str(fault))
    return [*found, ranks.decide(choose)]


def test_the_first_decides_for_all_and_its_mistake_is_everybodys(pair: Pair):
    assert pair(decided) == [["chosen", "no room", "chosen"]] * 2
    assert decided(ALONE) == ["chosen", "no room", "chosen"]


def test_the_smallest_share_of_the_last_batch_counts(tmp_path):
    """At one stride a side batch norm sees a pixel an image: of one image it has nothing to measure."""
    settings = {**TINY, "imgsz": 32, "batch": 8, "fraction": 0.05}  # 19 images: the last batch has 3
    with pytest.raises(ArgumentError, match="more than one image in every batch on each of 2 workers"):
        Engine(build_args(TrainArgs, settings), Ranks(1, 2))
    with closing(Engine(build_args(TrainArgs, settings))):
        pass  # alone 3 are enough


def test_alone_everything_is_what_it_was():
    values = torch.arange(3.0)
    assert ALONE.total(values) is values
    assert ALONE.gather("word") == ["word"]
    assert ALONE.share("word") == "word"
    with pytest.raises(ValueError, match="nothing to share"):
        ALONE.share(None)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model": "yolo26n.yaml", "imgsz": 32, "nbs": 16, "epochs": 2},
        {"optimizer": "MuSGD", "cls_pw": 0.5, "label_smoothing": 0.1, "freeze": 2, "multi_scale": 0.3},
    ],
    ids=["accumulating", "end to end", "all sorts"],
)
def test_two_workers_learn_what_one_with_their_images_learns(pair: Pair, settings):
    one = trained(ALONE, settings)
    first, second = pair(trained, settings)
    assert_alike(first, one)
    assert all_equal(first[1], second[1])


# Boxes as large as an untrained model says them: only then do target scores sum to more than 1, which is the
# least that a loss is divided by.
SPARSE = {"imgsz": 128, "batch": 4, "nbs": 8, "mosaic": 0.0, "scale": 0.0, "fraction": 1.0, "cache": False}


def test_images_without_boxes_on_one_worker_change_nothing(pair: Pair, tmp_path):
    settings = {**SPARSE, "data": str(sparse_set(tmp_path))}
    with closing(build(ALONE, settings)) as engine:
        args, source = engine.args, engine.source
    boxes = np.array([boxes_of_batches(args, source, Ranks(rank, 2)) for rank in range(2)])
    assert ((boxes == 0).any(0) & (boxes > 0).any(0)).any(), "one worker should have boxes, the other none"
    assert (boxes == 0).all(0).any(), "once neither should have any"
    assert_alike(pair(trained, settings)[0], trained(ALONE, settings))


def boxes_of_batches(args: TrainArgs, source, ranks: Ranks) -> list[int]:
    loader = train_loader(args, source, torch.device("cpu"), ranks, workers=0, stride=32)
    with closing(loader):
        return [len(batch.boxes) for batch in loader.epoch(0, mosaic=True)]


def sparse_set(root: Path) -> Path:
    """Fifteen images, three of them with an object."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for index in range(15):
            image = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
            if index % 5 == 0:
                image[16:112, 8:104] = 255
                (root / "labels" / split / f"{index:02d}.txt").write_text("0 0.4375 0.5 0.75 0.75\n")
            cv2.imwrite(str(root / "images" / split / f"{index:02d}.png"), image)
    path = root / "data.yaml"
    path.write_text("train: images/train\nval: images/val\nnames: [square]\n")
    return path


def cut(ranks: Ranks, settings: dict) -> tuple[list[dict], list[dict[str, np.ndarray]], int]:
    """As `trained`, but after an epoch a new engine goes on with the first worker's state."""
    with closing(build(ranks, settings, held=False)) as engine:
        begun = [next(engine.epochs())]
        state = stored(engine.state_dict())
    state = ranks.share(state if ranks.first else None)
    with closing(build(ranks, settings, held=False)) as engine:
        engine.load_state_dict(state)
        rest = list(engine.epochs())
        found = [weights(engine.model), weights(engine.average.model)]
    return rows(begun + rest), found, state["learner"]["since_step"]


def test_a_resumed_group_is_the_uninterrupted_one_to_the_bit(pair: Pair):
    settings = {"nbs": 32, "epochs": 2, "val": True}
    whole, _ = pair(trained, settings, False)
    (results, found, waiting), (_, others, _) = pair(cut, settings)
    assert waiting > 0, "gradients should wait for their step when the first epoch ends"
    assert results == whole[0]
    assert all_equal(found, whole[1])
    assert np.array_equal(others[0]["model.0.conv.weight"], found[0]["model.0.conv.weight"])


LEARNING = {"imgsz": 32, "fraction": 0.5, "epochs": 3, "batch": 8, "nbs": 8, "warmup_epochs": 0}
LEARNING |= {"optimizer": "AdamW", "lr0": 0.003, "close_mosaic": 9}


def validated(ranks: Ranks, state: dict) -> DetectionMetrics:
    with closing(build(ranks, LEARNING)) as engine:
        engine.load_state_dict(state)
        model, loader = engine.average.model, engine.val_loader
        return evaluate(model, loader, device=engine.device, ranks=ranks).metrics


def validated_in_turn(state: dict) -> DetectionMetrics:
    """One worker, over the batches of the first of two and then of the second: others round otherwise."""
    with closing(build(ALONE, LEARNING)) as engine:
        engine.load_state_dict(state)
        source, stride = open_sources(engine.args).val, max(engine.model.stride)
        shares = [
            ValLoader(source, batch=LEARNING["batch"], workers=1, stride=stride, rank=rank, world=2)
            for rank in (0, 1)
        ]
        return evaluate(engine.average.model, chain(*shares), device=engine.device).metrics


def test_validation_that_is_shared_finds_what_one_worker_finds(pair: Pair):
    with closing(build(ALONE, LEARNING)) as engine:
        list(engine.epochs())
        state = stored(engine.state_dict())
    one = validated_in_turn(state)
    assert one.map50 > 0, "there should be something to compare"
    for metrics in pair(validated, state):
        for name in ("map", "map50", "precision", "recall", "f1_conf"):
            assert getattr(metrics, name) == getattr(one, name), name


def hurried(ranks: Ranks, settings: dict) -> list[int]:
    """The epochs that are trained where the second worker's clock runs much faster."""
    real = time.perf_counter
    time.perf_counter = lambda: real() * (1 + 20 * ranks.rank)
    try:
        with closing(build(ranks, settings)) as engine:
            return [result.epoch for result in engine.epochs()]
    finally:
        time.perf_counter = real


@pytest.mark.parametrize(
    "settings",
    [{"time": 3 / 3600, "epochs": 2}, {"patience": 1, "val": True, "lr0": 1e-9, "epochs": 9}],
    ids=["time", "patience"],
)
def test_workers_stop_together(pair: Pair, settings):
    first, second = pair(hurried, settings)
    assert first == second
    assert 0 < len(first) < 9 or "time" in settings
