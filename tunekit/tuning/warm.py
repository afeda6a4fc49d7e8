"""`warm_start=`: the folders of earlier searches in, the trials that a new search begins with out.

Of each search there come its winner, if it was confirmed, and its other whole trials by their fitness, down
to that of its defaults, less those that did not stand the confirmation; which of them are taken is chosen in
`search/warm.py`. Reads the folders once, before the new search has one of its own: a resume needs none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tunekit.errors import ArgumentError, RunFolderError
from tunekit.results.confirmation import DEFAULTS, Confirmation, verdict
from tunekit.results.trials import JOURNAL, TrialRow, read_trials
from tunekit.search.space import Space
from tunekit.search.warm import Start, choose


def warm_starts(folders: str, space: Space, iterations: int) -> tuple[list[Start], str]:
    """What the search of `space` begins with, after the defaults, and what the user should know of that.

    `folders`: as in `TuneArgs.warm_start`.
    """
    runs = list(dict.fromkeys(part.strip() for part in folders.split(",") if part.strip()))
    earlier = [_good(run, space) for run in runs]
    found = choose(earlier, space)
    if len(found) >= iterations:
        raise ArgumentError(
            f"iterations={iterations} is too few for the defaults and the {len(found)} trials that "
            f"warm_start= takes from earlier searches: give at least {len(found) + 1}"
        )
    return found, _note(found, earlier, space)


def _good(run: str, space: Space) -> list[Start]:
    """The good trials of the search in that folder, the best first."""
    if not (Path(run) / JOURNAL).is_file():
        raise RunFolderError(f"warm_start={run}: no tune is there ({Path(run) / JOURNAL} is missing)")
    trials = read_trials(Path(run))
    whole = [row for row in trials if row.state == "COMPLETE" and row.fitness is not None]
    if not whole:
        raise RunFolderError(
            f"warm_start={run}: none of its trials was trained to its end, it has {_states(trials)}: "
            "leave it out, or go on with it first"
        )
    searched = dict.fromkeys(name for row in whole for name in row.params)
    here = [parameter.name for parameter in space.parameters]
    if not any(name in here for name in searched):
        raise ArgumentError(
            f"warm_start={run}: it searched {', '.join(searched)}, and here {', '.join(here)} are searched: "
            "they have nothing in common, so leave it out"
        )
    confirmation = verdict(Path(run), trials)
    winner = None if confirmation is None else confirmation.winner
    level = next((row.fitness or 0.0 for row in whole if row.number == DEFAULTS), 0.0)
    good = [row for row in whole if row.number == winner or (row.fitness or 0.0) >= level]
    good.sort(key=lambda row: (row.number != winner, -(row.fitness or 0.0), row.number))
    refuted = _refuted(confirmation)
    return [Start(run, row.number, row.params) for row in good if row.number not in refuted]


def _refuted(confirmation: Confirmation | None) -> set[int]:
    """Trials that were worse than the defaults when they were run again."""
    found = None if confirmation is None else confirmation.comparison
    if found is None or found.defaults.mean is None:
        return set()
    means = {number: tally.mean for number, tally in found.others.items()}
    return {number for number, mean in means.items() if mean is None or mean < found.defaults.mean}


def _states(trials: Sequence[TrialRow]) -> str:
    words = {"PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "interrupted or running"}
    counts = Counter(row.state for row in trials)
    return ", ".join(f"{counts[state]} {word}" for state, word in words.items() if counts[state]) or "none"


def _note(found: Sequence[Start], earlier: Sequence[Sequence[Start]], space: Space) -> str:
    known = {name for line in earlier for start in line for name in start.params}
    lacking = sorted(known - {parameter.name for parameter in space.parameters})
    if not found:
        return "warm start: the best of the earlier searches is nearly the defaults, so nothing is taken over"
    told = ", ".join(start.source for start in found)
    left_out = f"; not searched here, so left out: {', '.join(lacking)}" if lacking else ""
    return f"warm start, after the defaults: {told}{left_out}"
