"""What is known of a data set before the first trial: arguments in, classes and counts out."""

from __future__ import annotations

from dataclasses import dataclass

from tunekit.data.labels import summarize
from tunekit.data.sources import open_sources
from tunekit.search_args import TuneArgs


@dataclass(frozen=True)
class Survey:
    """`problems`: a sentence on images and labels that cannot be used; empty where there are none."""

    names: list[str]
    training: int
    validation: int
    problems: str

    def fingerprint(self) -> dict[str, object]:
        """What scores depend on: they can be compared where this is equal."""
        return {"names": self.names, "training images": self.training, "validation images": self.validation}


def survey_data(args: TuneArgs) -> Survey:
    """Checks both splits before anything starts, and decodes them once for all trials of this node."""
    sources = open_sources(args)
    problems = summarize([*sources.train.problems, *sources.val.problems])
    return Survey(list(sources.names), len(sources.train), len(sources.val), problems)
