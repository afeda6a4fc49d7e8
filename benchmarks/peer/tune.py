"""One search of the peer's own tuner, in the peer's own environment: a job file in, a result file out.

    python tune.py JOB.json RESULT.json

Job: model, settings (arguments of the peer's `tune`, by its names), space (ranges, or null for its own).
Result: a row a trial, in order: end (seconds since this program began), fitness, params (its
hyperparameters), epochs that were trained and the seconds of that training.
"""

from __future__ import annotations

import csv
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()  # before the peer is imported: its start is part of its time


class Watch(threading.Thread):
    """Notes when lines of the tuner's results file appear. The tuner itself only waits meanwhile."""

    def __init__(self, file: Path) -> None:
        super().__init__(daemon=True)
        self.file = file
        self.ends: list[float] = []
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.2):
            self.look()

    def look(self) -> None:
        lines = len(self.file.read_text().splitlines()) if self.file.exists() else 0
        self.ends += [time.perf_counter() - BEGAN] * (lines - len(self.ends))

    def close(self) -> None:
        self._over.set()
        self.join()
        self.look()


def trained(row: dict[str, Any], otherwise: int) -> dict[str, float]:
    """Epochs and seconds, from the results.csv files that the trial's trainings left."""
    tables = [Path(folder) / "results.csv" for folder in row.get("save_dirs", {}).values()]
    read = [list(csv.DictReader(table.open(newline=""))) for table in tables if table.exists()]
    lines = [{name.strip(): value for name, value in rows[-1].items()} for rows in read if rows]
    return {
        "epochs": sum(map(len, read)) if read else otherwise,
        "training": sum(float(line["time"]) for line in lines),
    }


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    import ultralytics
    from ultralytics import YOLO, settings

    settings.update({"sync": False})
    given = job["settings"]
    results = Path(given["project"]) / given["name"] / "tune_results.ndjson"
    results.unlink(missing_ok=True)
    watch = Watch(results)
    watch.start()
    space = {name: tuple(limits) for name, limits in job["space"].items()} if job["space"] else None
    YOLO(job["model"]).tune(space=space, **given)
    watch.close()
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    trials = [
        {
            "end": end,
            "fitness": row["fitness"],
            "params": row["hyperparameters"],
            **trained(row, given["epochs"]),
        }
        for row, end in zip(rows, watch.ends, strict=True)
    ]
    result = {"version": ultralytics.__version__, "trials": trials}
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
