"""Every argument of the verbs that hand a search to a cluster or speak to one: as in args.py, each one once.

`ARGUMENTS` has all verbs, with the model of their arguments.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from pydantic import create_model
from pydantic.fields import FieldInfo

from tunekit.args import Arguments, TrainArgs, ValArgs, tunable_names
from tunekit.fields import OptionalInt, OptionalStr, arg, setting
from tunekit.search_args import TuneArgs


class SubmitArgs(Arguments):
    """Arguments of `tunekit submit`."""

    address: OptionalStr = setting(
        None, "job", "the dashboard of a Ray cluster: http://HOST:8265; RAY_API_SERVER_ADDRESS when left out"
    )
    job: OptionalStr = setting(
        None, "job", "the command to run there, without `tunekit`; on the command line its words just follow"
    )
    attach: OptionalStr = setting(None, "job", "a job's id: say what it says")
    stop: OptionalStr = setting(None, "job", "a job's id: ask it to stop; a search can be resumed")
    name: OptionalStr = setting(None, "job", "the new job's id; chosen by Ray when left out")
    follow: bool = setting(True, "job", "stay until the job ends, and say what it says")
    working_dir: str = setting(".", "job", "the folder that goes along, but for what .gitignore leaves out")
    max_size: float = arg(100.0, "job", "MB that may go along", gt=0)


class RunArgs(Arguments):
    """Arguments of `tunekit status`, and what the other verbs that speak to a search share with it."""

    run: OptionalStr = setting(
        None, "run", "the search's folder, such as runs/tune/first; the latest in runs/tune when left out"
    )


class StopArgs(RunArgs):
    """Arguments of `tunekit stop`."""

    trial: OptionalInt = arg(None, "run", "the trial to stop; the whole search when left out", ge=0)


def _left_out(field: FieldInfo) -> tuple[Any, FieldInfo]:
    """The same argument, but None when it is not given."""
    field = copy(field)
    field.default = None
    return field.annotation, field


_CANDIDATE: dict[str, Any] = {name: _left_out(TrainArgs.model_fields[name]) for name in tunable_names()}
AddArgs: type[RunArgs] = create_model("AddArgs", __base__=RunArgs, **_CANDIDATE)
"""Arguments of `tunekit add`: hyperparameters, each None where it is left out."""

ARGUMENTS: dict[str, type[Arguments]] = {
    "tune": TuneArgs,
    "train": TrainArgs,
    "val": ValArgs,
    "status": RunArgs,
    "stop": StopArgs,
    "add": AddArgs,
    "submit": SubmitArgs,
}
