"""`--help`: the verbs, and a verb's arguments as tables by group, read from the arguments' models.

Text out; on a terminal it is as wide as that, else 120 columns.
"""

from __future__ import annotations

import io
import sys
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from tunekit.args import Arguments
from tunekit.checks import choices, limits
from tunekit.verb_args import ARGUMENTS
from tunekit.verbs import VERBS

# The order in which the groups are shown, with what they hold.
GROUPS = {
    "job": "what is sent where",
    "run": "which search is meant",
    "search": "what is tried, and for how long",
    "train": "what is trained",
    "val": "what is measured",
    "data": "the images",
    "optimization": "optimizer and schedule",
    "loss": "the weights of the loss",
    "augmentation": "how training images are varied",
    "machine": "what it runs on",
    "output": "where it is written",
}


def overview() -> str:
    """What `tunekit --help` prints."""
    verbs = "\n".join(f"  {name:<7}{verb.summary}" for name, verb in VERBS.items())
    examples = "\n".join(f"  {verb.example}" for verb in VERBS.values())
    return f"""tunekit finds the hyperparameters that train your YOLO detector best.

usage: tunekit VERB name=value ...

verbs:
{verbs}

examples:
  tunekit tune iterations=10 epochs=10 imgsz=128 model=yolo11p.yaml
{examples}

  tunekit VERB --help   the verb's arguments
  tunekit --version     the version
"""


def verb_help(verb: str) -> str:
    """What `tunekit VERB --help` prints."""
    kind = ARGUMENTS[verb]
    out = io.StringIO()
    terminal = sys.stdout.isatty()
    console = Console(file=out, width=None if terminal else 120, force_terminal=terminal, highlight=False)
    out.write(f"tunekit {verb}: {VERBS[verb].summary}\n\nusage: tunekit {verb} name=value ...\n")
    out.write(f"  e.g. {VERBS[verb].example}\n\n")
    out.write("cfg=FILE.yaml gives arguments from a file; those on the command line win.\n")
    searched = verb == "tune"
    if searched:
        out.write("Arguments marked * can be searched: a search space may name them.\n")
    for group, what in GROUPS.items():
        rows = [
            _row(kind, name, searched) for name in kind.model_fields if _extra(kind, name)["group"] == group
        ]
        if rows:
            console.print()
            console.print(_table(group, what, rows))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _table(group: str, what: str, rows: list[tuple[str, str, str, str]]) -> Table:
    title = f"[bold]{group}[/bold]: {what}"
    table = Table(title=title, title_justify="left", title_style="", box=None, padding=(0, 2, 0, 0))
    table.add_column("argument", width=17, no_wrap=True, header_style="dim")
    table.add_column("default", width=12, header_style="dim")
    table.add_column("allowed", width=28, header_style="dim")
    table.add_column("meaning", header_style="dim")
    for row in rows:
        table.add_row(*row)
    return table


def _row(kind: type[Arguments], name: str, searched: bool) -> tuple[str, str, str, str]:
    field = kind.model_fields[name]
    mark = " *" if searched and _extra(kind, name)["tunable"] else ""
    if field.is_required():
        default = "(needed)"
    elif isinstance(field.default, tuple):
        default = ",".join(field.default)
    else:
        default = "-" if field.default is None else str(field.default)
    return name + mark, default, _allowed(kind, name), field.description or ""


def _allowed(kind: type[Arguments], name: str) -> str:
    words = choices(kind, name)
    if words:
        return ", ".join(words)
    annotation = kind.model_fields[name].annotation
    types = [bare for bare in (annotation, *get_args(annotation)) if bare in _TYPES]
    return f"{_TYPES[types[0]]} {limits(kind, name)}".strip()


_TYPES: dict[Any, str] = {bool: "True, False", int: "whole number", float: "number", str: "text"}


def _extra(kind: type[Arguments], name: str) -> dict[str, Any]:
    extra = kind.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra
