"""`tunekit tune` against the peer's own tuner: the same model, data, epochs and start.

One after the other on this machine. Each side as its users get it: ours runs trials beside each other and
stops the losing ones, the peer runs them one by one to the end. Fitness is mAP50-95 on val of the best
epoch, as each side reports it. The best so far over wall time and over epochs goes to --out.

The best of a search is partly luck, so with --confirm K what a side calls its best, at any time, is trained
again by that side with K fresh seeds. These trainings are off the clock; the target is what the peer's last
best comes to in them.

    python benchmarks/peer_tune.py --weights benchmarks/search/start-yolo11p.pt --imgsz 96 --confirm 3 \\
        --iterations 12 --peer-iterations 40
"""

from __future__ import annotations

import argparse
import csv
import datetime
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import common
import datasets

Trial = dict[str, Any]  # end (seconds since the command), fitness, epochs, params
FRESH = 1000  # the first seed of what is trained again


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "peer_tune")
    common.add_peer(found)
    found.add_argument("--model", default="yolo11p.yaml")
    found.add_argument("--weights", type=Path, help="ours, what both start from; without it, from scratch")
    found.add_argument("--imgsz", type=int, default=128)
    found.add_argument("--batch", type=int, default=16)
    found.add_argument("--nbs", type=int, default=16, help="nominal batch; 64 would leave too few steps")
    found.add_argument("--epochs", type=int, default=12)
    found.add_argument("--iterations", type=int, default=12)
    found.add_argument("--peer-iterations", type=int, help="of the peer, if it shall have others")
    found.add_argument("--confirm", type=int, default=0, metavar="K", help="fresh seeds of what was best")
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
    if options.weights:
        write_start(options)
    order = ("ours", "peer") if options.first == "ours" else ("peer", "ours")
    walls: dict[str, float] = {}
    curves: dict[str, list[Trial]] = {}
    for side in order:
        trials, walls[side] = ours(options) if side == "ours" else peer(options)
        curves[side] = best_so_far(trials)
        best = curves[side][-1]["best"]
        print(f"{side}: best {best:.4f} of {len(trials)} trials in {walls[side]:.0f} s", flush=True)
    if options.confirm:
        for side in order:
            confirm(options, side, curves[side])
    write_curves(curves, options.out)
    common.report(
        f"Tuning against the tuner of ultralytics {version}",
        began,
        summary(options, curves, walls),
        options.out,
    )


def same_for_both(options: argparse.Namespace) -> dict[str, Any]:
    names = ("epochs", "imgsz", "batch", "nbs", "fraction", "optimizer", "seed")
    # AdamW with the default 0.1 throws the biases far off in the first batches, on either side.
    return {name: getattr(options, name) for name in names} | {"warmup_bias_lr": 0.0}


def model_of_ours(options: argparse.Namespace) -> str:
    return str(options.weights.resolve()) if options.weights else options.model


def ours(options: argparse.Namespace) -> tuple[list[Trial], float]:
    from tunekit.results.store import read_trials
    from tunekit.search.space import load_space

    space = options.out.resolve() / "space.yaml"
    space.write_text(load_space(options.space).with_priors(common.parsed(options.start)).to_yaml())
    settings = {
        **same_for_both(options),
        "iterations": options.iterations,
        "model": model_of_ours(options),
        "data": "digits",
        "space": space,
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
            "params": rows[trial.number].params,
        }
        for trial in common.study_trials(options.out / "ours")
    ]
    return trials, wall


def peer(options: argparse.Namespace) -> tuple[list[Trial], float]:
    settings = settings_of_peer(options, ["name=peer-tune", *options.start])
    settings["iterations"] = options.peer_iterations or options.iterations
    space = None
    if options.peer_space == "ours":
        from tunekit.search.space import load_space

        numbers = [part for part in load_space(options.space).parameters if part.kind != "choice"]
        space = {part.name: (part.low, part.high) for part in numbers}
    job = {"model": model_of_peer(options), "settings": settings, "space": space}
    result = common.run_peer(options.peer_python, "peer/tune.py", job, options.out, "peer-tune")
    return result["trials"], result["wall"]


def settings_of_peer(options: argparse.Namespace, more: list[str]) -> dict[str, Any]:
    own = [f"workers={options.peer_workers}", f"pretrained={options.weights is not None}"]
    data = datasets.for_peer("digits", options.out)
    return common.peer_settings(same_for_both(options), options.out, data, [*own, *options.peer_set, *more])


def model_of_peer(options: argparse.Namespace) -> str:
    if options.weights:
        return str(start_of_peer(options))
    return common.model_for_peer(options.model, options.out)


def start_of_peer(options: argparse.Namespace) -> Path:
    return Path(options.out / "peer" / "start.pt").resolve()


def write_start(options: argparse.Namespace) -> None:
    """The peer reads no weights of ours."""
    job = {
        "weights": str(options.weights.resolve()),
        "model": common.model_for_peer(options.model, options.out),
        "file": str(start_of_peer(options)),
    }
    common.run_peer(options.peer_python, "peer/start.py", job, options.out, "peer-start")


