"""How long does the training loader take for an image, and where does the time go?

Default augmentation (mosaic, zoom, shift, colour, flip) over the embedded digits at each --imgsz. Shown:
processor time of an image in the calling thread (workers=0), images/s with --workers threads by the
clock, and the functions that take the most time of their own.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Iterator
from pathlib import Path

import common

from tunekit.args import TrainArgs
from tunekit.data.augment import Augmentation
from tunekit.data.cache import ImageSource, open_split
from tunekit.data.dataset import load_data_config
from tunekit.data.loader import Batch, TrainLoader


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "augmentation")
    found.add_argument("--imgsz", type=int, nargs="+", default=[160, 640])
    found.add_argument("--batch", type=int, default=16)
    found.add_argument("--images", type=int, default=1500, help="images at 160 px; fewer at larger sizes")
    found.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    found.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    config = load_data_config("digits")
    rows, profiles = [], []
    for imgsz in options.imgsz:
        source = open_split(config, "train", imgsz, "disk")
        count = max(64, options.images * 160**2 // imgsz**2)
        cpu = min(cpu_seconds(source, options.batch, count) for _ in range(options.rounds)) * 1e3
        rates = [
            max(rate(source, options.batch, count, workers) for _ in range(options.rounds))
            for workers in options.workers
        ]
        rows.append([imgsz, cpu, f"{1e3 / cpu:.0f}", *(f"{r:.0f}" for r in rates)])
        profiles += ["", f"{imgsz} px, share of the time:", "", *profile(source, options.batch, count)]
    header = [
        "imgsz",
        "ms/image (CPU)",
        "images/s a core",
        *(f"images/s, workers={w}" for w in options.workers),
    ]
    lines = ["Default augmentation, digits.", "", *common.table(header, rows), *profiles]
    common.report("Augmentation", began, lines, options.out)


def batches(source: ImageSource, batch: int, count: int, workers: int) -> Iterator[Batch]:
    loader = TrainLoader(source, Augmentation.from_args(TrainArgs()), batch=batch, seed=0, workers=workers)
    epoch = done = 0
    while done < count:
        epoch += 1
        for made in loader.epoch(epoch, mosaic=True):
            done += len(made.images)
            yield made
            if done >= count:
                loader.close()
                return


def cpu_seconds(source: ImageSource, batch: int, count: int) -> float:
    """Processor seconds an image, which other work on the machine disturbs less than the clock."""
    began = time.process_time()
    done = sum(len(made.images) for made in batches(source, batch, count, 0))
    return (time.process_time() - began) / done


def rate(source: ImageSource, batch: int, count: int, workers: int) -> float:
    began = time.perf_counter()
    done = sum(len(made.images) for made in batches(source, batch, count, workers))
    return done / (time.perf_counter() - began)


def profile(source: ImageSource, batch: int, count: int) -> list[str]:
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in batches(source, batch, count, 0):
        pass
    profiler.disable()
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in stats.values())
    top = sorted(stats.items(), key=lambda item: -item[1][2])[:8]
    return common.table(
        ["function", "share"],
        [[f"{Path(file).name}:{name}", f"{own / total:.0%}"] for (file, _, name), (_, _, own, _, _) in top],
    )


if __name__ == "__main__":
    main()
