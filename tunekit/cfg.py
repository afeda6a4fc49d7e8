"""`cfg=file.yaml`: a YAML mapping of arguments -> each name's value and the place it stands at.

Checks that the file is such a mapping; whether its names and values are right is args.py's to say.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunekit.errors import ArgumentError


@dataclass(frozen=True)
class Entry:
    value: Any
    place: str  # file:line


def read_cfg(cfg: str | os.PathLike[str]) -> dict[str, Entry]:
    """The arguments in a file. ArgumentError for one that cannot be read as such."""
    path = Path(cfg)
    if not os.fspath(cfg):
        raise ArgumentError("cfg= names no file")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArgumentError(f"cfg={path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "not a text file"
        raise ArgumentError(f"cfg={path}: cannot be read ({reason})") from None
    try:
        return _entries(path, text)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ArgumentError(f"{where}: is not YAML ({fault.problem})") from None
    except yaml.YAMLError as fault:
        raise ArgumentError(f"cfg={path}: is not YAML ({str(fault).splitlines()[0]})") from None


def _entries(path: Path, text: str) -> dict[str, Entry]:
    loader = yaml.SafeLoader(text)
    root = loader.get_single_node()
    if root is None:
        raise ArgumentError(f"cfg={path}: is empty; write arguments as lines of `name: value`")
    if not isinstance(root, yaml.MappingNode):
        raise ArgumentError(f"{path}:{_line(root)}: arguments are lines of `name: value`")
    entries: dict[str, Entry] = {}
    for key_node, value_node in root.value:
        place = f"{path}:{_line(key_node)}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise ArgumentError(f"{place}: an argument's name is a word")
        name = str(key_node.value)
        if name in entries:
            raise ArgumentError(f"{place}: {name} is given twice, first at {entries[name].place}")
        if name == "cfg":
            raise ArgumentError(f"{place}: a cfg file cannot name another one")
        try:
            entries[name] = Entry(loader.construct_object(value_node, deep=True), place)
        except ValueError as fault:  # a date or a tagged number that is none
            raise ArgumentError(f"{place}: {name}: {fault}") from None
    return entries


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
