"""Raw settings -> a verb's validated arguments, or sentences that say what is wrong with them.

In: names with text or values from the command line, a file or Python. Out: the frozen models of args.py.
What pydantic finds is told in our words: what was given, what is allowed, what was probably meant.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError

from tunekit.args import OTHER_TASKS, Arguments, TrainArgs
from tunekit.errors import ArgumentError
from tunekit.verb_args import ARGUMENTS

# What YOLO users type and we name otherwise.
OTHER_NAMES = {"lr": "lr0", "batch_size": "batch", "img_size": "imgsz"}

A = TypeVar("A", bound=Arguments)


def build_args(kind: type[A], settings: Mapping[str, Any], where: str | Mapping[str, str] = "") -> A:
    """`settings` (names to raw values) as validated arguments.

    Raises ArgumentError that names the argument, says what is allowed and, for an unknown name,
    suggests the nearest known one. `where` (a file, or each name's file:line) is put in front.
    """

    def place(name: str) -> str:
        found = where if isinstance(where, str) else where.get(name, "")
        return f"{found}: " if found else ""

    settings = {name: value for name, value in settings.items() if not _changes_nothing(name, value, kind)}
    for name, value in settings.items():
        if issubclass(kind, TrainArgs) and name in OTHER_TASKS:
            raise ArgumentError(
                f"{place(name)}{name}={value}: is for {OTHER_TASKS[name][0]}, not for detectors: leave it out"
            )
        if name not in kind.model_fields:
            raise ArgumentError(place(name) + unknown_name(name, kind))
    raw = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in settings.items()
    }
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        faults = {str(fault["loc"][0]): fault for fault in reversed(error.errors())}
        sentences = [place(name) + _sentence(kind, name, fault) for name, fault in reversed(faults.items())]
        raise ArgumentError("\n".join(sentences)) from None


def _changes_nothing(name: str, value: Any, kind: type[Arguments]) -> bool:
    """Whether it is another task's argument at a value that leaves everything as it is."""
    if not issubclass(kind, TrainArgs) or name not in OTHER_TASKS:
        return False
    words = [str(allowed).lower() for allowed in OTHER_TASKS[name][1]]
    try:
        return str(value).lower() in words or str(float(value)) in words
    except (TypeError, ValueError):
        return False


def unknown_name(name: str, kind: type[Arguments]) -> str:
    """The sentence for a name that `kind` does not have."""
    known = list(kind.model_fields)
    owners = [verb for verb, model in ARGUMENTS.items() if name in model.model_fields]
    near = [full for full in known if len(name) > 2 and full.startswith(name.lower())][:1]
    near = near or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    if OTHER_NAMES.get(name) in known:
        hint = f"here it is '{OTHER_NAMES[name]}'"
    elif owners:
        hint = f"it is one of `tunekit {owners[-1]}`"
    elif near:
        hint = f"did you mean '{near[0]}'?"
    else:
        hint = "see --help for the arguments there are"
    return f"unknown argument '{name}': {hint}"


def _sentence(kind: type[Arguments], name: str, fault: Any) -> str:
    """One fault that pydantic found, in our words: what was given, what is allowed."""
    value, problem = fault["input"], fault["type"]
    if problem == "missing":
        return f"{name}= is needed: {kind.model_fields[name].description}"
    allowed = choices(kind, name)
    if problem == "literal_error":
        near = difflib.get_close_matches(str(value).lower(), [word.lower() for word in allowed], n=1)
        word = next((word for word in allowed if near and word.lower() == near[0]), None)
        rest = f"must be one of {', '.join(allowed)}" + (f"; did you mean {word}?" if word else "")
    elif problem.startswith("bool_"):
        rest = "must be True or False"
    elif problem.startswith("int_"):
        rest = "must be a whole number" + _within(kind, name)
    elif problem.startswith("float_") or problem == "finite_number":
        rest = "must be a number" + _within(kind, name)
    elif problem.startswith("string_"):
        rest = "must be text"
    elif problem in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        rest = f"must be {limits(kind, name)}"
    else:
        rest = fault["msg"].removeprefix("Value error, ")
    shown = str(value)
    return f"{name}={shown if len(shown) <= 60 else shown[:57] + '...'}: {rest}"


def _within(kind: type[Arguments], name: str) -> str:
    words = limits(kind, name)
    return f", {words}" if words else ""


def limits(kind: type[Arguments], name: str) -> str:
    """The range of a number in words: 'at least 1', 'from 0 to 1'; '' where there is none."""
    bounds = {
        key: getattr(bound, key)
        for bound in kind.model_fields[name].metadata
        for key in _BOUNDS
        if hasattr(bound, key)
    }
    if set(bounds) == {"ge", "le"}:
        return f"from {bounds['ge']:g} to {bounds['le']:g}"
    return " and ".join(f"{_BOUNDS[key]} {value:g}" for key, value in bounds.items())


_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def choices(kind: type[Arguments], name: str) -> tuple[str, ...]:
    """The words an argument may be, () where it is no choice."""
    annotation = kind.model_fields[name].annotation
    literals = [annotation, *get_args(annotation)]
    words = [
        str(word) for literal in literals if get_origin(literal) is Literal for word in get_args(literal)
    ]
    return tuple(words)
