"""`tunekit train`: one training into its run folder, new or resumed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tunekit.args import ModelAndDataArgs, TrainArgs
from tunekit.data.labels import summarize
from tunekit.results.folder import lock_run, new_run_folder, run_name
from tunekit.results.resume import resumed_args, resumed_run
from tunekit.training.engine import Engine, EpochResult
from tunekit.training.recorder import Recorder

CHANGEABLE_ON_RESUME = (*ModelAndDataArgs.model_fields, "cache")  # those of the machine


def _print(text: str) -> None:
    print(text, flush=True)  # an epoch at a time also into a file or a pipe


def train(
    args: TrainArgs,
    on_epoch: Callable[[EpochResult], object] | None = None,
    say: Callable[[str], object] = _print,
) -> Path:
    """Train to the end; returns the run folder. `on_epoch` sees every result once it is recorded.

    With `resume=` an earlier run goes on where its last.pt was saved, to the bit on a CPU.
    """
    old = resumed_run(args)
    with closing(Engine(args if old is None else resumed_args(args, old, CHANGEABLE_ON_RESUME))) as engine:
        if engine.problems:
            say(summarize(engine.problems))
        folder = old or new_run_folder(
            args.project, run_name(args.name, args.model, args.data), args.exist_ok
        )
        with lock_run(folder):
            recorder = Recorder(folder, engine)
            if old is None:
                recorder.start()
            else:
                recorder.resume()
            say(_opening(engine, folder))
            for result in engine.epochs():
                recorder.record(result)
                say(_line(result, engine.args.epochs))
                if on_epoch is not None:
                    on_epoch(result)
        say(_closing(engine, folder))
    return folder


def _opening(engine: Engine, folder: Path) -> str:
    args = engine.args
    parameters = sum(parameter.numel() for parameter in engine.model.parameters())
    precision = str(engine.amp_dtype).removeprefix("torch.") if engine.amp_dtype else "float32"
    return (
        f"{args.model} ({parameters:,} parameters) on {args.data}, {args.optimizer} lr0={args.lr0:g}, "
        f"{engine.device} {precision}, {args.threads} threads -> {folder}"
    )


def _line(result: EpochResult, epochs: int) -> str:
    losses = " ".join(f"{part} {value:.3f}" for part, value in result.losses.items())
    metrics = result.metrics
    return (
        f"epoch {result.epoch}/{epochs}  {losses}  P {metrics.precision:.3f} R {metrics.recall:.3f} "
        f"mAP50 {metrics.map50:.4f} mAP50-95 {metrics.map:.4f}  "
        f"{result.images_per_second:.0f} img/s {result.seconds:.1f} s{'  best' if result.best else ''}"
    )


def _closing(engine: Engine, folder: Path) -> str:
    if engine.best_epoch == 0:
        return f"nothing left to train in {folder}"
    return (
        f"best mAP50-95 {engine.best_fitness:.4f} at epoch {engine.best_epoch}; "
        f"weights in {folder / 'weights' / 'best.pt'}"
    )
