"""`resume=`: a run folder's own arguments, with what may be changed on the way.

In: the arguments as given beside resume=, the folder. Out: the recorded ones, so that the run goes on as it
began. Reads args.yaml only.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

import yaml

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError, RunFolderError
from tunekit.search_args import TuneArgs

A = TypeVar("A", bound=TrainArgs)


def resumed_run(args: TrainArgs) -> Path | None:
    """The run folder that `resume=` means (itself, its last.pt or True with model=); None for a new run."""
    if args.resume is False:
        return None
    if args.resume is True and not args.model.endswith(".pt"):
        raise ArgumentError(
            "resume=True goes on with the run of a checkpoint: give model=runs/train/NAME/weights/last.pt, "
            "or the run's folder with resume="
        )
    place = Path(args.model if args.resume is True else str(args.resume))
    return place.parent.parent if place.suffix == ".pt" else place


def resumed_args(args: A, folder: Path, changeable: Collection[str]) -> A:
    """The arguments of the run in `folder`; only those named in `changeable` may be given anew.

    Raises RunFolderError where no run of this verb is there, ArgumentError for an argument that is fixed.
    """
    path = folder / "args.yaml"
    try:
        recorded = yaml.safe_load(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise RunFolderError(f"resume={folder}: no run is there ({path} is missing)") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise RunFolderError(f"resume={folder}: {path} cannot be read ({fault})") from fault
    verb, other = ("tune", "train") if isinstance(args, TuneArgs) else ("train", "tune")
    if not isinstance(recorded, dict):
        raise RunFolderError(f"resume={folder}: {path} is damaged: it should be a mapping of arguments")
    if ("iterations" in recorded) != (verb == "tune"):  # which only a search has
        raise RunFolderError(
            f"resume={folder}: that is no run of tunekit {verb}; to go on with it: "
            f"tunekit {other} resume={folder}"
        )
    named = args.model_fields_set - ({"model"} if args.resume is True else set())
    fixed = sorted(named - {*changeable, "resume"})
    if fixed:
        raise ArgumentError(
            f"{fixed[0]}= cannot be changed while resuming: {folder} goes on with its own arguments; "
            "leave it out"
        )
    given = {name: getattr(args, name) for name in named}
    return build_args(type(args), {**recorded, **given}, where=str(path))
