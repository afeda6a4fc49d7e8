"""The ceiling of training speed: forward and backward of the model alone, on images that are there.

    python bare.py JOB.json RESULT.json

Job: settings (arguments of `tunekit train`), nc, steps. Result: images_per_second: no data, no loss,
no optimizer, one batch at a time; otherwise as the engine computes (channels_last, autocast, threads,
memory).
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.models.build import build_model
from tunekit.models.spec import load_spec
from tunekit.training.device import autocast_dtype, available_cores, keep_freed_memory, select_device

WARM_UP = 5


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    args = build_args(TrainArgs, job["settings"])
    device = select_device(args.device)
    torch.set_num_threads(args.threads or available_cores())
    keep_freed_memory(device)
    dtype = autocast_dtype(device, args.amp)
    names = [str(index) for index in range(job["nc"])]
    model = build_model(load_spec(args.model), names, seed=args.seed)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout).train()
    generator = torch.Generator().manual_seed(args.seed)
    images = torch.rand(args.batch, 3, args.imgsz, args.imgsz, generator=generator)
    images = images.to(device, dtype or torch.float32, memory_format=layout)

    times = []
    for _ in range(WARM_UP + job["steps"]):
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            output = model(images)
        heads = [head for head in (output, output.one_to_one) if head is not None]
        sum(head.box.float().sum() + head.cls.float().sum() for head in heads).backward()
        model.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    rate = args.batch / statistics.median(times[WARM_UP:])
    Path(sys.argv[2]).write_text(json.dumps({"images_per_second": rate}))


if __name__ == "__main__":
    main()
