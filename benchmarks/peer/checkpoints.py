"""Checkpoints of the peer and what its own model makes of an image: a job file in, a result file out.

    python checkpoints.py JOB.json RESULT.json

Job: image (an .npy, float32 (1, 3, H, W) in 0..1), folder, make (names of models such as yolo11n, whose
checkpoints are written into the folder) and files (checkpoints that exist). Result: version, and a row a
checkpoint: model, file, outputs (an .npz in float64: boxes (A, 4) xyxy pixels, scores (A, nc), and those of
the head that needs no NMS, where there is one, as one_to_one_boxes and one_to_one_scores). Fresh weights get
normalisation statistics and class outputs that spread, so that every weight shows in the outputs. Works in
every version since 8.0.0.
"""

from __future__ import annotations

import copy
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

READ = torch.load
torch.load = lambda *args, **more: READ(*args, **{**more, "weights_only": False})  # as older versions expect

import ultralytics  # noqa: E402
from ultralytics.nn.tasks import DetectionModel  # noqa: E402


def made(name: str, folder: Path) -> list[Path]:
    """Three files: of a finished training, of one under way, and with float32 weights."""
    torch.manual_seed(0)
    try:
        model = DetectionModel(f"{name}.yaml", verbose=False)
    except (FileNotFoundError, AssertionError):
        return []  # this version does not have the model yet
    model.names = {number: f"class {number}" for number in range(80)}
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in (
                (module.weight.data, 0.7, 1.3),
                (module.bias.data, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
            ):
                values.uniform_(low, high)
            module.num_batches_tracked.fill_(9)
    head = model.model[-1]
    for branches in (head.cv3, getattr(head, "one2one_cv3", None) or []):
        for branch in branches:
            branch[-1].weight.data.uniform_(-0.3, 0.3)
            branch[-1].bias.data.uniform_(-3, 1)
    finished, under_way, exact = (
        folder / f"{name}-{kind}.pt" for kind in ("finished", "under-way", "float32")
    )
    training = {"epoch": 3, "best_fitness": np.float64(0.5), "updates": 9, "optimizer": None, "scaler": None}
    training |= {
        "train_args": {"data": "coco.yaml", "imgsz": 640},
        "train_metrics": {"fitness": np.float64(0.5)},
    }
    training |= {"date": "2026-01-01", "version": ultralytics.__version__}
    save = saver()
    half = copy.deepcopy(model).half()
    other = copy.deepcopy(half)
    other.model[0].conv.weight.data.zero_()
    save({**training, "model": other, "ema": half}, under_way)
    save({**training, "model": copy.deepcopy(model), "ema": None}, exact)
    save({**training, "model": other, "ema": half}, finished)
    utilities().strip_optimizer(str(finished))
    return [finished, under_way, exact]


def utilities() -> Any:
    for place in ("ultralytics.utils.torch_utils", "ultralytics.yolo.utils.torch_utils"):
        try:
            return importlib.import_module(place)
        except ImportError:
            continue
    raise SystemExit("this version keeps strip_optimizer elsewhere")


def saver() -> Any:
    """What its trainer saves with: for some time a torch.save that pickled with dill."""
    try:
        return importlib.import_module("ultralytics.utils.patches").torch_save
    except (ImportError, AttributeError):
        return torch.save


@torch.no_grad()
def outputs(file: Path, image: torch.Tensor) -> dict[str, np.ndarray]:
    """Computed in float64, so that what differs is not rounding."""
    content = loaded(file)
    model = (content.get("ema") or content["model"]).double().eval()
    branches = model.model[-1]._modules
    second = {name: branches.pop(f"one2one_{name}", None) for name in ("cv2", "cv3")}
    found = decoded(model, image)
    if second["cv2"] is None:
        return found
    branches.update(second)  # in the place of those that need NMS they answer in the same form
    return {**found, **{f"one_to_one_{name}": values for name, values in decoded(model, image).items()}}


def decoded(model: Any, image: torch.Tensor) -> dict[str, np.ndarray]:
    answer = model(image.double())
    raw = (answer[0] if isinstance(answer, tuple | list) else answer)[0]  # (4 + nc, A): centre, size, scores
    centre, half = raw[:2].T, raw[2:4].T / 2
    boxes = torch.cat((centre - half, centre + half), 1)
    return {"boxes": boxes.numpy(), "scores": raw[4:].T.numpy()}


def loaded(file: Path) -> dict[str, Any]:
    """A newer version knows where an older one's modules went."""
    try:
        read = importlib.import_module("ultralytics.nn.tasks").torch_safe_load
    except AttributeError:
        return torch.load(file, map_location="cpu")
    answer = read(str(file))
    return answer[0] if isinstance(answer, tuple) else answer


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    image = torch.from_numpy(np.load(job["image"]))
    files = [(f"{Path(file).parts[-3]}/{Path(file).name}", Path(file)) for file in job["files"]]
    for name in job["make"]:
        files += [(name, file) for file in made(name, folder)]
    rows = []
    for number, (model, file) in enumerate(files):
        kept = folder / f"outputs-{number}.npz"
        np.savez(kept, **outputs(file, image))
        rows.append({"model": model, "file": str(file), "outputs": str(kept)})
    Path(sys.argv[2]).write_text(json.dumps({"version": ultralytics.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
