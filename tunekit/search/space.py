"""Search spaces: YAML in, typed parameters out.

A space file is a mapping from the names of training arguments to what they may be:

    lr0: {range: [1.0e-4, 0.1], scale: log, prior: 0.01}   # scale: linear (when left out), log, logit, int
    optimizer: {choice: [SGD, AdamW], prior: SGD}
    momentum: {range: [0.6, 0.98], when: {optimizer: [SGD]}}

`prior` is where the search begins: the argument's own default when left out. `when` names choices of the same
space, and their values with which the parameter is searched. A trial that does not meet it lacks the
parameter, and what depends on that, and trains with what it would be if nobody searched it. Every fault is a
SpaceError that names file, line and parameter. Knows nothing of YOLO, but for what the arguments are
(`spec.py`), and nothing of Ray.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import BaseDistribution

import tunekit.args
from tunekit.errors import SpaceError
from tunekit.search.parameter import Parameter, Value
from tunekit.search.spec import parameter_of

__all__ = ["Parameter", "Space", "Value", "load_space"]


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
        for parameter in self.parameters:
            try:
                _check_condition(parameter, {known.name: known for known in self.parameters})
            except SpaceError as fault:
                raise SpaceError(f"space {self.name}: {fault}") from None

    @cached_property
    def parents_first(self) -> tuple[Parameter, ...]:
        """The parameters, each after those that its condition names."""
        waiting, found = list(self.parameters), dict[str, Parameter]()
        while waiting:
            ready = next(p for p in waiting if all(parent in found for parent, _ in p.when))
            waiting.remove(ready)
            found[ready.name] = ready
        return tuple(found.values())

    @property
    def is_conditional(self) -> bool:
        return any(parameter.when for parameter in self.parameters)

    def completed(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """The parameters of a trial that is told `params`: of what they lack the priors, and nothing whose
        condition is not met."""
        found: dict[str, Value] = {}
        for parameter in self.parents_first:
            if parameter.is_active(found):
                found[parameter.name] = params.get(parameter.name, parameter.prior)
        return {p.name: found[p.name] for p in self.parameters if p.name in found}

    def defaults(self) -> dict[str, Value]:
        """The priors: what trial 0 runs with."""
        return self.completed({})

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

    def given(self, values: Mapping[str, Value]) -> Space:
        """The space where these arguments have these values in all trials: they leave it, and so do those
        whose conditions are never met then."""
        kept: dict[str, Parameter] = {}
        for parameter in self.parents_first:
            fixed = {parent: allowed for parent, allowed in parameter.when if parent in values}
            rest = tuple((parent, allowed) for parent, allowed in parameter.when if parent not in values)
            met = all(values[parent] in allowed for parent, allowed in fixed.items())
            if parameter.name not in values and met and all(parent in kept for parent, _ in rest):
                kept[parameter.name] = replace(parameter, when=rest)
        return Space(self.name, tuple(kept[p.name] for p in self.parameters if p.name in kept))

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


def _check_condition(parameter: Parameter, space: Mapping[str, Parameter]) -> None:
    """SpaceError where its parents are no choices of the `space`, or have no such values, or depend on it."""
    name = parameter.name
    for parent, values in parameter.when:
        if parent not in space:
            raise SpaceError(
                f"{name}: when: {parent} is not in the space: add it as a choice, or leave when: out"
            )
        if space[parent].kind != "choice":
            raise SpaceError(f"{name}: when: {parent} is a range: a condition needs a choice: [...]")
        for value in values:
            if value not in space[parent].choices:
                raise SpaceError(
                    f"{name}: when: {value} is not among the choices of {parent}, "
                    f"{list(space[parent].choices)}: add it there, or leave it out here"
                )
    line, seen = [(name, parent) for parent, _ in parameter.when], {name}
    while line:
        below, above = line.pop()
        if above == name:
            raise SpaceError(
                f"{name}: when: it depends on itself, as {below} is searched only with a value of {name}: "
                "leave one of the conditions out"
            )
        if above in space and above not in seen:
            seen.add(above)
            line += [(above, parent) for parent, _ in space[above].when]


def _parameter_yaml(parameter: Parameter) -> str:
    spec: dict[str, Any]
    if parameter.kind == "choice":
        spec = {"choice": list(parameter.choices), "prior": parameter.prior}
    else:
        ends = [int(end) if parameter.kind == "int" else end for end in (parameter.low, parameter.high)]
        scale = "int" if (parameter.kind, parameter.scale) == ("int", "linear") else parameter.scale
        spec = {"range": ends, "scale": scale, "prior": parameter.prior}
    if parameter.when:
        spec["when"] = {parent: list(values) for parent, values in parameter.when}
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
            parameters.append(parameter_of(name, spec))
        except SpaceError as fault:
            raise SpaceError(f"{path}:{line}: {fault}") from None
        lines[name] = line
    for parameter in parameters:
        try:
            _check_condition(parameter, {known.name: known for known in parameters})
        except SpaceError as fault:
            raise SpaceError(f"{path}:{lines[parameter.name]}: {fault}") from None
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
