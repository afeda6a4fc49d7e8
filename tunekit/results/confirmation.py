"""A confirmation: a search's best trials and the defaults, run again side by side with fresh seeds.

In: <run>/confirm/study.journal, an Optuna study like the search's, a trial for each run. Attributes of a run
are its setting (the number of the search's trial; 0: the defaults) and its seed; of the study, the fitness of
runs on the test split. Out: who won, by how much and how surely: numbers, sentences and <run>/confirm.csv.

Only seeds that all settings are done with are compared, so that an interrupted confirmation is a fair one of
fewer runs. Reads files only: knows neither Ray nor torch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tunekit.results.trials import FINISHED, JOURNAL, TrialRow, best_trial, read_study, trial_row
from tunekit.search.comparison import CONFIDENCE, Comparison, compare
from tunekit.search.comparison import Setting as Tally

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

FOLDER, TABLE = "confirm", "confirm.csv"
SETTING, SEED, TEST = "setting", "seed", "test"  # attributes
DEFAULTS = 0  # the setting that the search's trial 0 had
FEWEST = 2  # seeds that tell how much runs spread


@dataclass(frozen=True)
class ConfirmRun:
    """A training of the confirmation. It has a fitness if it trained to its end."""

    number: int
    setting: int
    seed: int
    state: str  # WAITING, RUNNING, COMPLETE, FAIL, or PRUNED: stopped by hand
    fitness: float | None
    epochs: int
    seconds: float | None
    reason: str
    test: float | None  # fitness on the test split

    @property
    def ended(self) -> bool:
        return self.state in FINISHED

    @property
    def called(self) -> str:
        """Its setting, as tables have it."""
        return "defaults" if self.setting == DEFAULTS else str(self.setting)


@dataclass(frozen=True)
class Confirmation:
    """`runs`: all that there are, waiting ones too, by number."""

    runs: tuple[ConfirmRun, ...]

    @property
    def left(self) -> int:
        """Runs that have not ended."""
        return sum(not run.ended for run in self.runs)

    @cached_property
    def settings(self) -> tuple[int, ...]:
        """The defaults, and the numbers of the search's trials that are run again."""
        return tuple(dict.fromkeys([DEFAULTS, *(run.setting for run in self.runs)]))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Those that all settings are done with."""
        done = [{run.seed for run in self.of(setting) if run.ended} for setting in self.settings]
        return tuple(sorted(set.intersection(*done)))

    @cached_property
    def comparison(self) -> Comparison | None:
        """None as long as too few seeds are done, or where all runs failed."""
        if len(self.seeds) < FEWEST or len(self.settings) < 2:
            return None
        values = {setting: self._fitness(setting) for setting in self.settings}
        defaults = values.pop(DEFAULTS)
        return compare(defaults, values) if defaults or any(values.values()) else None

    @property
    def winner(self) -> int | None:
        """The setting with the highest mean; the defaults where none is above theirs."""
        if self.comparison is None:
            return None
        best = self.comparison.best
        return best if best is not None and self.comparison.beaten else DEFAULTS

    def of(self, setting: int) -> list[ConfirmRun]:
        return [run for run in self.runs if run.setting == setting]

    def best_run(self, setting: int) -> ConfirmRun | None:
        """The one with the highest fitness; of equal ones the earlier."""
        complete = [run for run in self.of(setting) if run.fitness is not None]
        return max(complete, key=lambda run: (run.fitness, -run.number), default=None)

    def test(self, setting: int) -> float | None:
        """The mean over the runs that were measured on the test split."""
        measured = [run.test for run in self.of(setting) if run.test is not None]
        return fmean(measured) if measured else None

    def words(self) -> list[str]:
        """What came of it."""
        found = self.comparison
        if found is None:
            return []
        failed = sum(run.fitness is None for run in self.runs if run.seed in self.seeds)
        less = f", {failed} of which failed" if failed else ""
        compared = len(self.seeds) * len(self.settings)
        what = f"confirmation with {len(self.seeds)} fresh seeds, {compared} runs{less}"
        lines = [f"{what}: mean mAP50-95 ± standard deviation"]
        for setting, tally in {DEFAULTS: found.defaults, **found.others}.items():
            lines.append(f"  {_called(setting)}: {_tally(tally)}")
        return [*lines, _gain(found, compared - failed), *self._on_test()]

    def _fitness(self, setting: int) -> list[float]:
        runs = self.of(setting)
        return [run.fitness for run in runs if run.fitness is not None and run.seed in self.seeds]

    def _on_test(self) -> list[str]:
        assert self.winner is not None
        means = {setting: self.test(setting) for setting in (self.winner, DEFAULTS)}
        known = {setting: mean for setting, mean in means.items() if mean is not None}
        if not known:
            return []
        told = ", ".join(f"{_called(setting)} {mean:.4f}" for setting, mean in known.items())
        gain = f", gain {known[self.winner] - known[DEFAULTS]:+.4f}" if len(known) == 2 else ""
        return [f"on the test split, by which nothing was chosen, in the mean: {told}{gain}"]


def read_confirmation(run_dir: Path) -> Confirmation | None:
    """That of the search in `run_dir`, as it is now; None where none was begun."""
    journal = run_dir / FOLDER / JOURNAL
    return _confirmation(*read_study(journal)) if journal.is_file() else None


def confirmation_of(study: Study) -> Confirmation:
    """The same of a study that is open."""
    return _confirmation(study.get_trials(deepcopy=False), study.user_attrs)


def finalists(trials: Iterable[TrialRow], count: int) -> list[TrialRow]:
    """The best `count` trials that trained to their end, best first; of those with equal parameters one.

    The defaults are none of them: they are run again in any case.
    """
    found: list[TrialRow] = []
    known = [row.params for row in trials if row.number == DEFAULTS]
    complete = [row for row in trials if row.state == "COMPLETE" and row.fitness is not None]
    for row in sorted(complete, key=lambda row: (-(row.fitness or 0.0), row.number)):
        if row.params not in known and len(found) < count:
            known.append(row.params)
            found.append(row)
    return found


def verdict(run_dir: Path, trials: Sequence[TrialRow]) -> Confirmation | None:
    """The confirmation, if it has an answer and the search has found nothing better since."""
    confirmation = read_confirmation(run_dir)
    if confirmation is None or confirmation.winner is None:
        return None
    new = [row for row in finalists(trials, 1) if row.number not in confirmation.settings]
    return None if new else confirmation


def chosen(trials: Sequence[TrialRow], confirmation: Confirmation | None) -> TrialRow | None:
    """The trial whose hyperparameters are the search's answer: the confirmed one, or else the best."""
    if confirmation is None:
        return best_trial(trials)
    return next(row for row in trials if row.number == confirmation.winner)


