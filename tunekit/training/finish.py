"""What a training leaves behind for people: what it sees, and in the end what its best model is worth.

    before   labels.jpg  train_batch0.jpg ...
    after    results.png, and what evaluation/measure.py writes: metrics.yaml, curves, confusion matrix ...

Knows nothing of how the training was run.
"""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path

import torch

from tunekit.args import TrainArgs
from tunekit.data.sources import open_sources
from tunekit.evaluation.measure import measure
from tunekit.evaluation.run import table_text
from tunekit.models.weights import load_model
from tunekit.training.engine import Engine
from tunekit.training.feed import val_loader
from tunekit.training.ranks import ALONE
from tunekit.training.session import Say

BATCHES = 3  # that are drawn


def draw_beginning(engine: Engine, folder: Path) -> None:
    """The labels, and the first batches as they will be trained on: chance is a function of their place."""
    # matplotlib takes its time to load; most trials draw nothing.
    from tunekit.results.pictures import write_truth
    from tunekit.results.training_plots import write_labels_plot

    write_labels_plot(folder, engine.source)
    mosaic = engine.args.close_mosaic < engine.args.epochs
    with closing(engine.train_loader.epoch(0, mosaic=mosaic)) as batches:
        for number, batch in enumerate(islice(batches, BATCHES)):
            captions = [Path(engine.source.paths[record]).name for record in batch.records.tolist()]
            write_truth(folder / f"train_batch{number}.jpg", batch, engine.model.names, captions)


def finish(folder: Path, args: TrainArgs, say: Say) -> None:
    """Draw the curves and measure the best weights, in float32 as `tunekit val` does.

    `args` are the resolved ones, of which device and threads are used.
    """
    if args.plots:
        from tunekit.results.training_plots import write_results_plot

        write_results_plot(folder)
    best = folder / "weights" / "best.pt"
    if not args.save or not (args.plots or args.save_json or args.verbose):
        return
    device = torch.device(args.device or "cpu")
    model = load_model(best).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = open_sources(args).val
    stride = max(model.stride)
    with closing(val_loader(args, source, ALONE, workers=args.loader_workers or 1, stride=stride)) as batches:
        evaluation = measure(
            model,
            source,
            batches,
            device=device,
            folder=folder,
            plots=args.plots,
            save_json=args.save_json,
        )
    if args.verbose:
        say(table_text(evaluation))
    metrics = evaluation.metrics
    say(f"best weights in float32: mAP50-95 {metrics.map:.4f}, best F1 at confidence {metrics.f1_conf:.3f}")
