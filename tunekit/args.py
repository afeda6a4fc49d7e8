"""Every argument of every verb: name, type, default, range and doc, once.

The command line, `--help`, the README's tables, the search-space checks and the YAML headers read
these models. A verb's model is frozen: what a run was called with is what it ran with.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from tunekit.errors import ArgumentError

OPTIMIZERS = ("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSProp")


def _none_if_word(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() in ("none", "null", "") else value


def _cache_word(value: Any) -> Any:
    """`cache=True` means ram, as YOLO users write it; the words may come in any case."""
    word = str(value).lower()
    return {"true": "ram", "false": False, "none": False}.get(word, word)


OptionalStr = Annotated[str | None, BeforeValidator(_none_if_word)]
OptionalInt = Annotated[int | None, BeforeValidator(_none_if_word)]
OptionalFloat = Annotated[float | None, BeforeValidator(_none_if_word)]


def _arg(default: Any, group: str, doc: str, *, tunable: bool = False, **limits: Any) -> Any:
    extra: Any = {"group": group, "tunable": tunable}
    return Field(default, description=doc, json_schema_extra=extra, allow_inf_nan=False, **limits)


def _setting(default: Any, group: str, doc: str, *, tunable: bool = False) -> Any:
    """An argument without a numeric range."""
    extra: Any = {"group": group, "tunable": tunable}
    return Field(default, description=doc, json_schema_extra=extra)


class Arguments(BaseModel):
    """Base of the verbs' arguments: frozen, and nothing unknown passes. `device=0` may be a number."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), coerce_numbers_to_str=True
    )


class ModelAndDataArgs(Arguments):
    """What train, val and tune share."""

    device: OptionalStr = _setting(
        None, "machine", "cpu, cuda, mps or a GPU number; chosen by itself when left out"
    )
    threads: OptionalInt = _arg(
        None, "machine", "CPU threads to compute with; all that the machine has when left out", ge=1
    )
    loader_workers: OptionalInt = _arg(
        None, "machine", "threads that load and augment images; chosen by itself when left out", ge=0
    )
    cache: Annotated[Literal["ram", "disk", False], BeforeValidator(_cache_word)] = _setting(
        "disk",
        "data",
        "decoded images: disk (a memory-mapped file), ram (the same in memory), False (decode anew)",
    )


def _multiple_of_32(value: int) -> int:
    if value % 32:
        low = value // 32 * 32
        choices = f"{low} or {low + 32}" if low else "32"
        raise ValueError(f"must be a multiple of 32, the largest stride: use {choices}")
    return value


