"""Search spaces: YAML in, typed parameters out.

A space file is a mapping from the names of training arguments to what they may be:

    lr0: {range: [1.0e-4, 0.1], scale: log, prior: 0.01}   # scale: linear (when left out), log, logit, int
    optimizer: {choice: [SGD, AdamW], prior: SGD}

`prior` is where the search begins: the argument's own default when left out. Names, types, defaults and
limits come from `tunekit.args`; this file knows nothing else of YOLO, and nothing of Ray. Every fault is a
SpaceError that names file, line and parameter.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import BaseDistribution

import tunekit.args
from tunekit.args import TrainArgs, tunable_names
from tunekit.checks import build_args, choices
from tunekit.errors import ArgumentError, SpaceError
from tunekit.search.parameter import Parameter, Value
from tunekit.search_args import TuneArgs

__all__ = ["Parameter", "Space", "Value", "load_space"]

SCALES = ("linear", "log", "logit", "int")
SPEC_KEYS = ("range", "choice", "scale", "prior")


@dataclass(frozen=True)
class Space:
    """What is searched: a name for people, and at least one parameter."""

    name: str
    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        if not self.parameters:
            raise SpaceError(f"space {self.name}: nothing to tune is left in it; give it a parameter")
        names = [parameter.name for parameter in self.parameters]
        for name in names:
            if names.count(name) > 1:
                raise SpaceError(f"space {self.name}: {name} is in it twice")

    def defaults(self) -> dict[str, Value]:
        """The priors: what trial 0 runs with."""
        return {parameter.name: parameter.prior for parameter in self.parameters}

    def options(self, name: str) -> tuple[Value, ...]:
        """The choices that the space has for `name`; () where it has none."""
        return next((p.choices for p in self.parameters if p.name == name), ())

    def distributions(self) -> dict[str, BaseDistribution]:
        return {parameter.name: parameter.distribution() for parameter in self.parameters}

    def without(self, names: Iterable[str]) -> Space:
        """The space less `names` (of which it need not have all)."""
        dropped = set(names)
        kept = tuple(parameter for parameter in self.parameters if parameter.name not in dropped)
        return Space(self.name, kept)

    def with_priors(self, priors: Mapping[str, Value]) -> Space:
        """The space with other priors; names that are not in the space are none of its business.

        SpaceError where a prior is outside; `Parameter.nearest` gives one that is not.
        """
        return Space(
            self.name,
            tuple(
                replace(parameter, prior=priors[parameter.name]) if parameter.name in priors else parameter
                for parameter in self.parameters
            ),
        )

    def to_yaml(self) -> str:
        """The space as a file that `load_space` reads back to the same parameters."""
        return "".join(_parameter_yaml(parameter) for parameter in self.parameters)


def _parameter_yaml(parameter: Parameter) -> str:
    spec: dict[str, Any]
    if parameter.kind == "choice":
        spec = {"choice": list(parameter.choices), "prior": parameter.prior}
    else:
        ends = [int(end) if parameter.kind == "int" else end for end in (parameter.low, parameter.high)]
        scale = "int" if (parameter.kind, parameter.scale) == ("int", "linear") else parameter.scale
        spec = {"range": ends, "scale": scale, "prior": parameter.prior}
    flow = yaml.safe_dump(spec, default_flow_style=True, sort_keys=False, width=1000)
    return f"{parameter.name}: {flow}"


def load_space(space: str) -> Space:
    """The shipped space of that name (default, quick, augment, scales), or the one in that YAML file."""
    folder = _shipped_folder()
    if space in (shipped := sorted(file.stem for file in folder.glob("*.yaml"))):
        return _read_space(folder / f"{space}.yaml")
    path = Path(space)
    if path.suffix.lower() not in (".yaml", ".yml") and path.name == space and not path.is_file():
        near = difflib.get_close_matches(space.lower(), shipped, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(shipped)};"
        raise SpaceError(f"space={space}: no such space: {hint} a file of your own ends in .yaml")
    return _read_space(path)


def _shipped_folder() -> Path:
    """search_spaces/: inside the package where it was installed, beside it in a source checkout."""
    package = Path(tunekit.args.__file__).parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def _read_space(path: Path) -> Space:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpaceError(f"space={path}: there is no such file") from None
    except OSError as fault:
        raise SpaceError(f"space={path}: cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise SpaceError(f"{path}: is not a text file in UTF-8") from None
    parameters: list[Parameter] = []
    lines: dict[str, int] = {}
    for name, spec, line in _entries(path, text):
        try:
            if name in lines:
                raise SpaceError(f"{name}: is already in line {lines[name]}: drop one of the two")
            parameters.append(_parameter(name, spec))
        except SpaceError as fault:
            raise SpaceError(f"{path}:{line}: {fault}") from None
        lines[name] = line
    return Space(path.stem, tuple(parameters))


def _entries(path: Path, text: str) -> list[tuple[str, Any, int]]:
    """(name, what it is set to, line) of a YAML mapping; yaml.safe_load would lose lines and double names."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise SpaceError(f"{path}: is empty: it needs lines like 'lr0: {{range: [0.0001, 0.1]}}'")
        if not isinstance(node, yaml.MappingNode) or not node.value:
            raise SpaceError(f"{path}: must be a mapping, with lines like 'lr0: {{range: [0.0001, 0.1]}}'")
        return [
            (_key(key), loader.construct_object(value, deep=True), key.start_mark.line + 1)
            for key, value in node.value
        ]
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        mark = getattr(fault, "problem_mark", None)  # only the kinds that know a place have one
        line = f":{mark.line + 1}" if mark else ""
        what = getattr(fault, "problem", None) or str(fault).splitlines()[0]
        raise SpaceError(f"{path}{line}: is not YAML: {what}") from None


def _key(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else "[...]"


def _parameter(name: str, spec: Any) -> Parameter:
    _check_name(name)
    if not isinstance(spec, dict):
        raise SpaceError(
            f"{name}: write {name}: {{range: [low, high]}} or {name}: {{choice: [...]}}, not {spec!r}"
        )
    for key in spec:
        if key not in SPEC_KEYS:
            raise SpaceError(f"{name}: unknown key '{key}': {_suggest(str(key), SPEC_KEYS)}")
    if ("range" in spec) == ("choice" in spec):
        raise SpaceError(f"{name}: needs either range: [low, high] or choice: [...]")
    return _choice(name, spec) if "choice" in spec else _range(name, spec)


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
