"""best_hyperparameters.yaml: the best trial as a file for `tunekit train cfg=...`.

In: the run folder, its trials, and the confirmation that chose one of them, if there is one. Out: the
file's text: header lines for people, then the tuned arguments, then all others the trial ran with, so that
training with the file repeats the trial.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tunekit.errors import RunFolderError
from tunekit.results.confirmation import DEFAULTS, Confirmation
from tunekit.results.pareto import LABELS, TABLE, front
from tunekit.results.trials import FINISHED, METRICS, TrialRow

# Where the trial wrote and what it showed, not what it did.
NOT_CARRIED_OVER = ("project", "name", "exist_ok", "resume", "plots", "verbose")


def best_yaml(
    run_dir: Path, trials: Sequence[TrialRow], best: TrialRow, confirmation: Confirmation | None = None
) -> str:
    """The text; `best` is one of `trials`, and trials/<n>/args.yaml says what else it ran with."""
    header = "".join(f"# {line}\n" for line in _header(run_dir, trials, best, confirmation))
    path = run_dir / "trials" / str(best.number) / "args.yaml"
    others = {
        name: value
        for name, value in _read_yaml(path).items()
        if name not in best.params and name not in NOT_CARRIED_OVER
    }
    repeats = "with which the training repeats it"
    if best.origin is not None:
        repeats = "which alone do not repeat it"
    title = (
        f"the other arguments of trial {best.number}, {repeats}; to train longer,\n"
        "# on all of a machine: tunekit train cfg=best_hyperparameters.yaml epochs=300 device=None "
        "threads=None"
    )
    if not others:
        title = f"the other arguments are not here: {path.relative_to(run_dir)} is gone"
    return f"{header}{_dump(best.params)}\n# {title}\n{_dump(others)}"


def _header(
    run_dir: Path, trials: Sequence[TrialRow], best: TrialRow, confirmation: Confirmation | None
) -> list[str]:
    states = Counter(row.state for row in trials)
    finished = sum(states[state] for state in FINISHED)
    asked = _read_yaml(run_dir / "args.yaml").get("iterations")
    children = sum(row.origin is not None for row in trials)  # of a population, beside the trials asked for
    metrics = [
        f"{name[len('metrics/') : -len('(B)')]} {best.metrics[name]:.5g}"
        for name in METRICS
        if name in best.metrics
    ]
    return [
        f"{finished}/{'?' if asked is None else asked + children} iterations: "
        f"{states['COMPLETE']} complete, {states['PRUNED']} stopped early, {states['FAIL']} failed",
        *([_one_seed(best)] if confirmation is None else _confirmed(best, confirmation)),
        *([", ".join(metrics)] if metrics and confirmation is None else []),
        *_on_the_front(trials, best),
        *_descent(best),
        *([_gain(trials, best)] if confirmation is None else []),
        "train with them: tunekit train cfg=best_hyperparameters.yaml",
    ]


def _one_seed(best: TrialRow) -> str:
    return f"best fitness {best.fitness:.5g}, of trial {best.number} ({best.epochs} epochs)"


def _confirmed(best: TrialRow, confirmation: Confirmation) -> list[str]:
    what = "the defaults" if best.number == DEFAULTS else "confirmed as the best"
    lines = [f"trial {best.number}, {what}", *confirmation.words()]
    run = confirmation.best_run(best.number)
    if run is not None:
        lines.append(f"weights/best.pt is of the confirmation's run {run.number}, with seed {run.seed}")
    return lines


def _on_the_front(trials: Sequence[TrialRow], best: TrialRow) -> list[str]:
    """Where there are several objectives, the best fitness is one answer of many."""
    numbers = [row.number for row in front(trials)]
    if best.number not in numbers:
        return []
    costs = ", ".join(f"{LABELS[name]} {cost:g}" for name, cost in best.costs.items())
    return [f"{costs}; one of the {len(numbers)} on the front: {TABLE} has those that cost less"]


def _descent(best: TrialRow) -> list[str]:
    if best.origin is None:
        return []
    parent, epoch = best.origin
    return [
        f"trial {best.number} went on from trial {parent}'s weights after epoch {epoch}, with these values;",
        "pbt_schedule.yaml has those before, too, and weights/best.pt is what came of all",
    ]


def _gain(trials: Sequence[TrialRow], best: TrialRow) -> str:
    defaults = next((row for row in trials if row.number == 0), None)
    if defaults is None or defaults.fitness is None or best.fitness is None:
        return "gain over the defaults (trial 0): unknown, that trial has no fitness"
    gain = best.fitness - defaults.fitness
    share = f" ({gain / defaults.fitness:+.1%})" if defaults.fitness > 0 else ""
    partly = "" if defaults.state == "COMPLETE" else f" after {defaults.epochs} epochs"
    return f"gain over the defaults (trial 0, {defaults.fitness:.5g}{partly}): {gain:+.5g}{share}"


def _dump(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True) if values else ""


def _read_yaml(path: Path) -> dict[str, Any]:
    """{} where there is no such file: a trial's folder may have been thrown away."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise RunFolderError(f"{path} cannot be read: {fault}") from fault
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} is damaged: it should be a mapping of arguments")
    return content
