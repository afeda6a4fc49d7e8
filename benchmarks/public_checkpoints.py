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

HEADER = ["version", "checkpoint", "MB", "tensors", "CPU s to read", "score range", "boxes", "scores"]
HEADER += ["one-to-one boxes", "one-to-one scores"]


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
    wrong = [
        row for row in rows if any(float(value) > options.tolerance for value in row[6:] if value != "-")
    ]
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
    """A row of the table: the largest difference of boxes and scores, of each head."""
    from tunekit.models.weights import model_from, read_checkpoint

    file, theirs = Path(row["file"]), np.load(row["outputs"])
    start = time.process_time()
    checkpoint = read_checkpoint(file)
    seconds = time.process_time() - start
    model = model_from(checkpoint, file).double().eval()
    output = model(image.double())
    shown = differences(model.decode(output), theirs["boxes"], theirs["scores"])
    second = ["-", "-"]
    if output.one_to_one is not None:
        decoded = model.decode(output.one_to_one)
        second = differences(decoded, theirs["one_to_one_boxes"], theirs["one_to_one_scores"])
    size, scores = f"{file.stat().st_size / 1e6:.1f}", theirs["scores"]
    spread = f"{scores.min():.3f} to {scores.max():.3f}"
    return [version, row["name"], size, len(checkpoint.weights), f"{seconds:.2f}", spread, *shown, *second]


def differences(ours: tuple[torch.Tensor, torch.Tensor], boxes: np.ndarray, scores: np.ndarray) -> list[str]:
    pairs = ((ours[0][0].numpy(), boxes), (ours[1][0].numpy(), scores))
    return [f"{np.abs(one - other).max():.1e}" for one, other in pairs]


def summary(rows: list[list[Any]], wrong: list[list[Any]], options: argparse.Namespace) -> list[str]:
    height, width = options.size
    what = (
        f"{len(rows)} checkpoints that the peer wrote, read by tunekit; the largest difference between both "
        f"sides' decoded boxes (pixels) and scores on an image of {height} × {width}, computed in float64"
    )
    verdict = f"- {len(rows) - len(wrong)} of {len(rows)} within {options.tolerance:g}"
    return [what, "", *common.table(HEADER, rows), "", verdict]


if __name__ == "__main__":
    main()