class TrainArgs(ModelAndDataArgs):
    """Arguments of `tunekit train`."""

    model: str = _setting(
        "yolo11n.yaml", "train", "a model YAML (yolo11n.yaml, yolov8s.yaml, your own) or a checkpoint"
    )
    data: str = _setting("digits", "data", "a data-set YAML, or digits: the embedded handwritten digits")
    epochs: int = _arg(100, "train", "passes over the training images", ge=1)
    batch: int = _arg(16, "train", "images a step", tunable=True, ge=1)
    imgsz: int = _arg(640, "train", "side of the square input in pixels, a multiple of 32", ge=32)
    patience: int = _arg(100, "train", "stop after so many epochs without a better fitness; 0: never", ge=0)
    fraction: float = _arg(1.0, "data", "share of the training images to use", gt=0, le=1)
    seed: int = _arg(0, "train", "seed of everything random", ge=0)
    amp: bool = _setting(True, "machine", "compute in bf16 or fp16 where this device is faster that way")
    optimizer: Literal[("auto", *OPTIMIZERS)] = _setting(  # type: ignore[valid-type]
        "auto",
        "optimization",
        "the optimizer; auto chooses it together with lr0 and momentum, whatever these are set to",
        tunable=True,
    )
    cos_lr: bool = _setting(
        False, "optimization", "cosine learning-rate schedule instead of linear", tunable=True
    )
    nbs: int = _arg(
        64, "optimization", "nominal batch: gradients are accumulated up to it", tunable=True, ge=1
    )
    project: str = _setting("runs/train", "output", "folder that holds the runs")
    name: OptionalStr = _setting(None, "output", "name of the run; model and data name it when left out")
    exist_ok: bool = _setting(False, "output", "write into an existing run of that name, replacing it")
    resume: OptionalStr = _setting(None, "output", "a run folder to go on with; its own arguments hold")

    lr0: float = _arg(0.01, "optimization", "initial learning rate", tunable=True, gt=0, le=1)
    lrf: float = _arg(0.01, "optimization", "final learning rate as a share of lr0", tunable=True, gt=0, le=1)
    momentum: float = _arg(0.937, "optimization", "SGD momentum, Adam beta1", tunable=True, ge=0, lt=1)
    weight_decay: float = _arg(0.0005, "optimization", "L2 weight decay", tunable=True, ge=0, le=1)
    warmup_epochs: float = _arg(
        3.0, "optimization", "epochs of warm-up, fractions allowed", tunable=True, ge=0
    )
    warmup_momentum: float = _arg(
        0.8, "optimization", "momentum at the start of warm-up", tunable=True, ge=0, lt=1
    )
    warmup_bias_lr: float = _arg(
        0.1, "optimization", "learning rate of biases at the start of warm-up", tunable=True, ge=0, le=1
    )
    box: float = _arg(7.5, "loss", "gain of the box (CIoU) loss", tunable=True, ge=0)
    cls: float = _arg(0.5, "loss", "gain of the class (BCE) loss", tunable=True, ge=0)
    cls_pw: float = _arg(
        0.0,
        "loss",
        "weight classes by (1/count)^cls_pw against imbalance; 0: all alike",
        tunable=True,
        ge=0,
        le=1,
    )
    dfl: float = _arg(1.5, "loss", "gain of the distribution focal loss", tunable=True, ge=0)
    hsv_h: float = _arg(0.015, "augmentation", "hue shift, share of the circle", tunable=True, ge=0, le=1)
    hsv_s: float = _arg(0.7, "augmentation", "saturation gain, ± share", tunable=True, ge=0, le=1)
    hsv_v: float = _arg(0.4, "augmentation", "brightness gain, ± share", tunable=True, ge=0, le=1)
    degrees: float = _arg(0.0, "augmentation", "rotation, ± degrees", tunable=True, ge=0, le=180)
    translate: float = _arg(0.1, "augmentation", "shift, ± share of the image", tunable=True, ge=0, le=1)
    scale: float = _arg(0.5, "augmentation", "zoom, 1 ± scale", tunable=True, ge=0, lt=1)
    shear: float = _arg(0.0, "augmentation", "shear, ± degrees", tunable=True, ge=0, lt=90)
    perspective: float = _arg(0.0, "augmentation", "perspective, ± share", tunable=True, ge=0, le=0.001)
    flipud: float = _arg(0.0, "augmentation", "probability of a flip upside down", tunable=True, ge=0, le=1)
    fliplr: float = _arg(0.5, "augmentation", "probability of a flip left to right", tunable=True, ge=0, le=1)
    bgr: float = _arg(0.0, "augmentation", "probability of swapping red and blue", tunable=True, ge=0, le=1)
    mosaic: float = _arg(
        1.0, "augmentation", "probability of a mosaic of four images", tunable=True, ge=0, le=1
    )
    mixup: float = _arg(0.0, "augmentation", "probability of blending two images", tunable=True, ge=0, le=1)
    cutmix: float = _arg(
        0.0, "augmentation", "probability of pasting a rectangle of another image", tunable=True, ge=0, le=1
    )
    copy_paste: float = _arg(
        0.0, "augmentation", "probability of pasting an object, mirrored", tunable=True, ge=0, le=1
    )
    close_mosaic: int = _arg(
        10, "augmentation", "last epochs without mosaic, mixup, cutmix and copy_paste", tunable=True, ge=0
    )

    _check_imgsz = field_validator("imgsz")(_multiple_of_32)


