"""What a cluster's nodes must have before a trial runs there: this package, the data, the model, and the run
folder, or the storage.

In: the search's arguments, its models and what this node found. Out: nothing, or one error that names the
node. Each node decodes the images into its own cache on the way, so that its trials find them ready.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tunekit import __version__
from tunekit.cluster import is_client, user_directory
from tunekit.errors import ResourceError, TunekitError
from tunekit.search_args import TuneArgs
from tunekit.tuning.probe import Probe
from tunekit.tuning.survey import Survey, survey_data

GONE_SECONDS = 3.0  # until the cluster knows that a node has gone


@dataclass(frozen=True)
class Question:
    """What each node is asked."""

    args: TuneArgs
    models: tuple[str, ...]
    directory: Path | None  # which relative paths are meant from; None: the process is there
    probe: Probe  # of where trials are kept


@dataclass(frozen=True)
class Answer:
    version: str
    survey: Survey | None = None
    problem: str = ""


def check_nodes(args: TuneArgs, models: tuple[str, ...], here: Survey, probe: Probe) -> None:
    """Raise ResourceError if another node of the cluster could not run this search's trials.

    `models`: those that trials may have. `here`: what this node has found, or a client, to whom all nodes are
    other ones. `probe`: of where trials are kept.
    """
    own = None if is_client() else ray.get_runtime_context().get_node_id()
    others = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["NodeID"] != own}
    if not others:
        return
    try:
        probe.put()
        question = Question(args, models, user_directory(), probe)
        coming = {
            node: ray.remote(look)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            .remote(question)
            for node in others
        }
        for node, answer in coming.items():
            name = f"{others[node]['NodeManagerHostname']} ({others[node]['NodeManagerAddress']})"
            found = _answer(node, name, answer)
            if found is not None:
                _compare(name, found, here)
    finally:
        probe.remove()


def _answer(node: str, name: str, coming: ray.ObjectRef[Answer]) -> Answer | None:
    """None: the node has gone in the meantime."""
    try:
        return ray.get(coming)
    except RayError as fault:
        time.sleep(GONE_SECONDS)
        if not any(known["Alive"] for known in ray.nodes() if known["NodeID"] == node):
            return None
        lines = str(fault).splitlines()
        raise ResourceError(
            f"node {name} cannot run tunekit: {(lines or [type(fault).__name__])[-1]}; install it there"
        ) from fault


def _compare(name: str, answer: Answer, here: Survey) -> None:
    if answer.version != __version__:
        raise ResourceError(f"node {name} has tunekit {answer.version}, this one has {__version__}")
    if answer.survey is None:
        raise ResourceError(f"node {name}: {answer.problem}")
    theirs = answer.survey.fingerprint()
    for key, value in here.fingerprint().items():
        if theirs[key] != value:
            raise ResourceError(
                f"node {name} has another data set: its {key} are {theirs[key]}, here they are {value}"
            )


def look(question: Question) -> Answer:
    """On the node itself."""
    from tunekit.models.start import check_model  # here: the driver sends this function, and needs no model

    try:
        if question.directory is not None:
            os.chdir(question.directory)
    except OSError:
        return Answer(
            __version__,
            problem=f"the folder {question.directory}, where the search was started, is not there: "
            "start it in one that all nodes have",
        )
    try:
        for model in question.models:
            check_model(model, question.args.pretrained)
        found = survey_data(question.args)
    except TunekitError as fault:
        return Answer(__version__, problem=str(fault))
    problem = question.probe.problem()
    return Answer(__version__, problem=problem) if problem else Answer(__version__, found)
