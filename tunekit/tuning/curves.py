"""A trial's learning curve as its folder has it: results.csv in, rows of numbers out."""

from __future__ import annotations

import csv
from pathlib import Path

FITNESS = "metrics/mAP50-95(B)"


def read_curve(folder: Path) -> list[dict[str, float]]:
    """A row an epoch, in order; [] before the first."""
    try:
        with (folder / "results.csv").open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
