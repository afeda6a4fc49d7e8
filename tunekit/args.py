"""Every argument of every verb: name, type, default, range and doc, once.

The command line, `--help`, the README's tables, the search-space checks and the YAML headers read
these models. A verb's model is frozen: what a run was called with is what it ran with.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator

from tunekit.fields import (
    OptionalFloat,
    OptionalInt,
    OptionalStr,
    arg,
    cache_word,
    devices,
    layers,
    multiple_of_32,
    setting,
    yes_no_or_path,
)

OPTIMIZERS = ("SGD", "MuSGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSProp")

# Arguments of YOLO's other tasks, with the values that change nothing: so a settings file written elsewhere
# still reads, and whoever means something by one of them is told.
OTHER_TASKS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "pose": ("pose models", (12.0,)),
    "kobj": ("pose models", (1.0, 2.0)),
    "rle": ("pose models", (1.0,)),
    "angle": ("oriented-box models", (1.0,)),
    "overlap_mask": ("segmentation models", (True,)),
    "mask_ratio": ("segmentation models", (4,)),
    "retina_masks": ("segmentation models", (False,)),
    "dropout": ("classification models", (0.0,)),
    "auto_augment": ("classification models", ("randaugment", None)),
    "erasing": ("classification models", (0.4,)),
    "task": ("other tasks than detection", ("detect",)),
}


class Arguments(BaseModel):
    """Base of the verbs' arguments: frozen, and nothing unknown passes. `device=0` may be a number."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), coerce_numbers_to_str=True
    )


class ModelAndDataArgs(Arguments):
    """What train, val and tune share."""

    device: Annotated[OptionalStr, BeforeValidator(devices)] = setting(
        None, "machine", "cpu, cuda, mps, a GPU number or several (0,1); chosen by itself when left out"
    )
    threads: OptionalInt = arg(
        None, "machine", "CPU threads to compute with; all that the machine has when left out", ge=1
    )
    loader_workers: OptionalInt = arg(
        None, "machine", "threads that load and augment images; chosen by itself when left out", ge=0
    )