def best_so_far(trials: list[Trial]) -> list[Trial]:
    """A row a trial, in the order of their ends: seconds, epochs spent in all, best fitness, its params."""
    best, params, epochs, curve = 0.0, trials[0]["params"], 0, []
    for trial in trials:
        epochs += trial["epochs"]
        if trial["fitness"] > best:
            best, params = trial["fitness"], trial["params"]
        curve.append({"end": trial["end"], "epochs": epochs, "best": best, "params": params})
    return curve


def confirm(options: argparse.Namespace, side: str, curve: list[Trial]) -> None:
    """Add to each row what its best comes to with fresh seeds (`confirmed`, the mean)."""
    before: Trial = {}
    for place, row in enumerate(curve):
        if row["params"] == before.get("params"):
            row["confirmed"] = before["confirmed"]
        else:
            found = [fresh(options, side, row["params"], place, seed) for seed in range(options.confirm)]
            row["confirmed"] = statistics.fmean(found)
            print(f"{side}: {row['best']:.4f}, again {' '.join(f'{one:.4f}' for one in found)}", flush=True)
        before = row


def fresh(options: argparse.Namespace, side: str, params: dict[str, Any], place: int, seed: int) -> float:
    """The best epoch's fitness of one more training."""
    name = f"{side}-again-{place}-{seed}"
    chosen = {"seed": FRESH + seed}
    if side == "ours":
        settings = {**same_for_both(options), "model": model_of_ours(options), "data": "digits"}
        settings |= {"device": "cpu", **params, **chosen, "threads": options.threads}
        job = {"settings": settings, "val_repeats": 0}
        result = common.run_ours("ours/train.py", job, options.out, name)
    else:
        settings = {**settings_of_peer(options, []), **params, **chosen}
        job = {"model": model_of_peer(options), "settings": settings, "threads": options.threads}
        result = common.run_peer(
            options.peer_python, "peer/train.py", {**job, "val_repeats": 0}, options.out, name
        )
    return max(row["metrics/mAP50-95(B)"] for row in result["epochs"])


def summary(
    options: argparse.Namespace, curves: dict[str, list[Trial]], walls: dict[str, float]
) -> list[str]:
    judged = "confirmed" if options.confirm else "best"
    last = {side: curve[-1][judged] for side, curve in curves.items()}
    target = last["peer"] if options.confirm else min(last.values())
    rows = []
    for side in ("ours", "peer"):
        curve = curves[side]
        reached = next((row for row in curve if row[judged] >= target), None)
        row = [side, len(curve), curve[-1]["epochs"], f"{walls[side]:.0f}", curve[-1]["best"]]
        row += [f"{last[side]:.3f}"] if options.confirm else []
        row += ["never", "never"] if reached is None else [f"{reached['end']:.0f}", reached["epochs"]]
        rows.append(row)
    header = ["side", "trials", "epochs", "wall time, s", "best fitness"]
    header += [f"the same, {options.confirm} fresh seeds"] if options.confirm else []
    header += [f"seconds to {target:.3f}", "epochs to it"]
    return [described(options), "", *common.table(header, rows), "", *notes(options, curves, walls)]


def described(options: argparse.Namespace) -> str:
    start = f"fine-tuning {options.weights.name}" if options.weights else f"{options.model} from scratch"
    peer_space = "its own space" if options.peer_space == "none" else f"the ranges of {options.space}"
    return (
        f"{start}, digits, {options.imgsz} px, batch {options.batch} nbs {options.nbs}, "
        f"{options.epochs} epochs, {options.optimizer}, seed {options.seed}, "
        f"both beginning with {' '.join(options.start) or 'the defaults'}; "
        f"ours: space={options.space}, and the defaults of `tunekit tune`; peer: {peer_space}"
    )


def notes(options: argparse.Namespace, curves: dict[str, list[Trial]], walls: dict[str, float]) -> list[str]:
    lines = [f"- {side}, best so far at seconds: {told(curves[side])}" for side in ("ours", "peer")]
    if (options.peer_iterations or options.iterations) == options.iterations:
        lines.append(f"- wall time ratio {walls['peer'] / walls['ours']:.2f}")
    lines.append(
        "- one search a side: the best of one search is noisy; trial 0 of either runs the same defaults"
    )
    return lines


def told(curve: list[Trial]) -> str:
    """Only where the best changed."""
    changes = [
        row
        for before, row in zip([None, *curve], curve, strict=False)
        if not before or row["best"] > before["best"]
    ]
    return ", ".join(
        f"{row['best']:.4f}"
        + (f" ({row['confirmed']:.4f} again)" if "confirmed" in row else "")
        + f" at {row['end']:.0f}"
        for row in changes
    )


def write_curves(curves: dict[str, list[Trial]], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    by_time, by_epochs = figure.subplots(1, 2, sharey=True)
    with (out / "curves.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["side", "end", "epochs", "best", "confirmed"], extrasaction="ignore")
        writer.writeheader()
        for side, curve in curves.items():
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
