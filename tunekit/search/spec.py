"""One entry of a search-space file: a name and what YAML made of its value in, a Parameter out.

What may be written is told in `space.py`. Names, types, defaults and limits come from `tunekit.args`. Every
fault is a SpaceError that names the parameter.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

from tunekit.args import TrainArgs, tunable_names
from tunekit.checks import build_args, choices
from tunekit.errors import ArgumentError, SpaceError
from tunekit.search.parameter import Condition, Parameter
from tunekit.search_args import TuneArgs

SCALES = ("linear", "log", "logit", "int")
KEYS = ("range", "choice", "scale", "prior", "when")


def parameter_of(name: str, spec: Any) -> Parameter:
    _check_name(name)
    if not isinstance(spec, dict):
        raise SpaceError(
            f"{name}: write {name}: {{range: [low, high]}} or {name}: {{choice: [...]}}, not {spec!r}"
        )
    for key in spec:
        if key not in KEYS:
            raise SpaceError(f"{name}: unknown key '{key}': {_suggest(str(key), KEYS)}")
    if ("range" in spec) == ("choice" in spec):
        raise SpaceError(f"{name}: needs either range: [low, high] or choice: [...]")
    parameter = _choice(name, spec) if "choice" in spec else _range(name, spec)
    return replace(parameter, when=_condition(name, spec["when"])) if "when" in spec else parameter


def _check_name(name: str) -> None:
    if name in tunable_names():
        return
    if name in TuneArgs.model_fields:
        raise SpaceError(
            f"{name}: is not an argument that can be tuned; give it to the command instead: {name}=..."
        )
    raise SpaceError(f"unknown argument '{name}': {_suggest(name, tunable_names())}")


def _suggest(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word.lower(), known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"


def _choice(name: str, spec: dict[str, Any]) -> Parameter:
    options = spec["choice"]
    if not isinstance(options, list):
        raise SpaceError(f"{name}: choice: must be a list like [a, b], not {options!r}")
    if "scale" in spec:
        raise SpaceError(f"{name}: a choice has no scale: leave scale: out")
    default = TrainArgs.model_fields[name].default
    if "prior" in spec:
        prior = _checked(name, spec["prior"])
    elif default in options:
        prior = default
    else:
        raise SpaceError(
            f"{name}: its default {default!r} is not among the choices {options}:"
            " add it, or set prior: to one of them"
        )
    return Parameter(
        name=name, kind="choice", choices=tuple(_checked(name, option) for option in options), prior=prior
    )


def _range(name: str, spec: dict[str, Any]) -> Parameter:
    annotation = TrainArgs.model_fields[name].annotation
    if name == "batch":  # its fractions mean a share of memory, which differs from machine to machine
        annotation = int
    if annotation not in (int, float):
        words = choices(TuneArgs, name) or (("true", "false") if annotation is bool else ("...",))
        raise SpaceError(f"{name}: has no range; use choice: [{', '.join(words)}]")
    ends = spec["range"]
    if not isinstance(ends, list) or len(ends) != 2:
        raise SpaceError(f"{name}: range: must be [low, high], not {ends!r}")
    scale = spec.get("scale", "linear")
    if scale not in SCALES:
        raise SpaceError(f"{name}: scale: {scale}: {_suggest(str(scale), SCALES)}")
    if scale == "int" and annotation is not int:
        raise SpaceError(f"{name}: takes fractions, so scale: int does not fit: use linear, log or logit")
    low, high = (_number(name, end) for end in ends)
    prior = _number(name, spec.get("prior", TrainArgs.model_fields[name].default))
    return Parameter(
        name=name,
        kind="int" if annotation is int else "float",
        low=low,
        high=high,
        scale="linear" if scale == "int" else scale,
        prior=prior,
    )


def _condition(name: str, when: Any) -> Condition:
    if not isinstance(when, dict) or not when:
        raise SpaceError(f"{name}: when: must be like {{optimizer: [SGD, AdamW]}}, not {when!r}")
    found = []
    for key, raw in when.items():
        parent = str(key)
        values = raw if isinstance(raw, list) else [raw]
        if not values:
            raise SpaceError(f"{name}: when: {parent} needs a value: with none {name} is never searched")
        try:
            _check_name(parent)
            found.append((parent, tuple(dict.fromkeys(_checked(parent, value) for value in values))))
        except SpaceError as fault:
            raise SpaceError(f"{name}: when: {fault}") from None
    return tuple(found)


def _number(name: str, raw: Any) -> Any:
    """YAML 1.1 takes 1e-5 for a word (it wants 1.0e-5); we take it for the number it is."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise SpaceError(f"{name}: {raw!r} is not a number")
    return _checked(name, raw)


def _checked(name: str, raw: Any) -> Any:
    """`raw` as the argument itself would take it: its type, its limits."""
    try:
        return getattr(build_args(TuneArgs, {name: raw}), name)
    except ArgumentError as fault:
        raise SpaceError(str(fault)) from None
