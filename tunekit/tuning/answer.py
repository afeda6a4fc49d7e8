"""What a search says at its end: the trials in, sentences for the user out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tunekit.errors import TrainingError
from tunekit.results.confirmation import Confirmation
from tunekit.results.importance import ENOUGH, Importance, scored
from tunekit.results.pareto import pareto_words
from tunekit.results.trials import TrialRow, best_trial
from tunekit.search_args import TuneArgs
from tunekit.tuning.searcher import StudySearcher

NAMED = 6  # hyperparameters in a line


def answer(
    folder: Path,
    trials: list[TrialRow],
    confirmation: Confirmation | None = None,
    weighed: Sequence[Importance] = (),
) -> list[str]:
    """What came of it, of its `confirmation`, and what mattered (`weighed`).

    Raises TrainingError when all trials failed.
    """
    counts = Counter(trial.state for trial in trials)
    if trials and counts["FAIL"] == len(trials):
        raise TrainingError(
            f"all {len(trials)} trials failed; {_commonest_reason(trials)}. "
            f"All reasons are in {as_typed(folder / 'tune_results.csv')}"
        )
    words = {"COMPLETE": "done", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "interrupted"}
    told = ", ".join(f"{counts[state]} {word}" for state, word in words.items() if counts[state])
    lines = [f"{len(trials)} trials: {told}" if trials else "no trial was begun"]
    if counts["FAIL"]:
        lines.append(_commonest_reason(trials))
    best = best_trial(trials)
    if best is None or best.fitness is None:
        return lines
    gain = _gain(trials[0], best.number, best.fitness)
    lines.append(f"best mAP50-95 {best.fitness:.4f}: {gain}; one seed, on the validation split")
    if confirmation is not None:
        lines += confirmation.words()
    if found := pareto_words(trials):
        lines += [*found, f"their weights: {as_typed(folder / 'trials' / 'NUMBER' / 'weights' / 'best.pt')}"]
    lines += _importance(folder, trials, weighed)
    lines.append(f"results and the best weights are in {as_typed(folder)}")
    lines.append(f"train with the best: tunekit train cfg={as_typed(folder / 'best_hyperparameters.yaml')}")
    return lines


def _importance(folder: Path, trials: list[TrialRow], weighed: Sequence[Importance]) -> list[str]:
    """What mattered, what ran into an end of its range, what had no effect: a line each, where it is so."""
    if not weighed:
        return [f"too few trials to tell which hyperparameters mattered: {len(scored(trials))} of {ENOUGH}"]
    lines = []
    mattered = [row.parameter for row in weighed if row.verdict == "mattered"]
    idle = [row.parameter for row in weighed if row.verdict == "no effect" and not row.bound]
    bounds = [f"{row.parameter} ({row.bound} end)" for row in weighed if row.bound]
    lines.append(
        f"what mattered most: {_named(mattered)}"
        if mattered
        else "no hyperparameter's effect stands out from the noise: more trials may tell"
    )
    if bounds:
        lines.append(
            f"the best trials crowd at the end of the range of {_named(bounds)}: widen it in a copy of "
            f"{as_typed(folder / 'space.yaml')}, and search again: tunekit tune space=COPY.yaml"
        )
    if idle:
        lines.append(f"without a noticeable effect, so a next search can leave them out: {_named(idle)}")
    return lines


def _named(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def early(folder: Path, args: TuneArgs, searcher: StudySearcher) -> list[str]:
    """Why `stop`, `time` or a grid ended the search, and how to have more of it; nothing otherwise."""
    if searcher.used_up:
        return [
            "ended early: every point of the grid has been tried; for a finer one begin a new search with "
            f"more than steps={args.steps}"
        ]
    if not searcher.spent:
        return []
    if searcher.spent == "stop":
        why, more = f"the last {args.stop} trials brought nothing better (stop={args.stop})", " stop=None"
    else:
        why, more = f"the time was up (time={args.time:g})", ""
        if searcher.cut_off:
            why += f"; {searcher.cut_off} of its trials ended before their last epoch"
    if not searcher.left:
        more += f" iterations={args.iterations + searcher.cut_off}"
    return [f"ended early: {why}; for more: tunekit tune resume={as_typed(folder)}{more}"]


def as_typed(path: Path) -> str:
    """Relative to where the user is, when it is below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _gain(defaults: TrialRow, number: int, fitness: float) -> str:
    if number == defaults.number:
        return "trial 0, the defaults themselves: no other trial beat them"
    if defaults.fitness is None:
        return f"trial {number}; the defaults (trial 0) have no score to compare with"
    partly = "" if defaults.state == "COMPLETE" else f", which came to epoch {defaults.epochs} only"
    return f"trial {number}, {fitness - defaults.fitness:+.4f} against the defaults (trial 0{partly})"


def _commonest_reason(trials: list[TrialRow]) -> str:
    reasons = Counter(trial.reason for trial in trials if trial.state == "FAIL")
    reason, count = reasons.most_common(1)[0]
    return f"the commonest reason ({count} of {reasons.total()}): {reason}"
