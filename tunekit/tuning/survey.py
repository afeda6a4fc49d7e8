"""What is known of a data set before the first trial: arguments in, classes and counts out."""

from __future__ import annotations

from dataclasses import dataclass

from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.data.labels import summarize
from tunekit.data.sources import open_sources
from tunekit.errors import DataError
from tunekit.search_args import TuneArgs


@dataclass(frozen=True)
class Survey:
    """`problems`: sentences on images and labels that cannot be used; empty where there are none.

    `tested`: there is a test split, and the search's confirmation is to be measured on it.
    """

    names: list[str]
    training: int
    validation: int
    problems: str
    tested: bool = False

    def fingerprint(self) -> dict[str, object]:
        """What scores depend on: they can be compared where this is equal."""
        return {"names": self.names, "training images": self.training, "validation images": self.validation}


def survey_data(args: TuneArgs) -> Survey:
    """Checks the splits before anything starts, and decodes them once for all trials of this node."""
    sources = open_sources(args)
    problems = summarize([*sources.train.problems, *sources.val.problems])
    config = load_data_config(args.data)
    tested = bool(args.fresh_seeds and config.test)
    if tested:
        try:
            open_split(config, "test", args.imgsz, "disk" if args.cache == "gpu" else args.cache)
        except DataError as fault:  # many a data set names one that has no labels
            tested = False
            problems = "\n".join(filter(None, [problems, f"the test split is left out: {fault}"]))
    return Survey(list(sources.names), len(sources.train), len(sources.val), problems, tested)
