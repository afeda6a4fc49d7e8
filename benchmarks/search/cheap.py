"""What do cheaper trainings say of whole ones? A scheduler could judge by any of these.

Settings of the table are trained again, for a third of the epochs or on a third of the images, and held
against what their whole trainings came to, beside what these showed after a third of their epochs, which asha
looks at and which costs a third as well. Half of the settings are of the best fifth: that is where a search
has to choose. `kept`: of the best fifth of them, how many would be among the best third, and go on.

    python benchmarks/search/cheap.py digits
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import common
import numpy as np
from generate import train
from scipy.stats import spearmanr
from table import CPU, Table
from tasks import HERE, TASKS, plan_of

SEED = 3
THIRD = 3


def arguments() -> argparse.Namespace:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("task", choices=TASKS)
    found.add_argument("--settings", type=int, default=80)
    found.add_argument("--out", type=Path, default=Path("runs/bench/cheap"))
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    task = TASKS[options.task]
    table = Table(HERE / "data" / f"{options.task}.parquet", plan_of(options.task).space)
    rows = chosen(table, options.settings)
    whole = np.array([max(row["fitness"]) for row in rows])
    shorter = {"epochs": task.epochs // THIRD}
    forms = {
        f"a training of {shorter['epochs']} epochs": shorter,
        "a training on a third of the images": {"fraction": task.fraction / THIRD},
    }
    jobs = [(options.task, {**table.params(row), **form}) for form in forms.values() for row in rows]
    with multiprocessing.get_context("spawn").Pool(common.cores(), os.nice, (19,)) as pool:
        found = np.array(pool.map(cheap, jobs, chunksize=1)).reshape(len(forms), len(rows), 2)
    looked = np.array([max(row["fitness"][: shorter["epochs"]]) for row in rows])
    values = {f"the whole training after {shorter['epochs']} epochs": looked}
    values |= dict(zip(forms, found[:, :, 0], strict=True))
    spent = found[:, :, 1].mean(axis=1)
    costs = [1 / THIRD, *(spent / (THIRD * spent[0]))]  # an epoch of the shorter one is one of the whole one
    header = ["what is looked at", "rank correlation with the end", "in the better half", "kept", "cost"]
    lines = common.table(
        header,
        [
            [name, *judged(seen, whole), cost]
            for (name, seen), cost in zip(values.items(), costs, strict=True)
        ],
    )
    common.report(f"Cheaper trainings, {options.task}", began, lines, options.out)


def chosen(table: Table, count: int) -> list[dict[str, Any]]:
    """Half of them from the best fifth; of each setting one training."""
    rows = {row["setting"]: row for row in table.rows if row["failed"] is None}
    ranked = sorted(rows.values(), key=lambda row: -max(row["fitness"]))
    fifth = len(ranked) // 5
    rng = np.random.default_rng(SEED)
    good = rng.choice(fifth, count // 2, replace=False)
    others = rng.choice(np.arange(fifth, len(ranked)), count - count // 2, replace=False)
    return [ranked[place] for place in (*good, *others)]


def cheap(job: tuple[str, dict[str, Any]]) -> tuple[float, float]:
    """The best epoch's fitness, and CPU seconds."""
    task, params = job
    curves = train(task, params, SEED)
    return max(curves["fitness"], default=0.0), sum(curves[CPU])


def judged(seen: np.ndarray, whole: np.ndarray) -> list[Any]:
    """Of (N,) what was seen and (N,) what whole trainings came to."""
    best = whole >= np.median(whole)
    top = np.argsort(-whole)[: len(whole) // 5]
    on = np.argsort(-seen)[: len(seen) // 3]
    kept = f"{np.isin(top, on).sum()} of {len(top)}"
    return [float(spearmanr(seen, whole)[0]), float(spearmanr(seen[best], whole[best])[0]), kept]


if __name__ == "__main__":
    main()
