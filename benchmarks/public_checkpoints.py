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
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch

HEADER = [
    "version",
    "checkpoint",
    "MB",
    "tensors",
    "CPU s to read",
    "boxes",
    "scores",
    "score range",
    "one-to-one",
]


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
    rows: list[list[Any]] = []
    for version in [None, *options.versions]:
        files = [str(file.resolve()) for file in options.files] if version is None else []
        answer = peer_answer(version, files, folder, options)
        rows += [compared(answer["version"], row, torch.from_numpy(image)) for row in answer["rows"]]
    wrong = [row for row in rows if not all(value <= options.tolerance for value in differences(row))]
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
def compared(version: str, row: dict[str, str], image: torch.Tensor) -> list[Any]:
    """A row of the table: the largest difference of boxes, scores and the head that needs no NMS."""
    from tunekit.models.weights import model_from, read_checkpoint

    file, theirs = Path(row["file"]), np.load(row["outputs"])
    start = time.process_time()
    checkpoint = read_checkpoint(file)
    seconds = time.process_time() - start
    model = model_from(checkpoint, file).eval()
    output = model(image)
    boxes, scores = (values[0].numpy() for values in model.decode(output))
    found = [np.abs(boxes - theirs["boxes"]).max(), np.abs(scores - theirs["scores"]).max()]
    last = "-"
    if output.one_to_one is not None:
        ours = best(*(values[0] for values in model.decode(output.one_to_one)), len(theirs["one_to_one"]))
        last = f"{np.abs(ours - theirs['one_to_one']).max():.1e}"
    size = f"{file.stat().st_size / 1e6:.1f}"
    spread = f"{theirs['scores'].min():.3f} to {theirs['scores'].max():.3f}"
    shown = [f"{value:.1e}" for value in found]
    return [version, row["name"], size, len(checkpoint.weights), f"{seconds:.2f}", *shown, spread, last]


def best(boxes: torch.Tensor, scores: torch.Tensor, most: int) -> np.ndarray:
    """(most, 6): the best boxes, their scores and classes, as an end-to-end head gives them."""
    anchors = scores.amax(1).topk(min(most, len(scores))).indices
    values, places = scores[anchors].flatten().topk(min(most, scores[anchors].numel()))
    rows, classes = places // scores.shape[1], places % scores.shape[1]
    return torch.cat((boxes[anchors][rows], values[:, None], classes[:, None].float()), 1).numpy()


def differences(row: list[Any]) -> list[float]:
    return [float(value) for value in (row[5], row[6], row[8]) if value != "-"]


def summary(rows: list[list[Any]], wrong: list[list[Any]], options: argparse.Namespace) -> list[str]:
    height, width = options.size
    what = (
        f"{len(rows)} checkpoints that the peer wrote, read by tunekit; the largest difference between both "
        f"sides' decoded boxes (pixels) and scores on an image of {height} × {width}"
    )
    verdict = f"- {len(rows) - len(wrong)} of {len(rows)} within {options.tolerance:g}"
    return [what, "", *common.table(HEADER, rows), "", verdict]


if __name__ == "__main__":
    main()