class TrainArgs(ModelAndDataArgs):
    """Arguments of `tunekit train`."""

    cache: Annotated[Literal["disk", "ram", "gpu", False], BeforeValidator(cache_word)] = setting(
        "disk",
        "data",
        "decoded images: disk (a memory-mapped file), ram (the same in memory), False (decode anew),"
        " gpu (in the GPU's memory, where they are augmented, too)",
    )

    model: str = setting(
        "yolo11n.yaml",
        "train",
        "a model YAML (yolo11n.yaml, yolov8s.yaml, your own) or a checkpoint",
        tunable=True,
    )
    data: str = setting("digits", "data", "a data-set YAML, or digits: the embedded handwritten digits")
    epochs: int = arg(100, "train", "passes over the training images", ge=1)
    pretrained: Annotated[bool | str, BeforeValidator(yes_no_or_path)] = setting(
        True,
        "train",
        "a checkpoint whose matching weights a model YAML begins with;"
        " False: begin a checkpoint's model from scratch",
    )
    batch: int | float = setting(
        16,
        "train",
        "images a step, over all workers; -1: as many as fill 60% of the GPU's memory, 0.7: 70% of it",
        tunable=True,
    )
    imgsz: int = arg(640, "train", "side of the square input in pixels, a multiple of 32", ge=32)
    patience: int = arg(100, "train", "stop after so many epochs without a better fitness; 0: never", ge=0)
    time: OptionalFloat = arg(
        None, "train", "hours to train: the number of epochs is fitted to them, whatever epochs says", gt=0
    )
    val: bool = setting(True, "train", "validate after every epoch; False: after the last one only")
    single_cls: bool = setting(False, "data", "treat all classes as one")
    rect: bool = setting(
        False, "data", "batches of like shapes with little padding, without mosaic, mixup and cutmix"
    )
    multi_scale: float = arg(
        0.0, "data", "each batch at a random size of imgsz·(1 ± multi_scale)", tunable=True, ge=0, lt=1
    )
    freeze: Annotated[int | tuple[int | str, ...] | None, BeforeValidator(layers)] = setting(
        None, "train", "layers that keep their weights: the first n, or a list of numbers or names (22.cv2)"
    )
    fraction: float = arg(1.0, "data", "share of the training images to use", gt=0, le=1)
    seed: int = arg(0, "train", "seed of everything random", ge=0)
    workers: OptionalInt = arg(
        None,
        "machine",
        "processes that train one model together; one for each device when left out",
        ge=1,
    )
    lanes: OptionalInt = arg(
        None,
        "machine",
        "batches of one optimizer step to learn from side by side on a CPU; as many as threads and memory"
        " allow when left out",
        ge=1,
    )
    sync_bn: bool = setting(False, "machine", "batch norm over the images of all workers (CUDA)")
    deterministic: bool = setting(True, "machine", "repeatable arithmetic on GPUs, at some cost of speed")
    compile: bool = setting(False, "machine", "let torch.compile make the model faster, minutes later")
    channels_last: bool = setting(True, "machine", "keep pixels' channels together in memory: faster")
    profile: bool = setting(
        False,
        "output",
        "measure where the time of the first epoch goes, into profile.txt; without lanes",
    )
    amp: bool = setting(True, "machine", "compute in bf16 or fp16 where this device is faster that way")
    optimizer: Literal[("auto", *OPTIMIZERS)] = setting(  # type: ignore[valid-type]
        "auto",
        "optimization",
        "the optimizer; auto chooses it together with lr0 and momentum, whatever these are set to",
        tunable=True,
    )
    cos_lr: bool = setting(
        False, "optimization", "cosine learning-rate schedule instead of linear", tunable=True
    )
    nbs: int = arg(
        64, "optimization", "nominal batch: gradients are accumulated up to it", tunable=True, ge=1
    )
    lr_batch: OptionalInt = arg(
        None, "optimization", "the batch that lr0 is meant for: lr0 is multiplied by batch / lr_batch", ge=1
    )
    save: bool = setting(True, "output", "keep weights: best.pt, last.pt")
    save_period: int = arg(-1, "output", "also keep the weights of every so many epochs; -1: do not", ge=-1)
    plots: bool = setting(True, "output", "draw curves, batches, labels and the confusion matrix")
    save_json: bool = setting(False, "output", "write the best model's detections as COCO JSON")
    verbose: bool = setting(True, "output", "a line an epoch, and a table of the classes at the end")
    project: str = setting("runs/train", "output", "folder that holds the runs")
    name: OptionalStr = setting(None, "output", "name of the run; model and data name it when left out")
    exist_ok: bool = setting(False, "output", "write into an existing run of that name, replacing it")
    resume: Annotated[bool | str, BeforeValidator(yes_no_or_path)] = setting(
        False,
        "output",
        "a run folder or its last.pt to go on with, or True: that of model=; its own arguments hold",
    )

    lr0: float = arg(0.01, "optimization", "initial learning rate", tunable=True, gt=0, le=1)
    lrf: float = arg(0.01, "optimization", "final learning rate as a share of lr0", tunable=True, gt=0, le=1)
    momentum: float = arg(0.937, "optimization", "SGD momentum, Adam beta1", tunable=True, ge=0, lt=1)
    weight_decay: float = arg(0.0005, "optimization", "L2 weight decay", tunable=True, ge=0, le=1)
    warmup_epochs: float = arg(
        3.0, "optimization", "epochs of warm-up, fractions allowed", tunable=True, ge=0
    )
    warmup_momentum: float = arg(
        0.8, "optimization", "momentum at the start of warm-up", tunable=True, ge=0, lt=1
    )
    warmup_bias_lr: float = arg(
        0.1, "optimization", "learning rate of biases at the start of warm-up", tunable=True, ge=0, le=1
    )
    box: float = arg(7.5, "loss", "gain of the box (CIoU) loss", tunable=True, ge=0)
    cls: float = arg(0.5, "loss", "gain of the class (BCE) loss", tunable=True, ge=0)
    cls_pw: float = arg(
        0.0,
        "loss",
        "weight classes by (1/count)^cls_pw against imbalance; 0: all alike",
        tunable=True,
        ge=0,
        le=1,
    )
    dfl: float = arg(
        1.5, "loss", "gain of the distribution focal loss (of YOLO26: the L1 loss)", tunable=True, ge=0
    )
    label_smoothing: float = arg(
        0.0, "loss", "class targets are moved by this share towards 1/2", tunable=True, ge=0, lt=1
    )
    hsv_h: float = arg(0.015, "augmentation", "hue shift, share of the circle", tunable=True, ge=0, le=1)
    hsv_s: float = arg(0.7, "augmentation", "saturation gain, ± share", tunable=True, ge=0, le=1)
    hsv_v: float = arg(0.4, "augmentation", "brightness gain, ± share", tunable=True, ge=0, le=1)
    degrees: float = arg(0.0, "augmentation", "rotation, ± degrees", tunable=True, ge=0, le=180)
    translate: float = arg(0.1, "augmentation", "shift, ± share of the image", tunable=True, ge=0, le=1)
    scale: float = arg(0.5, "augmentation", "zoom, 1 ± scale", tunable=True, ge=0, lt=1)
    shear: float = arg(0.0, "augmentation", "shear, ± degrees", tunable=True, ge=0, lt=90)
    perspective: float = arg(0.0, "augmentation", "perspective, ± share", tunable=True, ge=0, le=0.001)
    flipud: float = arg(0.0, "augmentation", "probability of a flip upside down", tunable=True, ge=0, le=1)
    fliplr: float = arg(0.5, "augmentation", "probability of a flip left to right", tunable=True, ge=0, le=1)
    bgr: float = arg(0.0, "augmentation", "probability of swapping red and blue", tunable=True, ge=0, le=1)
    mosaic: float = arg(
        1.0, "augmentation", "probability of a mosaic of four images", tunable=True, ge=0, le=1
    )
    mixup: float = arg(0.0, "augmentation", "probability of blending two images", tunable=True, ge=0, le=1)
    cutmix: float = arg(
        0.0, "augmentation", "probability of pasting a rectangle of another image", tunable=True, ge=0, le=1
    )
    copy_paste: float = arg(
        0.0, "augmentation", "probability of pasting an object a second time", tunable=True, ge=0, le=1
    )
    copy_paste_mode: Literal["flip", "mixup"] = setting(
        "flip", "augmentation", "paste objects of the same image, mirrored, or, as often, of another image"
    )
    close_mosaic: int = arg(
        10, "augmentation", "last epochs without mosaic, mixup, cutmix and copy_paste", tunable=True, ge=0
    )

    _check_imgsz = field_validator("imgsz")(multiple_of_32)

    @field_validator("batch")
    @classmethod
    def _check_batch(cls, value: float) -> int | float:
        if value == int(value) and value >= 1:
            return int(value)
        if value == -1 or 0 < value < 1:
            return value
        raise ValueError("must be a whole number from 1, or -1 or a share below 1 of the GPU's memory")


