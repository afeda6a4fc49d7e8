"""pbt_schedule.yaml: what the weights of a population's best trial were trained with, and who replaced whom.

In: the trials of a search. Out: the file's text. A population's best hyperparameters are a schedule: its best
trial may have gone on from the weights of another one, and that one from a third one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from tunekit.results.trials import TrialRow

FILE = "pbt_schedule.yaml"


def schedule_yaml(trials: Sequence[TrialRow], best: TrialRow) -> str | None:
    """The text; None where no trial went on from another one's weights."""
    children = [row for row in trials if row.origin is not None]
    if not children:
        return None
    replaced = [
        {"epoch": row.origin[1], "trial": row.instead_of, "by": row.number, "child_of": row.origin[0]}
        for row in children
        if row.origin is not None
    ]
    return (
        f"# what the weights of trial {best.number}, the best one, were trained with, one after the other\n"
        f"{_dump({'best': lineage(trials, best)})}"
        "# who was replaced after which epoch, by which new trial, and from whose weights that went on\n"
        f"{_dump({'replaced': replaced})}"
    )


def lineage(trials: Sequence[TrialRow], last: TrialRow) -> list[dict[str, Any]]:
    """The trials whose epochs made `last`, in order: number, [first, last] epoch, hyperparameters."""
    row, end, found = last, last.epochs + (last.origin[1] if last.origin else 0), []
    rows = {one.number: one for one in trials}
    while True:
        parent, before = row.origin or (None, 0)
        found.append({"trial": row.number, "epochs": [before + 1, end], "hyperparameters": row.params})
        if parent is None:
            return found[::-1]
        row, end = rows[parent], before


def _dump(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
