"""Kinds of arguments: how a field is declared, and how what people type becomes its value.

Used by args.py, search_args.py and verb_args.py alone; knows no argument by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def none_if_word(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() in ("none", "null", "") else value


def cache_word(value: Any) -> Any:
    """`cache=True` means ram, as YOLO users write it; the words may come in any case."""
    word = str(value).lower()
    return {"true": "ram", "false": False, "none": False}.get(word, word)


def layers(value: Any) -> Any:
    """`freeze=10`, `freeze=0,1,2`, `freeze=[0, 22.cv2]` or a list."""
    value = none_if_word(value)
    if isinstance(value, str):
        words = [word.strip(" '\"") for word in value.strip("[] ").split(",")]
        if len(words) == 1 and not value.strip().startswith("["):
            return int(words[0]) if words[0].isdigit() else (words[0],)
        value = [word for word in words if word]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(int(word) if str(word).isdigit() else word for word in value)
    return value


def words(value: Any) -> Any:
    """`a,b` of the command line, `[a, b]` of YAML or a list."""
    if isinstance(value, list | tuple):
        return tuple(value)
    parts = (part.strip(" '\"") for part in str(value).strip("[]() ").split(","))
    return tuple(part for part in parts if part)


def devices(value: Any) -> Any:
    """`device=[0, 1]` of a notebook is `device=0,1` of the command line."""
    if isinstance(value, list | tuple):
        return ",".join(str(part) for part in value)
    return value.strip("[]() ").replace(" ", "") if isinstance(value, str) else value


def yes_no_or_path(value: Any) -> Any:
    """`True`, `False` or a path, in whatever way a command line or YAML writes them."""
    return {"true": True, "false": False, "none": False, "": False}.get(str(value).lower(), value)


STORES = ("s3", "gs", "gcs", "abfs", "abfss", "file")  # of those that pyarrow has, where a file appears whole


def reachable(value: Any) -> Any:
    """`s3://bucket/prefix` or an absolute path."""
    value = none_if_word(value)
    if not isinstance(value, str):
        return value
    scheme, found, rest = value.partition("://")
    if not found and not PurePath(value).is_absolute():
        raise ValueError("must be an absolute path, or say what it is: s3://bucket/prefix")
    if found and scheme not in STORES:
        raise ValueError(f"{scheme}:// is not known: use one of {', '.join(f'{name}://' for name in STORES)}")
    if ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise ValueError(
            "a password would be written into the run folder: give it by the environment, as"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return value


OptionalStr = Annotated[str | None, BeforeValidator(none_if_word)]
OptionalInt = Annotated[int | None, BeforeValidator(none_if_word)]
OptionalFloat = Annotated[float | None, BeforeValidator(none_if_word)]


def arg(default: Any, group: str, doc: str, *, tunable: bool = False, **limits: Any) -> Any:
    extra: Any = {"group": group, "tunable": tunable}
    return Field(default, description=doc, json_schema_extra=extra, allow_inf_nan=False, **limits)


def setting(default: Any, group: str, doc: str, *, tunable: bool = False) -> Any:
    """An argument without a numeric range."""
    extra: Any = {"group": group, "tunable": tunable}
    return Field(default, description=doc, json_schema_extra=extra)


def multiple_of_32(value: int) -> int:
    if value % 32:
        low = value // 32 * 32
        choices = f"{low} or {low + 32}" if low else "32"
        raise ValueError(f"must be a multiple of 32, the largest stride: use {choices}")
    return value