class ValArgs(ModelAndDataArgs):
    """Arguments of `tunekit val`."""

    model: str = setting(..., "val", "checkpoint to validate")
    data: OptionalStr = setting(None, "data", "a data-set YAML; the one it was trained on when left out")
    cache: Annotated[Literal["disk", "ram", False], BeforeValidator(cache_word)] = setting(
        "disk",
        "data",
        "decoded images: disk (a memory-mapped file), ram (the same in memory), False (decode anew)",
    )
    split: Literal["train", "val", "test"] = setting("val", "data", "which images to validate on")
    batch: int = arg(16, "val", "images a step", ge=1)
    imgsz: OptionalInt = arg(
        None, "val", "side of the input in pixels; the one it was trained at when left out", ge=32
    )
    conf: float = arg(0.001, "val", "lowest confidence of a detection", ge=0, le=1)
    iou: float = arg(0.7, "val", "overlap above which non-maximum suppression drops a box", ge=0, le=1)
    max_det: int = arg(300, "val", "most detections an image", ge=1)
    end2end: bool | None = setting(
        None,
        "val",
        "YOLO26: detect with the head that needs no NMS (True) or with the other (False); True when left out",
    )
    single_cls: bool = setting(False, "data", "count a detection as right whatever its class")
    half: bool = setting(False, "machine", "compute in bf16 or fp16 instead of float32")
    plots: bool = setting(True, "output", "draw curves, batches and the confusion matrix")
    save_json: bool = setting(False, "output", "write the detections as COCO JSON")
    project: str = setting("runs/val", "output", "folder that holds the runs")
    name: OptionalStr = setting(None, "output", "name of the run; model and data name it when left out")
    exist_ok: bool = setting(False, "output", "write into an existing run of that name, replacing it")

    @field_validator("imgsz")
    @classmethod
    def _check_imgsz(cls, value: int | None) -> int | None:
        return value if value is None else multiple_of_32(value)


def tunable_names(group: str | None = None) -> tuple[str, ...]:
    """The training arguments that a search space may name, or those of a `group` among them."""
    found = {name: field.json_schema_extra for name, field in TrainArgs.model_fields.items()}
    return tuple(
        name
        for name, extra in found.items()
        if isinstance(extra, dict) and extra["tunable"] and group in (None, extra["group"])
    )
