"""Do the peer's checkpoints load here, and detect the same?

The peer, in its own environment, makes checkpoints of its models with the code that its trainer saves with
(finished, under way, float32) and runs them on an image. tunekit reads the files without the peer's package,
and its decoded boxes (pixels) and scores are compared. Ends with exit code 1 if one differs by more than
--tolerance or does not load.

Older versions of the peer run from folders of their own, beside the newer one's torch:

    pip install --no-deps --target /tmp/eras/8.0.100 ultralytics==8.0.100
    python benchmarks/public_checkpoints.py --versions /tmp/eras/8.0.100 --beside /tmp/eras/more

where --beside holds what they import and the newer one does not (pandas, dill, setuptools<81 ...).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch

HEADER = ["version", "model", "files", "tensors", "MB", "CPU s to read", "scores from", "to"]
HEADER += ["Δ boxes", "Δ scores", "Δ one-to-one boxes", "Δ one-to-one scores"]


@dataclass(frozen=True)
class Row:
    """A checkpoint, or several of one model: sizes, and the largest differences of each head."""

    version: str
    model: str
    files: int
    tensors: int
    megabytes: float
    seconds: float
    lowest: float
    highest: float
    differences: tuple[float, ...]  # of boxes and scores, and of those of the head that needs no NMS


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "public_checkpoints")
    common.add_peer(found)
    found.add_argument("--models", nargs="*", default=["yolov8n", "yolo11n", "yolo26n"])
    found.add_argument(
        "--files", nargs="*", type=Path, default=[], help="checkpoints that exist, compared, too"
    )
    found.add_argument("--versions", nargs="*", type=Path, default=[], help="folders of older versions")
    found.add_argument("--beside", nargs="*", type=Path, default=[], help="folders of what these import")
    found.add_argument("--size", type=int, nargs=2, default=[256, 192], help="height and width of the image")
    found.add_argument("--tolerance", type=float, default=1e-4, help="%(default)s pixels, and of scores")
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    common.check_peer(options.peer_python)
    torch.set_num_threads(options.threads)
    folder = options.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).random((1, 3, *options.size), dtype=np.float32)
    np.save(folder / "image.npy", image)
    rows: list[Row] = []
    for version in [None, *options.versions]:
        files = [str(file.resolve()) for file in options.files] if version is None else []
        answer = peer_answer(version, files, folder, options)
        rows += [compared(answer["version"], row, torch.from_numpy(image)) for row in answer["rows"]]
    wrong = sum(max(row.differences) > options.tolerance for row in rows)
    common.report("Public checkpoints", began, summary(rows, wrong, options), options.out)
    sys.exit(1 if wrong else 0)


def peer_answer(
    version: Path | None, files: list[str], folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    name = "installed" if version is None else version.name
    place = folder / name
    place.mkdir(exist_ok=True)
    job = {"make": options.models, "files": files, "image": str(folder / "image.npy"), "folder": str(place)}
    environment = common.peer_environment(place)
    own = [] if version is None else [version]
    environment["PYTHONPATH"] = os.pathsep.join(str(path.resolve()) for path in [*own, *options.beside])
    return common.run_worker(options.peer_python, "peer/checkpoints.py", job, folder, name, environment)


@torch.no_grad()
def compared(version: str, row: dict[str, str], image: torch.Tensor) -> Row:
    """One checkpoint, read and run by us, beside what the peer made of it."""
    from tunekit.models.weights import model_from, read_checkpoint

    file, theirs = Path(row["file"]), np.load(row["outputs"])
    start = time.process_time()
    checkpoint = read_checkpoint(file)
    seconds = time.process_time() - start
    model = model_from(checkpoint, file).double().eval()
    output = model(image.double())
    differing = [*differences(model.decode(output), theirs["boxes"], theirs["scores"])]
    if output.one_to_one is not None:
        ours = model.decode(output.one_to_one)
        differing += differences(ours, theirs["one_to_one_boxes"], theirs["one_to_one_scores"])
    return Row(
        version,
        row["model"],
        1,
        len(checkpoint.weights),
        file.stat().st_size / 1e6,
        seconds,
        theirs["scores"].min(),
        theirs["scores"].max(),
        tuple(differing),
    )


def differences(
    ours: tuple[torch.Tensor, torch.Tensor], boxes: np.ndarray, scores: np.ndarray
) -> Iterator[float]:
    for one, other in ((ours[0], boxes), (ours[1], scores)):
        yield float(np.abs(one[0].numpy() - other).max())


def summary(rows: Sequence[Row], wrong: int, options: argparse.Namespace) -> list[str]:
    height, width = options.size
    what = (
        f"{len(rows)} checkpoints that the peer wrote, read by tunekit: the largest differences between both "
        f"sides' decoded boxes (pixels) and scores on an image of {height} × {width}, computed in float64"
    )
    groups = groupby(rows, key=lambda row: (row.version, row.model))
    shown = [cells(worst(list(group))) for _, group in groups]
    verdict = f"- {len(rows) - wrong} of {len(rows)} within {options.tolerance:g}"
    return [what, "", *common.table(HEADER, shown), "", verdict]


def worst(group: Sequence[Row]) -> Row:
    """A model's checkpoints (finished, under way, float32) in one row."""
    columns = zip(*(row.differences for row in group), strict=True)
    return Row(
        group[0].version,
        group[0].model,
        len(group),
        group[0].tensors,
        max(row.megabytes for row in group),
        max(row.seconds for row in group),
        min(row.lowest for row in group),
        max(row.highest for row in group),
        tuple(max(column) for column in columns),
    )


def cells(row: Row) -> list[Any]:
    """Of a model with one head the columns of the other are empty."""
    differing = [f"{value:.1e}" for value in row.differences]
    sizes = [row.files, row.tensors, f"{row.megabytes:.1f}", f"{row.seconds:.2f}"]
    spread = [f"{row.lowest:.3f}", f"{row.highest:.3f}"]
    return [row.version, row.model, *sizes, *spread, *differing, *([""] * (4 - len(differing)))]


if __name__ == "__main__":
    main()
