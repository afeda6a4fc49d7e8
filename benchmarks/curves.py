"""Accuracy by epoch of two sides and some seeds -> curves.csv and curves.png."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

SIDES = (("ours", "tab:blue", "tunekit"), ("peer", "tab:orange", "ultralytics"))


def write_curves(curves: Mapping[tuple[str, int], Sequence[float]], out: Path) -> None:
    """`curves`: (side, seed) -> mAP50-95 of each epoch. A thin line a seed, a thick one the mean."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["side", "seed", "epoch", "metrics/mAP50-95(B)"])
        for (side, seed), curve in curves.items():
            writer.writerows([side, seed, epoch, value] for epoch, value in enumerate(curve, 1))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for side, colour, label in SIDES:
        own = [curve for (whose, _), curve in curves.items() if whose == side]
        epochs = range(1, len(own[0]) + 1)
        for curve in own:
            axes.plot(epochs, curve, color=colour, alpha=0.3, linewidth=1)
        mean = [statistics.fmean(values) for values in zip(*own, strict=True)]
        axes.plot(epochs, mean, color=colour, linewidth=2.5, label=label)
    axes.set(xlabel="epoch", ylabel="mAP50-95 (val)")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(out / "curves.png", dpi=120)
