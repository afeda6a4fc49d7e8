"""A model's description: file name -> ModelSpec, the layer table as plain data plus the chosen scale.

In: `yolo11n.yaml` (shipped) or a path to a YAML in the layer-table format. Out: a ModelSpec that has been
checked row by row, so that a wrong table is told with file and line before anything is built.
"""

from __future__ import annotations

import difflib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunekit.errors import ModelError
from tunekit.models.rows import TableFault
from tunekit.models.table import read_table

CONFIGS = Path(__file__).parent / "configs"
# A scale letter follows the version number: yolo11n, yolov8s-mine; not yolo11custom.
SCALE_IN_NAME = re.compile(r"(yolo(?:e-)?v?\d+)([a-z])(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class ModelSpec:
    """What a model is built from. Plain data: it travels inside checkpoints and between processes."""

    name: str
    yaml: dict[str, Any]  # the layer table
    scale: str  # a key of yaml['scales'], or '' for a table without scales


def load_spec(model: str) -> ModelSpec:
    """The spec of a shipped model or of a user's YAML. ModelError with file:line for every fault."""
    path = _find(model)
    table, rows, keys = _read(path)
    spec = ModelSpec(Path(model).stem, table, _scale(model, path, table))
    try:
        read_table(spec.yaml, spec.scale)
    except TableFault as fault:
        where = f":{keys[fault.key]}" if fault.key in keys else ""
        if fault.layer is not None:
            where = f":{rows[fault.layer]}: layer {fault.layer}"
        raise ModelError(f"{path}{where}: {fault}") from fault
    return spec


def shipped_models() -> tuple[str, ...]:
    """Names that load without a file: yolo11n.yaml, yolo11s.yaml ..."""
    return tuple(f"{path.stem}{s}.yaml" for path in sorted(CONFIGS.glob("*.yaml")) for s in "pnsmlx")


def _find(model: str) -> Path:
    """The file that describes `model`: itself, or the one of its family (yolo11.yaml for yolo11n.yaml)."""
    asked = Path(model)
    if asked.suffix not in (".yaml", ".yml"):
        raise ModelError(f"model={model} is not a model YAML{_suggestion(model)}")
    family = asked.with_name(SCALE_IN_NAME.sub(r"\1", asked.name))
    candidates = [asked, family]
    if asked.name == model:
        candidates.append(CONFIGS / family.name)
    for path in candidates:
        if path.is_file():
            return path
    raise ModelError(f"model={model}: there is no such file{_suggestion(model)}")


def _suggestion(model: str) -> str:
    names = shipped_models()
    close = difflib.get_close_matches(Path(model).name, names, n=1)
    meant = f": did you mean {close[0]}? Shipped" if close else ". Shipped"
    *others, last = (f"{path.stem}[pnsmlx].yaml" for path in sorted(CONFIGS.glob("*.yaml")))
    return f"{meant} are {', '.join(others)} and {last}"


def _read(path: Path) -> tuple[dict[str, Any], list[int], dict[str | None, int]]:
    """The YAML as plain data, the line of every row of backbone and head, and of every key."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        table = loader.construct_document(node) if node is not None else None
    except OSError as fault:
        raise ModelError(f"cannot read model YAML {path}: {fault.strerror}") from fault
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        mark = getattr(fault, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        reason = getattr(fault, "problem", None) or "it is not UTF-8 text"
        raise ModelError(f"{path}{line} is not valid YAML: {reason}") from fault
    if not isinstance(table, dict) or node is None:
        raise ModelError(f"{path} is not a model YAML: it must map backbone and head to lists of layers")
    sections = {key.value: value for key, value in node.value}
    rows = [
        row
        for section in ("backbone", "head")
        if isinstance(sections.get(section), yaml.SequenceNode)
        for row in sections[section].value
    ]
    keys: dict[str | None, int] = {key.value: key.start_mark.line + 1 for key, _ in node.value}
    return table, [row.start_mark.line + 1 for row in rows], keys


def _scale(model: str, path: Path, table: dict[str, Any]) -> str:
    """The scale: of the file name, else of the YAML's `scale`, else the first of `scales`."""
    scales = table.get("scales")
    if not isinstance(scales, dict) or not scales:
        return ""
    in_name = SCALE_IN_NAME.search(Path(model).name)
    scale = in_name.group(2).lower() if in_name else str(table.get("scale") or "")
    if not scale:
        scale = "n" if "n" in scales else str(next(iter(scales)))
        logging.getLogger(__name__).warning(
            "%s has scales %s and neither its name nor its key `scale` chooses one: taking %s",
            path,
            ", ".join(map(str, scales)),
            scale,
        )
    if scale not in scales:
        raise ModelError(f"model={model}: {path} has no scale {scale!r}, only {', '.join(map(str, scales))}")
    return scale
