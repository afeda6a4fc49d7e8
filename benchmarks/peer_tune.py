"""`tunekit tune` against the peer's own tuner: the same model, data, epochs, number of trials and start.

One after the other on this machine. Each side as its users get it: ours runs trials beside each other and
stops the losing ones, the peer runs them one by one to the end. Fitness is mAP50-95 on val of the best
epoch, as each side reports it. The best so far over wall time and over epochs goes to --out.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import subprocess
import time
from pathlib import Path
from typing import Any

import common
import datasets

Trial = dict[str, float]  # end (seconds since the command), fitness, epochs


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "peer_tune")
    common.add_peer(found)
    found.add_argument("--model", default="yolo11p.yaml")
    found.add_argument("--imgsz", type=int, default=128)
    found.add_argument("--batch", type=int, default=16)
    found.add_argument("--nbs", type=int, default=16, help="nominal batch; 64 would leave too few steps")
    found.add_argument("--epochs", type=int, default=12)
    found.add_argument("--iterations", type=int, default=12)
    found.add_argument("--fraction", type=float, default=1.0)
    found.add_argument("--optimizer", default="AdamW")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--space", default="default", help="our search space")
    found.add_argument(
        "--peer-space",
        choices=("none", "ours"),
        default="none",
        help="none is given, so it takes its own; ours: the ranges of --space, linear as the peer has them",
    )
    found.add_argument(
        "--start",
        nargs="*",
        default=["lr0=0.001", "momentum=0.9"],
        metavar="NAME=VALUE",
        help="where both searches begin (%(default)s); searched, not fixed",
    )
    found.add_argument("--peer-workers", type=int, default=0, help="loader workers of the peer")
    found.add_argument("--first", choices=("ours", "peer"), default="ours", help="who runs first")
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    version = common.check_peer(options.peer_python)
    options.out.mkdir(parents=True, exist_ok=True)
    order = ("ours", "peer") if options.first == "ours" else ("peer", "ours")
    found: dict[str, tuple[list[Trial], float]] = {}
    for side in order:
        found[side] = ours(options) if side == "ours" else peer(options)
        trials, wall = found[side]
        best = max(trial["fitness"] for trial in trials)
        print(f"{side}: best {best:.4f} of {len(trials)} trials in {wall:.0f} s", flush=True)
    write_curves({side: trials for side, (trials, _) in found.items()}, options.out)
    common.report(
        f"Tuning against the tuner of ultralytics {version}", began, summary(options, found), options.out
    )


def same_for_both(options: argparse.Namespace) -> dict[str, Any]:
    names = ("epochs", "imgsz", "batch", "nbs", "fraction", "optimizer", "seed", "iterations")
    # AdamW with the default 0.1 throws the biases far off in the first batches, on either side.
    return {name: getattr(options, name) for name in names} | {"warmup_bias_lr": 0.0}


def ours(options: argparse.Namespace) -> tuple[list[Trial], float]:
    from tunekit.results.store import read_trials
    from tunekit.search.space import load_space

    space = options.out.resolve() / "space.yaml"
    space.write_text(load_space(options.space).with_priors(common.parsed(options.start)).to_yaml())
    settings = {
        **same_for_both(options),
        "model": options.model,
        "data": "digits",
        "space": space,
        "sampler": "genetic",
        "scheduler": "asha",
        "device": "cpu",
        "project": options.out,
        "name": "ours",
        "exist_ok": True,
        **common.parsed(options.ours_set),
    }
    log = options.out / "ours.log"
    start, clock = datetime.datetime.now(), time.perf_counter()
    with log.open("w") as file:
        code = subprocess.run(common.tune_command(settings), stdout=file, stderr=file).returncode
    wall = time.perf_counter() - clock
    if code:
        raise SystemExit(f"tunekit tune ended with exit code {code}, see {log}")
    rows = {row.number: row for row in read_trials(options.out / "ours")}
    trials = [
        {
            "end": (trial.datetime_complete - start).total_seconds(),
            "fitness": rows[trial.number].fitness or 0.0,
            "epochs": rows[trial.number].epochs,
        }
        for trial in common.study_trials(options.out / "ours")
    ]
    return trials, wall


def peer(options: argparse.Namespace) -> tuple[list[Trial], float]:
    given = [f"workers={options.peer_workers}", "name=peer-tune", *options.start, *options.peer_set]
    data = datasets.for_peer("digits", options.out)
    settings = common.peer_settings(same_for_both(options), options.out, data, given)
    space = None
    if options.peer_space == "ours":
        from tunekit.search.space import load_space

        numbers = [part for part in load_space(options.space).parameters if part.kind != "choice"]
        space = {part.name: (part.low, part.high) for part in numbers}
    job = {"model": common.model_for_peer(options.model, options.out), "settings": settings, "space": space}
    result = common.run_peer(options.peer_python, "peer/tune.py", job, options.out, "peer-tune")
    return result["trials"], result["wall"]


def best_so_far(trials: list[Trial]) -> list[Trial]:
    """A row a trial, in the order of their ends: seconds, epochs spent in all, best fitness."""
    best, epochs, curve = 0.0, 0.0, []
    for trial in trials:
        best, epochs = max(best, trial["fitness"]), epochs + trial["epochs"]
        curve.append({"end": trial["end"], "epochs": epochs, "best": best})
    return curve


def summary(options: argparse.Namespace, found: dict[str, tuple[list[Trial], float]]) -> list[str]:
    rows, curves = [], {side: best_so_far(trials) for side, (trials, _) in found.items()}
    target = min(curve[-1]["best"] for curve in curves.values())
    for side in ("ours", "peer"):
        trials, wall = found[side]
        reached = next(row["end"] for row in curves[side] if row["best"] >= target)
        rows.append(
            [
                side,
                len(trials),
                int(curves[side][-1]["epochs"]),
                f"{wall:.0f}",
                curves[side][-1]["best"],
                f"{reached:.0f}",
            ]
        )
    header = ["side", "trials", "epochs", "wall time, s", "best fitness", f"seconds to {target:.3f}"]
    what = (
        f"{options.model} from scratch, digits, {options.imgsz} px, batch {options.batch} nbs {options.nbs}, "
        f"{options.epochs} epochs, {options.iterations} trials, {options.optimizer}, "
        f"both beginning with {' '.join(options.start) or 'the defaults'}; "
        f"ours: sampler=genetic scheduler=asha space={options.space}; peer: "
        + ("its own space" if options.peer_space == "none" else f"the ranges of {options.space}")
    )
    ratio = found["peer"][1] / found["ours"][1]
    curve_lines = [f"- {side}, best so far at seconds: {told(curves[side])}" for side in ("ours", "peer")]
    note = "- one search a side: the best of one search is noisy; trial 0 of either runs the same defaults"
    return [what, "", *common.table(header, rows), "", f"- wall time ratio {ratio:.2f}", *curve_lines, note]


def told(curve: list[Trial]) -> str:
    """Only where the best changed."""
    changes = [
        row
        for before, row in zip([None, *curve], curve, strict=False)
        if not before or row["best"] > before["best"]
    ]
    return ", ".join(f"{row['best']:.4f} at {row['end']:.0f}" for row in changes)


def write_curves(found: dict[str, list[Trial]], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    by_time, by_epochs = figure.subplots(1, 2, sharey=True)
    with (out / "curves.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["side", "end", "epochs", "best"])
        writer.writeheader()
        for side, trials in found.items():
            curve = best_so_far(trials)
            writer.writerows({"side": side, **row} for row in curve)
            label = "tunekit" if side == "ours" else "ultralytics"
            for axes, key in ((by_time, "end"), (by_epochs, "epochs")):
                values = [row["best"] for row in curve]
                axes.step([row[key] for row in curve], values, where="post", marker="o", label=label)
    by_time.set(xlabel="seconds", ylabel="best mAP50-95 so far")
    by_epochs.set(xlabel="epochs spent")
    by_time.legend()
    figure.savefig(out / "curves.png", dpi=120)


if __name__ == "__main__":
    main()