class ValArgs(ModelAndDataArgs):
    """Arguments of `tunekit val`."""

    model: str = _setting(..., "val", "checkpoint to validate")
    data: OptionalStr = _setting(None, "data", "a data-set YAML; the one it was trained on when left out")
    split: Literal["train", "val", "test"] = _setting("val", "data", "which images to validate on")
    batch: int = _arg(16, "val", "images a step", ge=1)
    imgsz: OptionalInt = _arg(
        None, "val", "side of the input in pixels; the one it was trained at when left out", ge=32
    )
    conf: float = _arg(0.001, "val", "lowest confidence of a detection", ge=0, le=1)
    iou: float = _arg(0.7, "val", "overlap above which non-maximum suppression drops a box", ge=0, le=1)
    max_det: int = _arg(300, "val", "most detections an image", ge=1)

    @field_validator("imgsz")
    @classmethod
    def _check_imgsz(cls, value: int | None) -> int | None:
        return value if value is None else _multiple_of_32(value)


class TuneArgs(TrainArgs):
    """Arguments of `tunekit tune`: all of train's, and those of the search."""

    iterations: int = _arg(100, "search", "trials in all, the defaults' one included", ge=1)
    space: str = _setting("default", "search", "a search space: default, quick, augment or your own YAML")
    sampler: Literal["genetic", "tpe", "random"] = _setting(
        "genetic", "search", "what chooses the next trial"
    )
    scheduler: Literal["asha", "none"] = _setting("asha", "search", "what stops trials that are losing")
    grace: OptionalInt = _arg(
        None, "search", "epochs before a trial may be stopped; from epochs and warm-up when left out", ge=1
    )
    reduction: int = _arg(3, "search", "asha goes on with one in so many at each rung", ge=2)
    concurrent: OptionalInt = _arg(None, "machine", "trials at a time; as many as fit when left out", ge=1)
    cpus: OptionalInt = _arg(None, "machine", "CPU cores a trial; from the machine when left out", ge=1)
    gpus: OptionalFloat = _arg(
        None, "machine", "GPUs a trial, fractions allowed; from the machine when left out", ge=0
    )

    optimizer: Annotated[
        Literal[OPTIMIZERS] | None, BeforeValidator(_none_if_word)  # type: ignore[valid-type]
    ] = _setting(
        None,
        "optimization",
        "the optimizer of every trial; when left out the one that train's auto would choose,"
        " with its lr0 and momentum as the defaults",
        tunable=True,
    )
    project: str = _setting("runs/tune", "output", "folder that holds the runs")

    @field_validator("optimizer", mode="before")
    @classmethod
    def _never_auto(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lower() == "auto":
            raise ValueError(
                "auto sets lr0 and momentum itself, so tuning them would have no effect;"
                " leave optimizer out (tune then writes down what auto would choose) or name one of "
                + ", ".join(OPTIMIZERS)
            )
        return value


ARGUMENTS: dict[str, type[Arguments]] = {"tune": TuneArgs, "train": TrainArgs, "val": ValArgs}

# What YOLO users type and we name otherwise.
OTHER_NAMES = {"workers": "loader_workers", "lr": "lr0"}

A = TypeVar("A", bound=Arguments)


def build_args(kind: type[A], settings: Mapping[str, Any], where: str | Mapping[str, str] = "") -> A:
    """`settings` (names to raw values) as validated arguments.

    Raises ArgumentError that names the argument, says what is allowed and, for an unknown name,
    suggests the nearest known one. `where` (a file, or each name's file:line) is put in front.
    """

    def place(name: str) -> str:
        found = where if isinstance(where, str) else where.get(name, "")
        return f"{found}: " if found else ""

    for name in settings:
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


def unknown_name(name: str, kind: type[Arguments]) -> str:
    """The sentence for a name that `kind` does not have."""
    known = list(kind.model_fields)
    owners = [verb for verb, model in ARGUMENTS.items() if name in model.model_fields]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    near = near or [full for full in known if len(name) > 2 and full.startswith(name.lower())][:1]
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


def tunable_names() -> tuple[str, ...]:
    """The training arguments that a search space may name."""
    return tuple(
        name
        for name, field in TrainArgs.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra["tunable"]
    )
