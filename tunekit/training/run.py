"""`tunekit train`: one training into its run folder, new or resumed, on one device or several."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tunekit.args import ModelAndDataArgs, TrainArgs
from tunekit.data.sources import open_sources
from tunekit.models.start import check_model
from tunekit.results.folder import lock_run, new_run_folder, run_name
from tunekit.results.resume import resumed_args, resumed_run
from tunekit.training.device import worker_devices
from tunekit.training.engine import Engine
from tunekit.training.finish import draw_beginning, finish
from tunekit.training.result import EpochResult
from tunekit.training.session import Say, run_session

CHANGEABLE_ON_RESUME = (*ModelAndDataArgs.model_fields, "cache", "workers", "lanes")  # the machine's


def _print(text: str) -> None:
    print(text, flush=True)  # an epoch at a time also into a file or a pipe


def train(
    args: TrainArgs, on_epoch: Callable[[EpochResult], object] | None = None, say: Say = _print
) -> Path:
    """Train to the end; returns the run folder. `on_epoch` sees every result once it is recorded.

    With `resume=` an earlier run goes on where its last.pt was saved, to the bit on a CPU.
    """
    old = resumed_run(args)
    if old is not None:
        args = resumed_args(args, old, CHANGEABLE_ON_RESUME)
    devices = worker_devices(args.device, args.workers)
    if len(devices) > 1:
        return _train_together(args, devices, old, on_epoch, say)
    with closing(Engine(args)) as engine:
        folder = old or _new_folder(args)
        with lock_run(folder):
            if engine.args.plots and old is None:
                draw_beginning(engine, folder)
            try:
                run_session(engine, folder, resume=old is not None, say=say, on_epoch=on_epoch)
            except KeyboardInterrupt:
                if engine.args.save and engine.epoch > 0:
                    say(f"interrupted; go on with: tunekit train resume={folder}")
                raise
            finish(folder, engine.args, say)
    return folder


def _train_together(
    args: TrainArgs,
    devices: tuple[str, ...],
    old: Path | None,
    on_epoch: Callable[[EpochResult], object] | None,
    say: Say,
) -> Path:
    """Several workers train; what they would all find wrong is found here first, and images are decoded."""
    from tunekit.training.distributed import check_workers, train_on_workers

    check_workers(args, devices)
    check_model(args.model, args.pretrained)
    open_sources(args)
    folder = old or _new_folder(args)
    with lock_run(folder):
        resolved = train_on_workers(args, devices, folder, resume=old is not None, say=say, on_epoch=on_epoch)
        finish(folder, resolved, say)
    return folder


def _new_folder(args: TrainArgs) -> Path:
    return new_run_folder(args.project, run_name(args.name, args.model, args.data), args.exist_ok)
