"""`tunekit status`, `stop` and `add`: a word with a search that another process runs.

What a search has come to is read from its folder, whether it runs or not; what it is to do is asked of it
through the folder, too (requests.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from tunekit.errors import ArgumentError, RunFolderError
from tunekit.results.confirmation import read_confirmation
from tunekit.results.folder import may_be_driven
from tunekit.results.pareto import pareto_words
from tunekit.results.trials import JOURNAL, read_trials
from tunekit.search.space import load_space
from tunekit.tuning.board import Board
from tunekit.tuning.display import Display
from tunekit.tuning.requests import Request, ask
from tunekit.verb_args import RunArgs, StopArgs

PROJECT = Path("runs/tune")
LOOK_PATIENCE, PATIENCE = 5.0, 30.0  # seconds; a search that draws its pictures answers after them
WORDS = {"COMPLETE": "done", "PRUNED": "stopped", "FAIL": "failed"}


def status(args: RunArgs) -> None:
    """Print how far a search is, and whether it runs."""
    run = _run(args)
    runs = True
    try:
        told = _answer(run, Request("look", {}), LOOK_PATIENCE)
    except RunFolderError:
        runs, told = False, f"no search runs there now (or it is busy); to go on: tunekit tune resume={run}"
    trials = read_trials(run)
    call = _call(run)
    board = Board(int(call["iterations"]), int(call["epochs"]), 1)
    for trial in trials:
        line = board.began(trial.number, trial.params)
        line.epoch, line.best, line.reason = trial.epochs, trial.fitness, trial.reason
        line.state = WORDS.get(trial.state, "running" if runs else "interrupted")
    console = Console()
    console.print(f"{run}: {told}", soft_wrap=True, highlight=False)
    names = [parameter.name for parameter in load_space(str(run / "space.yaml")).parameters]
    console.print(Display(console, board, names).render())
    if found := pareto_words(trials):
        print("\n".join(found))
    confirmation = read_confirmation(run)
    if confirmation is not None:
        total = len(confirmation.runs)
        done = [f"confirmation: {total - confirmation.left}/{total} runs"] if confirmation.left else []
        print("\n".join([*done, *confirmation.words()]))


def stop(args: StopArgs) -> None:
    """Ask a search to end one trial, or all and itself, after which it can be resumed."""
    run = _run(args)
    print(_answer(run, Request("stop", {"trial": args.trial}), PATIENCE))


def add(args: RunArgs) -> None:
    """Have a search try these hyperparameters next; what is left out is as in trial 0, the defaults."""
    run = _run(args)
    given = {name: getattr(args, name) for name in args.model_fields_set - {"run"}}
    if not given:
        raise ArgumentError("add takes hyperparameters to try: tunekit add lr0=0.02 mosaic=0.5")
    print(_answer(run, Request("add", {"params": given}), PATIENCE))


def _answer(run: Path, request: Request, patience: float) -> str:
    """Nobody is waited for where nobody can be."""
    return ask(run, request, patience=patience if may_be_driven(run) else 0.0)


def _run(args: RunArgs) -> Path:
    """The folder that is meant."""
    if args.run is not None:
        run = Path(args.run)
        if not (run / JOURNAL).is_file():
            raise RunFolderError(f"run={run} is no folder of a search: it has no {JOURNAL}")
        return run
    journals = sorted(PROJECT.glob(f"*/{JOURNAL}"), key=lambda path: path.stat().st_mtime)
    if not journals:
        raise RunFolderError(f"there is no search in {PROJECT}: say which one is meant with run=")
    return journals[-1].parent


def _call(run: Path) -> dict[str, Any]:
    try:
        recorded = yaml.safe_load((run / "args.yaml").read_text())
    except (OSError, yaml.YAMLError) as fault:
        raise RunFolderError(f"{run / 'args.yaml'} cannot be read ({fault})") from fault
    if not isinstance(recorded, dict):
        raise RunFolderError(f"{run / 'args.yaml'} is damaged: it should be a mapping of arguments")
    return recorded
