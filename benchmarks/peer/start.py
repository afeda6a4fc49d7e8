"""Our weights as a checkpoint of the peer, in the peer's own environment: a job file in, a result file out.

    python start.py JOB.json RESULT.json

Job: weights (a checkpoint of tunekit, whose weights have the names of the peer's), model (its YAML), file
(where to write it). Result: how many parameters and buffers it has.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    ours = torch.load(job["weights"], map_location="cpu", weights_only=True)
    yolo = YOLO(job["model"])
    yolo.model = DetectionModel(job["model"], nc=len(ours["names"]), verbose=False)
    yolo.model.names = dict(enumerate(ours["names"]))
    yolo.model.load_state_dict(ours["weights"], strict=True)
    yolo.save(job["file"])
    Path(sys.argv[2]).write_text(json.dumps({"tensors": len(ours["weights"])}))


if __name__ == "__main__":
    main()
