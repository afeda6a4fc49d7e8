"""A training into its folder, from its first line on the terminal to its last epoch.

In: a built engine, a folder. Out: what a Recorder writes, and lines for the user. On several workers each
runs this; the first one writes and speaks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path

from tunekit.data.labels import summarize
from tunekit.training.engine import Engine
from tunekit.training.profile import profiled
from tunekit.training.recorder import Recorder
from tunekit.training.result import EpochResult

Say = Callable[[str], object]


def run_session(
    engine: Engine,
    folder: Path,
    *,
    resume: bool,
    say: Say,
    on_epoch: Callable[[EpochResult], object] | None = None,
) -> None:
    """Train what is left to train. `on_epoch` sees every result once it is recorded."""
    if not engine.ranks.first:
        say = _nothing
    if engine.problems:
        say(summarize(engine.problems))
    recorder = Recorder(folder, engine)
    if resume:
        recorder.resume()
    else:
        recorder.start()
    for note in engine.notes:
        say(note)
    say(_opening(engine, folder))
    watch = profiled(engine, folder) if engine.args.profile and engine.ranks.first else nullcontext()
    epochs = recorder.epochs(say)
    with watch:
        first = list(islice(epochs, 1))
    for result in chain(first, epochs):
        if engine.args.verbose:
            say(_line(result, engine.planned))
        if on_epoch is not None:
            on_epoch(result)
    say(_closing(engine, folder))


def _nothing(text: str) -> None:
    """The first worker has said it."""


def _opening(engine: Engine, folder: Path) -> str:
    args = engine.args
    parameters = sum(parameter.numel() for parameter in engine.model.parameters())
    precision = str(engine.amp_dtype).removeprefix("torch.") if engine.amp_dtype else "float32"
    workers = f"{engine.ranks.world} workers, " if engine.ranks.world > 1 else ""
    return (
        f"{args.model} ({parameters:,} parameters) on {args.data}, {args.optimizer} lr0={args.lr0:g}, "
        f"{workers}{engine.device} {precision}, {args.threads} threads -> {folder}"
    )


def _line(result: EpochResult, epochs: int) -> str:
    losses = " ".join(f"{part} {value:.3f}" for part, value in result.losses.items())
    metrics = "  not validated"
    if result.metrics is not None:
        found = result.metrics
        metrics = (
            f"  P {found.precision:.3f} R {found.recall:.3f} mAP50 {found.map50:.4f} mAP50-95 {found.map:.4f}"
        )
    return (
        f"epoch {result.epoch}/{epochs}  {losses}{metrics}  "
        f"{result.images_per_second:.0f} img/s {result.seconds:.1f} s{'  best' if result.best else ''}"
    )


def _closing(engine: Engine, folder: Path) -> str:
    if engine.best_epoch == 0:
        return f"nothing left to train in {folder}"
    best = f"best mAP50-95 {engine.best_fitness:.4f} at epoch {engine.best_epoch}"
    return f"{best}; weights in {folder / 'weights' / 'best.pt'}" if engine.args.save else best
