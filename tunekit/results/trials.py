"""The trials of a tune, as plain rows: what the study in the run folder says about each.

In: <run>/study.journal, or the Optuna study that the search has open. Out: TrialRow, by number. Reads
only, so it may run beside the search; knows neither Ray nor torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import RunFolderError

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

JOURNAL = "study.journal"
ORIGIN, LOSER = "origin", "instead_of"  # attributes of a population's child
COSTS = "costs"  # attribute of a trial that trained to its end, where there are several objectives
METRICS = ("metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)")
FINISHED = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True)
class TrialRow:
    """One trial. `fitness` is its best epoch's; a failed trial has none."""

    number: int
    state: str  # RUNNING, COMPLETE, PRUNED (stopped early) or FAIL
    fitness: float | None
    params: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)  # of the best epoch, by the names of results.csv
    costs: dict[str, float] = field(default_factory=dict)  # the objectives beside the fitness; less is better
    epochs: int = 0
    seconds: float | None = None
    reason: str = ""  # of a failure, or why it was cut off
    # Of a population's child: its parent, after which epoch of that it goes on, and whose place it took.
    origin: tuple[int, int] | None = None
    instead_of: int | None = None


def read_trials(run_dir: Path) -> list[TrialRow]:
    """All trials that were started, as the journal has them now."""
    journal = run_dir / JOURNAL
    if not journal.is_file():  # JournalFileBackend would make it
        raise RunFolderError(f"{run_dir} is no run folder of tunekit tune: it has no {JOURNAL}")
    return _rows(read_study(journal)[0])


def read_study(journal: Path) -> tuple[list[FrozenTrial], dict[str, Any]]:
    """All trials of the study in that file, waiting ones too, and the study's own attributes."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        # Reading takes no lock, so that of a killed writer does not matter, nor does half a last line.
        storage = JournalStorage(JournalFileBackend(str(journal)))
        studies = storage.get_all_studies()
        if not studies:
            return [], {}
        number = studies[0]._study_id
        return storage.get_all_trials(number, deepcopy=False), storage.get_study_user_attrs(number)
    except (ValueError, KeyError, TypeError, OSError) as fault:
        raise RunFolderError(f"{journal} cannot be read: {fault}") from fault


def trials_of(study: Study) -> list[TrialRow]:
    """The same of a study that is open."""
    return _rows(study.get_trials(deepcopy=False))


def best_trial(trials: Iterable[TrialRow]) -> TrialRow | None:
    """The highest fitness among the finished; of equal ones that with lower costs, then the earlier."""
    ranked = [row for row in trials if row.state in ("COMPLETE", "PRUNED") and row.fitness is not None]
    return max(ranked, key=place, default=None)


def place(row: TrialRow) -> tuple[float | None, list[float], int]:
    """What is largest in the best."""
    return row.fitness, [-cost for cost in row.costs.values()], -row.number


def _rows(trials: list[FrozenTrial]) -> list[TrialRow]:
    return [trial_row(trial) for trial in trials if trial.state.name != "WAITING"]


def trial_row(trial: FrozenTrial) -> TrialRow:
    """A trial of a study as a row."""
    attributes = trial.user_attrs
    state = trial.state.name
    fitness = None
    if state == "COMPLETE":
        fitness = trial.values[0]
    elif state != "FAIL":
        fitness = max(trial.intermediate_values.values(), default=None)
    return TrialRow(
        number=trial.number,
        state=state,
        fitness=fitness,
        params=dict(trial.params),
        metrics=dict(attributes.get("metrics") or {}),
        costs=dict(attributes.get(COSTS) or {}),
        epochs=int(attributes.get("epochs") or max(trial.intermediate_values, default=0)),
        seconds=attributes.get("seconds"),
        reason=str(attributes.get("reason") or ""),
        origin=tuple(attributes[ORIGIN]) if ORIGIN in attributes else None,
        instead_of=attributes.get(LOSER),
    )
