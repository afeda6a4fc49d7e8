"""A table of trainings, one row each, in a Parquet file: what was trained, from where that came, its curves.

A row's setting is its hyperparameters under their own names; trainings with the same `setting` number differ
in their seeds alone. Curves are lists, an item an epoch. A training that failed has the epochs before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from tunekit.search.parameter import Parameter
from tunekit.search.space import Space

LOSSES = ("box", "cls", "dfl")
CURVES = {
    "fitness": "metrics/mAP50-95(B)",
    "map50": "metrics/mAP50(B)",
    "precision": "metrics/precision(B)",
    "recall": "metrics/recall(B)",
    **{f"{split}_{part}": f"{split}/{part}_loss" for split in ("train", "val") for part in LOSSES},
    "epoch_seconds": "seconds",
}
CPU = "cpu_seconds"  # also a curve: what an epoch costs, whatever else ran on the machine
FIXED = {
    "setting": pa.int32(),
    "source": pa.string(),  # who proposed it: see sources.py
    "seed": pa.int64(),
    "failed": pa.string(),  # why, if it was
    "date": pa.string(),
    "machine": pa.string(),
    "version": pa.string(),  # the commit
}


class Table:
    """The rows of `path`, and those that are to be written there."""

    def __init__(self, path: Path, space: Space) -> None:
        self.path, self.space = path, space
        self.names = [parameter.name for parameter in space.parameters]
        self.rows: list[dict[str, Any]] = pa.parquet.read_table(path).to_pylist() if path.exists() else []

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        pa.parquet.write_table(pa.Table.from_pylist(self.rows, self._schema()), new, compression="zstd")
        os.replace(new, self.path)

    def _schema(self) -> pa.Schema:
        tuned = {parameter.name: _type(parameter) for parameter in self.space.parameters}
        curves = dict.fromkeys((*CURVES, CPU), pa.list_(pa.float32()))
        return pa.schema([*{**FIXED, **tuned, **curves}.items()])

    def params(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: row[name] for name in self.names}

    def of(self, source: str) -> list[dict[str, Any]]:
        """In the order in which they were asked for."""
        return sorted((row for row in self.rows if row["source"] == source), key=lambda row: row["setting"])


def _type(parameter: Parameter) -> pa.DataType:
    return {"float": pa.float64(), "int": pa.int64(), "choice": pa.string()}[parameter.kind]
