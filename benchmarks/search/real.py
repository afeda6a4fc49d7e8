"""What the searches among the sources of a table have found: real trainings, one at a time, each to its end.

    python benchmarks/search/real.py digits

The best fitness so far is also the luckiest: seeds of one setting differ. It is so for all searches alike.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import common
import numpy as np
from table import Table
from tasks import HERE, TASKS, plan_of

AFTER = (5, 10, 15, 20, 30, 40, 60, 100)  # trainings


def best_so_far(table: Table) -> dict[str, np.ndarray]:
    """By search, the best fitness (N,) after each of its trainings, the defaults' the first."""
    names = dict.fromkeys(row["source"] for row in table.rows)
    return {
        name: np.maximum.accumulate([max(row["fitness"], default=0.0) for row in table.of(name)])
        for name in sorted(names)
        if re.fullmatch(r".*-\d+", name)
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    task, began = parser.parse_args().task, common.machine()
    found = best_so_far(Table(HERE / "data" / f"{task}.parquet", plan_of(task).space))
    rows = [
        [name, len(best), *(float(best[count - 1]) if count <= len(best) else "" for count in AFTER)]
        for name, best in found.items()
    ]
    header = ["search", "trainings", *(f"after {count}" for count in AFTER)]
    common.report(f"Real searches, {task}", began, common.table(header, rows), Path("runs/bench/real"))


if __name__ == "__main__":
    main()
