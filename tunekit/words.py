"""The words of a command line after its verb -> names and texts. What they may be is said in args.py."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence

from tunekit.errors import ArgumentError
from tunekit.verbs import VERBS


def parse(verb: str, words: Sequence[str]) -> dict[str, str]:
    """Words of the form key=value, or --key=value, as names and texts."""
    settings: dict[str, str] = {}
    if verb == "submit":
        words, job = _split_at_verb(words)
        if job:
            settings["job"] = shlex.join(job)
    for word in words:
        key, equals, value = word.partition("=")
        name = key.lstrip("-").replace("-", "_")
        if word == "resume":  # as in `tunekit train resume model=.../last.pt`
            equals, value = "=", "True"
        if not equals:
            raise ArgumentError(_not_a_setting(verb, word, name))
        if not name:
            raise ArgumentError(f"'{word}': write name=value without spaces around '='")
        if name in settings:
            raise ArgumentError(f"{name} is given twice: {name}={settings[name]} and {name}={value}")
        settings[name] = value
    return settings


def _split_at_verb(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """submit's own words, and those of the command that it sends."""
    place = next((place for place, word in enumerate(words) if word in VERBS), len(words))
    return words[:place], words[place:]


def _not_a_setting(verb: str, word: str, name: str) -> str:
    from tunekit.verb_args import ARGUMENTS

    names = [*ARGUMENTS[verb].model_fields, "cfg"]
    if word in VERBS:
        return f"one verb at a time: '{verb}' or '{word}'"
    if name in names:
        return f"'{word}' has no value: write {name}=VALUE"
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}=VALUE?" if near else f"; `tunekit {verb} --help` lists the arguments"
    return f"'{word}' is not of the form name=value{hint}"
