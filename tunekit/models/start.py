"""What a training begins with: model= and pretrained= of its arguments -> a model with weights.

    model=yolo11n.yaml                          fresh weights
    model=yolo11n.yaml pretrained=yolo11n.pt    the weights of the checkpoint that fit
    model=yolo11n.pt                            its architecture and weights, for the data set's classes
    model=yolo11n.pt pretrained=False           its architecture, fresh weights

Fresh weights are a function of the seed alone. Knows nothing of devices or data, only of class names.
"""

from __future__ import annotations

from pathlib import Path

from tunekit.args import TrainArgs
from tunekit.errors import ArgumentError, CheckpointError
from tunekit.models.build import DetectionModel, build_model, load_spec
from tunekit.models.checkpoint import Checkpoint, described_model, with_class_branch
from tunekit.models.spec import ModelSpec
from tunekit.models.transfer import CLASS_BRANCH, Transfer, transfer
from tunekit.models.weights import read_checkpoint

FIXED = ".dfl.conv.weight"  # the same numbers in every model
SHOWN = 5  # names of classes in a sentence


def starting_model(args: TrainArgs, names: tuple[str, ...]) -> tuple[DetectionModel, str | None]:
    """The model, on the CPU, and a sentence about where its weights come from, unless all are fresh."""
    if args.model.endswith(".pt"):
        return _continued(args, names)
    spec = load_spec(args.model)
    if not isinstance(args.pretrained, str):
        return build_model(spec, names, seed=args.seed), None
    checkpoint = read_checkpoint(Path(args.pretrained))
    model = build_model(_with_its_width(spec, names, checkpoint), names, seed=args.seed)
    moved = transfer(model, checkpoint)
    if all(name in moved.fresh or name.endswith(FIXED) for name in model.state_dict()):
        raise CheckpointError(
            f"pretrained={args.pretrained}: none of its weights fits model={args.model}; give a checkpoint "
            "of that architecture and scale, or leave pretrained out"
        )
    return model, _sentence(args.pretrained, checkpoint, model, moved)


def check_model(model: str, pretrained: bool | str) -> None:
    """Raise what is wrong with model= and pretrained=: ModelError, CheckpointError or ArgumentError.

    Cheap, and asked before anything that takes time.
    """
    if model.endswith(".pt"):
        if isinstance(pretrained, str):
            raise ArgumentError(
                f"model={model} brings its own weights: leave pretrained={pretrained} out, or give a "
                "model YAML"
            )
        read_checkpoint(Path(model))
        return
    load_spec(model)
    if isinstance(pretrained, str):
        read_checkpoint(Path(pretrained))


def _continued(args: TrainArgs, names: tuple[str, ...]) -> tuple[DetectionModel, str]:
    """A checkpoint's model for other classes; what it knows of the same ones it keeps."""
    checkpoint = read_checkpoint(Path(args.model))
    if args.pretrained is False:
        model = build_model(checkpoint.spec, names, seed=args.seed)
        return model, f"{args.model}: its architecture with fresh weights (pretrained=False)"
    spec = _with_its_width(checkpoint.spec, names, checkpoint)
    model = build_model(spec, names, seed=args.seed)
    moved = transfer(model, checkpoint)
    unfit = [name for name in moved.fresh if moved.same_classes or not CLASS_BRANCH.match(name)]
    if unfit:
        raise CheckpointError(
            f"{args.model}: its {unfit[0]} does not fit its model description; the file was altered, so take "
            "another"
        )
    return model, _sentence(args.model, checkpoint, model, moved)


def _with_its_width(spec: ModelSpec, names: tuple[str, ...], checkpoint: Checkpoint) -> ModelSpec:
    """With the width of the checkpoint's class branch, so that all of it but the outputs comes over.

    Where the head reads other maps than the checkpoint's, its branches cannot come over: then, and where the
    table says its width itself, it stays.
    """
    model = described_model(spec, names)
    ours = {name: tuple(place.shape) for name, place in model.state_dict().items()}
    theirs = {name: tuple(weight.shape) for name, weight in checkpoint.weights.items()}
    boxes = f"model.{len(model.model) - 1}.cv2."
    reading = [name for name in ours if name.startswith(boxes) and name.endswith(".0.conv.weight")]
    alike = all(name in theirs and ours[name][1] == theirs[name][1] for name in reading)
    if not alike or "cls_width" in spec.yaml:
        return spec
    return with_class_branch(spec, ours, theirs, kind=False)


def _sentence(path: str, checkpoint: Checkpoint, model: DetectionModel, moved: Transfer) -> str:
    count = "all" if moved.loaded == moved.total else f"{moved.loaded} of"
    told = f"begins with {count} {moved.total} tensors of {path}"
    if moved.same_classes:
        return told
    told += f"; its {len(checkpoint.names)} classes give way to {len(model.names)}"
    if not moved.known:
        return f"{told}, whose outputs begin anew"
    shown = ", ".join(moved.known[:SHOWN]) + (", ..." if len(moved.known) > SHOWN else "")
    return f"{told}, of which it knows {len(moved.known)} by name ({shown})"
