"""How many images a second do the two training loaders make: by threads, and on the device itself?

Default augmentation (mosaic, zoom, shift, colour, flip) over the embedded digits. Shown: images/s of
TrainLoader with each number of --workers, with the copy to the device, and of GpuLoader, as it is and with
--compile also compiled. Runs on a CPU, too, to see that it runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import common
import torch

from tunekit.args import TrainArgs
from tunekit.data.augment import Augmentation
from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.data.gpu import GpuLoader
from tunekit.data.loader import TrainLoader
from tunekit.training.device import select_device

Loader = TrainLoader | GpuLoader


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "gpu_augmentation")
    found.add_argument("--device", help="cpu, cuda, ...; the best there is when left out")
    found.add_argument("--imgsz", type=int, default=640)
    found.add_argument("--batch", type=int, default=64)
    found.add_argument("--images", type=int, default=2000, help="timed ones, of each way")
    found.add_argument("--workers", type=int, nargs="+", default=[common.cores()])
    found.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    found.add_argument("--degrees", type=float, default=0.0, help="with a rotation the general way is taken")
    found.add_argument("--compile", action="store_true", help="time the compiled drawing as well")
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    torch.set_num_threads(options.threads)
    device = select_device(options.device)
    source = open_split(load_data_config("digits"), "train", options.imgsz, "disk")
    augmentation = replace(Augmentation.from_args(TrainArgs()), degrees=options.degrees)
    shared = {"batch": options.batch, "seed": 0}

    def threads(workers: int) -> Callable[[], Loader]:
        pin = device.type == "cuda"
        return lambda: TrainLoader(source, augmentation, **shared, workers=workers, pin=pin)

    def on_device(compile: bool) -> Callable[[], Loader]:
        return lambda: GpuLoader(source, augmentation, **shared, device=device, compile=compile)

    ways = {f"TrainLoader, workers={workers}": threads(workers) for workers in options.workers}
    ways["GpuLoader"] = on_device(False)
    if options.compile:
        ways["GpuLoader, compiled"] = on_device(True)
    rows = []
    for name, make in ways.items():
        loader = make()
        rate(loader, device, min(options.images, 3 * options.batch))  # caches, kernels, compiling
        best = max(rate(loader, device, options.images) for _ in range(options.rounds))
        rows.append([name, f"{best:.0f}", f"{peak(device):.2f}"])
        loader.close()
        del loader
    title = f"Augmentation on {described(device)}, {options.imgsz} px, batch {options.batch}"
    common.report(title, began, common.table(["way", "images/s", "GiB on the device"], rows), options.out)


def rate(loader: Loader, device: torch.device, count: int) -> float:
    """Images a second that arrive on the device."""
    synchronize(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began, done, epoch = time.perf_counter(), 0, 0
    while done < count:
        for batch in loader.epoch(epoch, mosaic=True):
            batch.images.to(device, non_blocking=True)
            done += len(batch.records)
            if done >= count:
                break
        epoch += 1
    synchronize(device)
    return done / (time.perf_counter() - began)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(device: torch.device) -> float:
    """GiB that were in use at once; 0 where the device is this machine's memory."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


def described(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


if __name__ == "__main__":
    main()
