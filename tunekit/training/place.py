"""The room that Ray keeps for a group of workers: how it is known, and given up when Ray does not.

Ray Train (2.60) tells nobody which placement group is that of its workers. Its own actor that removes the one
of a controller that was killed is told of it when the workers are up: until then, which takes them seconds,
nobody knows of it, and it is kept for as long as the job lasts. So each group asks for another number of
bytes, by which its place is known.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import ray
from ray import PlacementGroupID
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

# Bytes. A trial's own place asks for one byte, and whoever else asks for memory in the same job for more.
TRAININGS, SLOTS = range(2**10, 2**20), range(2**20, 2**24)


def new_mark(whose: range) -> int:
    """Bytes of memory that each worker of a group is to ask for. Not from a seed, which groups may share."""
    return random.SystemRandom().choice(whose)


def free_places(is_dead: Callable[[int], bool]) -> None:
    """Give up what Ray still holds, in this job, for groups whose mark `is_dead`."""
    job = ray.get_runtime_context().get_job_id()
    for number, place in placement_group_table().items():
        if place["state"] == "REMOVED" or not number.endswith(job):  # so ends a group's id
            continue
        asked = {int(bundle.get("memory", 0)) for bundle in place["bundles"].values()}
        mark = asked.pop() if len(asked) == 1 else 0
        if (mark in TRAININGS or mark in SLOTS) and is_dead(mark):
            remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(number)))
