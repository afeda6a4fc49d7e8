"""The search's one record: an Optuna study in <run>/study.journal, written by the driver alone.

Trial states there: WAITING (the defaults and what a warm start takes, enqueued), RUNNING (also when a killed
search left it so), COMPLETE (values: its best epoch's fitness, then its costs where these are objectives,
too), PRUNED, FAIL. Intermediate values are fitness by epoch, from 1.
User attributes of a trial: reason, epochs, seconds, metrics (results.csv names), costs, note, taken_from (a
trial of an earlier search, after a warm start), and place, from 1: the order in which they ended. A time
would not tell it, as clocks are set.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tunekit.errors import RunFolderError
from tunekit.results.trials import JOURNAL
from tunekit.search.warm import Start
from tunekit.tuning.journal import Journal, together

DATA_KEY = "data"
TAKEN_FROM = "taken_from"


def create_study(
    run: Path,
    sampler: BaseSampler,
    defaults: dict[str, Any],
    data: dict[str, Any],
    costs: Sequence[str] = (),
    starts: Sequence[Start] = (),
) -> Study:
    """A new study of trial 0, `defaults`, and `starts`; `data` says what its scores are measured on. `costs`:
    its objectives beside the fitness."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with writes(run):
        study = optuna.create_study(
            storage=_storage(run),
            study_name=run.name,
            directions=[StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * len(costs)],
            sampler=sampler,
        )
        if costs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                study.set_metric_names(["fitness", *costs])  # for Optuna's dashboard
        with together(study):
            study.set_user_attr(DATA_KEY, data)
            study.enqueue_trial(defaults)
            for start in starts:
                study.enqueue_trial(dict(start.params), user_attrs={TAKEN_FROM: start.source})
    return study


def open_study(run: Path, sampler: BaseSampler) -> Study:
    """The study of a run that is to go on. Call it with the run's lock held: it mends what a kill left."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = run / JOURNAL
    if not journal.exists():
        raise RunFolderError(f"resume={run}: no tune is there ({journal} is missing)")
    with writes(run):
        _mend(journal)
    try:
        storage = _storage(run)
        (summary,) = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name=summary, storage=storage, sampler=sampler)
    except (ValueError, KeyError) as fault:
        raise RunFolderError(f"{journal} cannot be read ({fault}); start a new run") from fault


def take_up_study(folder: Path, name: str) -> Study:
    """The study in `folder`, whose run is locked; an empty one called `name` where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder / JOURNAL
    try:
        with writes(folder):
            folder.mkdir(exist_ok=True)
            if journal.exists():
                _mend(journal)
            storage = _storage(folder)
            known = optuna.get_all_study_names(storage) or [name]
            return optuna.create_study(
                storage=storage,
                study_name=known[0],
                direction="maximize",
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(0),  # all of its trials are enqueued
            )
    except (ValueError, KeyError) as fault:
        raise RunFolderError(
            f"{journal} cannot be read ({fault}); delete {folder} to begin it anew"
        ) from fault


def check_same_data(run: Path, study: Study, data: dict[str, Any]) -> None:
    """Scores of two data sets cannot be compared: RunFolderError if the study's is not `data`."""
    recorded = study.user_attrs.get(DATA_KEY)
    for key, value in data.items():
        was = None if recorded is None else recorded.get(key)
        if was != value:
            raise RunFolderError(
                f"resume={run}: this run belongs to another data set: {key} were {_short(was)}, now they are "
                f"{_short(value)}; scores on the two cannot be compared, so start a new run"
            )


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def handed_out(study: Study) -> list[FrozenTrial]:
    """All trials that have ever been started."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]


def best_value(trial: FrozenTrial) -> float | None:
    """The best epoch's fitness; None before the first."""
    return max(trial.intermediate_values.values(), default=None)


def scores(study: Study) -> list[float]:
    """Fitness of the trials that were done or stopped, in the order in which they ended."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    ended.sort(key=lambda trial: trial.user_attrs["place"])
    return [value for trial in ended if (value := best_value(trial)) is not None]


@contextmanager
def writes(run: Path) -> Iterator[None]:
    """Faults of the disk inside, as RunFolderError."""
    try:
        yield
    except OSError as fault:
        raise RunFolderError(
            f"cannot write {run / JOURNAL}: {fault.strerror or fault}. Free some space or mend its rights"
        ) from fault


def _storage(run: Path) -> JournalStorage:
    return JournalStorage(Journal(run / JOURNAL))


def _mend(journal: Path) -> None:
    """Drop what a killed writer left: half a last line, which Optuna would append to, and its lock, which
    Optuna would wait for half a minute."""
    with journal.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
    lock = Path(f"{journal}.lock")
    if lock.is_symlink() or lock.exists():
        lock.unlink()