def confirm_csv(confirmation: Confirmation) -> str:
    """A row for each run that was begun."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    header = ("run", "setting", "seed", "state", "fitness", "test_fitness", "epochs", "seconds", "reason")
    writer.writerow(header)
    for run in confirmation.runs:
        if run.state != "WAITING":
            seconds = None if run.seconds is None else round(run.seconds, 3)
            told = (run.number, run.called, run.seed, run.state, run.fitness, run.test)
            writer.writerow([*told, run.epochs, seconds, run.reason])
    return table.getvalue()


def _confirmation(trials: Iterable[FrozenTrial], attributes: Mapping[str, Any]) -> Confirmation:
    tests = attributes.get(TEST) or {}
    return Confirmation(tuple(_run(trial, tests.get(str(trial.number))) for trial in trials))


def _run(trial: FrozenTrial, test: float | None) -> ConfirmRun:
    row = trial_row(trial)
    return ConfirmRun(
        number=row.number,
        setting=trial.user_attrs[SETTING],
        seed=trial.user_attrs[SEED],
        state=row.state,
        fitness=row.fitness if row.state == "COMPLETE" else None,
        epochs=row.epochs,
        seconds=row.seconds,
        reason=row.reason,
        test=test,
    )


def _called(setting: int) -> str:
    return "the defaults" if setting == DEFAULTS else f"trial {setting}"


def _tally(tally: Tally) -> str:
    if tally.mean is None:
        return "no run came to its end"
    spread = "" if tally.sd is None else f" ± {tally.sd:.4f}"
    return f"{tally.mean:.4f}{spread}, {tally.runs} run{'s' if tally.runs > 1 else ''}"


def _gain(found: Comparison, runs: int) -> str:
    if found.best is None:
        return "nothing beat the defaults: no run of another setting came to its end"
    if found.gain is None:
        return f"trial {found.best} is the best; no run of the defaults came to its end to compare with"
    sure = "no interval: too few runs"
    if found.interval is not None:
        low, high = found.interval
        sure = f"{CONFIDENCE:.0%} interval {low:+.4f} to {high:+.4f}"
    told = f"{found.gain:+.4f}, {sure}, from {runs} runs"
    if not found.beaten:
        return f"nothing beat the defaults: the best of the others, trial {found.best}, has a gain of {told}"
    if not found.certain:
        sure = "nothing beat the defaults with certainty"
        return f"gain of trial {found.best} over the defaults, not certain: {told}; {sure}"
    return f"gain of trial {found.best} over the defaults: {told}"
