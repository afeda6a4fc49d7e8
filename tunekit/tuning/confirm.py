"""Confirms a search: its best trials and the defaults run again, side by side, with fresh seeds.

In: a search that has ended, and what it ran with. Out: <run>/confirm/, a study and trials like the search's,
and what follows for the run (results/confirmation.py). Runs are trials like all others, but nothing stops
them: what is interrupted goes on, what has ended is never run again. The seeds are those after the search's
own, the same for all settings and one after the other, so that what is interrupted can be compared, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import Trial

from tunekit.args import ValArgs
from tunekit.control import Control
from tunekit.results.confirmation import (
    DEFAULTS,
    FOLDER,
    SEED,
    SETTING,
    TEST,
    Confirmation,
    confirmation_of,
    finalists,
)
from tunekit.results.trials import TrialRow
from tunekit.search.budget import Budget
from tunekit.search.parameter import Value
from tunekit.tuning.answer import as_typed
from tunekit.tuning.books import Books, ConfirmBooks
from tunekit.tuning.depot import BEST, open_depot
from tunekit.tuning.descent import Snapshots
from tunekit.tuning.journal import together
from tunekit.tuning.schedulers import StopLosers
from tunekit.tuning.searcher import StudySearcher
from tunekit.tuning.sitting import Sitting
from tunekit.tuning.storage import Storage
from tunekit.tuning.study import take_up_study, writes
from tunekit.tuning.trial import trial_folder


def confirm(search: Sitting, trials: list[TrialRow], storage: Storage | None, tested: bool) -> None:
    """Run what is left of the confirmation that `search`, which has come to `trials`, asks for.

    `storage`: where runs keep checkpoints, if not in the run folder. `tested`: the data has a test split.
    """
    args, folder = search.args, search.folder / FOLDER
    best = finalists(trials, args.finalists)
    if not args.fresh_seeds:
        return
    if not best:
        _say("nothing to confirm: no trial but the defaults was trained to its end")
        return
    study = take_up_study(folder, f"{search.study.study_name}/{FOLDER}")
    params = {DEFAULTS: search.plan.space.defaults(), **{row.number: row.params for row in trials}}
    with writes(folder), together(study):
        _enqueue(study, params, [row.number for row in best], args.seed, args.fresh_seeds)
    depot = None if storage is None else open_depot(folder, study, storage)
    confirmation = confirmation_of(study)
    if confirmation.left:
        _say(_opening(search, confirmation))
        budget = Budget(None, None)
        Confirming(
            search.folder,
            args.model_copy(update={"iterations": len(confirmation.runs)}),
            search.plan,
            search.slots,
            search.machine,
            study,
            StopLosers(None, budget),
            budget,
            depot,
            trials,
        ).run()
    if tested:
        try:
            _measure_on_test(search, study)
        except KeyboardInterrupt:
            _say(f"interrupted; go on with: tunekit tune resume={as_typed(search.folder)}")
            raise
    ConfirmBooks(search.folder, study, depot, trials).update(final=True)


def _enqueue(
    study: Study, params: dict[int, dict[str, Value]], best: Sequence[int], seed: int, count: int
) -> None:
    """Add the runs that there are not yet. A setting that was run once stays in the comparison."""
    known = confirmation_of(study)
    there = {(run.setting, run.seed) for run in known.runs}
    settings = dict.fromkeys([*known.settings, *best])
    seeds = {run.seed for run in known.runs}.union(range(seed + 1, seed + 1 + count))
    for fresh in sorted(seeds):
        for setting in settings:
            if (setting, fresh) not in there:
                study.enqueue_trial(params[setting], user_attrs={SETTING: setting, SEED: fresh})


def _opening(search: Sitting, confirmation: Confirmation) -> str:
    numbers = [str(setting) for setting in confirmation.settings if setting != DEFAULTS]
    trials = f"trial{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
    seeds, runs = len({run.seed for run in confirmation.runs}), len(confirmation.runs)
    before = f" ({runs - confirmation.left} done before)" if runs > confirmation.left else ""
    return (
        f"confirmation: {trials} and the defaults with {seeds} fresh seeds each, {runs} runs of "
        f"{search.plan.base.epochs} epochs{before} -> {as_typed(search.folder / FOLDER)}"
    )


@dataclass(frozen=True)
class Confirming(Sitting):
    """A sitting of the confirmation of the search in `folder`, which has come to `trials`."""

    trials: list[TrialRow]

    @property
    def _place(self) -> Path:
        return self.folder / FOLDER

    @property
    def _columns(self) -> list[str]:
        return [SETTING, SEED]

    def _books(self) -> Books:
        return ConfirmBooks(self.folder, self.study, self.depot, self.trials)

    def _searcher(self, control: Control, snapshots: Snapshots | None) -> StudySearcher:
        return ConfirmSearcher(
            self.study,
            self.plan.space,
            self._place,
            iterations=self.args.iterations,
            concurrent=self.slots.concurrent,
            budget=self.budget,
            control=control,
            depot=self.depot,
        )


class ConfirmSearcher(StudySearcher):
    """Hands out runs that wait, each with its seed."""

    @property
    def refusal(self) -> str | None:
        return (
            "this search is over, and its best trials are being confirmed; with that ended: "
            "tunekit tune resume=... iterations=MORE"
        )

    def shown(self, number: int) -> dict[str, Any]:
        run = confirmation_of(self._study).runs[number]
        return {SETTING: run.called, SEED: run.seed}

    def _config(self, trial: Trial) -> dict[str, Any]:
        return {"number": trial.number, "params": {**trial.params, SEED: trial.user_attrs[SEED]}}


def _measure_on_test(search: Sitting, study: Study) -> None:
    """Runs of the winner and of the defaults that were not measured yet, each once, here and not on Ray."""
    confirmation, place = confirmation_of(study), search.folder / FOLDER
    known = dict(study.user_attrs.get(TEST, {}))
    todo = [
        run
        for run in confirmation.runs
        if run.setting in (confirmation.winner, DEFAULTS)
        and confirmation.winner is not None
        and run.fitness is not None
        and run.test is None
        and (trial_folder(place, run.number) / BEST).exists()
    ]
    if not todo:
        return
    from tunekit.evaluation.run import fitness_of

    _say(f"measuring the best weights of {len(todo)} runs on the test split")
    for run in todo:
        known[str(run.number)] = fitness_of(_on_test(search, trial_folder(place, run.number) / BEST))
        with writes(place):
            study.set_user_attr(TEST, known)


def _on_test(search: Sitting, weights: Path) -> ValArgs:
    base = search.plan.base
    return ValArgs(
        model=str(weights),
        data=base.data,
        split="test",
        imgsz=base.imgsz,
        batch=int(base.batch),
        single_cls=base.single_cls,
        cache="disk" if base.cache == "gpu" else base.cache,
        # The trials' nodes may have other GPUs than this one.
        device="cpu" if base.device == "cpu" else None,
        plots=False,
    )


def _say(text: str) -> None:
    print(text, flush=True)
