"""Does our training reach the accuracy of the peer's on the same work?

Both sides train the same model on the same images with the same arguments, seed after seed, taking turns:
from scratch, or from the same weights (--weights, or --pretrain-on: the peer trains on one data set, then
both are fine-tuned on another). Shown: mAP50-95 on val of the last and of the best epoch, mean ± standard
error, and whether our mean is at least the peer's minus one standard error of the peer's. Curves go to
--out.

One side can be run again, or more seeds can be added, and put together with an earlier run:

    python benchmarks/accuracy.py --out runs/bench/first
    python benchmarks/accuracy.py --out runs/bench/mended --only ours --merge runs/bench/first
    python benchmarks/accuracy.py --out runs/bench/more --first-seed 5 --merge runs/bench/first
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import datasets
from curves import write_curves

FITNESS = "metrics/mAP50-95(B)"
SIDES = ("ours", "peer")
CHOSEN = ("epochs", "batch", "nbs", "imgsz", "fraction", "optimizer", "lr0", "momentum", "close_mosaic")
PRETRAIN_SEED = 1000


@dataclass(frozen=True)
class Run:
    """One training of one side."""

    side: str
    seed: int
    curve: tuple[float, ...]  # mAP50-95 of each epoch
    parameters: int
    version: str
    precision: str
    wall: float | None  # seconds; None in runs of an older version of this program
    merged: bool = False  # taken over from an earlier call

    @property
    def last(self) -> float:
        return self.curve[-1]

    @property
    def best(self) -> float:
        return max(self.curve)


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "accuracy")
    common.add_peer(found)
    common.add_work(found)
    found.add_argument("--model", default="yolo11p.yaml")
    found.add_argument("--weights", type=Path, help="weights that both sides start from, such as yolo11n.pt")
    found.add_argument(
        "--pretrain-on", metavar="DATA", help="train the peer on it first; both start from that"
    )
    found.add_argument("--pretrain-epochs", type=int, default=30)
    found.add_argument("--seeds", type=int, default=5, help="how many (%(default)s)")
    found.add_argument("--first-seed", type=int, default=0)
    found.add_argument("--only", choices=SIDES, help="train this side alone; the other comes from --merge")
    found.add_argument("--merge", type=Path, metavar="DIR", help="--out of an earlier call, of the same work")
    found.add_argument("--epochs", type=int, default=20)
    found.add_argument("--batch", type=int, default=16)
    found.add_argument("--nbs", type=int, default=16, help="nominal batch; 64 would leave too few steps")
    found.add_argument("--imgsz", type=int, default=128)
    found.add_argument("--fraction", type=float, default=1.0)
    found.add_argument("--optimizer", default="AdamW", help="a name, not auto: both sides must do the same")
    found.add_argument("--lr0", type=float, default=0.002)
    found.add_argument("--momentum", type=float, default=0.9)
    found.add_argument("--close-mosaic", type=int, default=5, help="last epochs without mosaic")
    found.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="more arguments of both sides"
    )
    options = found.parse_args()
    if options.weights and options.pretrain_on:
        found.error("--weights and --pretrain-on are two ways to say what to start from: give one")
    if options.weights and not options.weights.is_file():
        found.error(f"--weights {options.weights} is not there")
    if options.only and not options.merge:
        found.error("--only needs --merge DIR, which has the other side")
    if options.merge and not (options.merge / "jobs").is_dir():
        found.error(f"--merge {options.merge} has no jobs folder: it must be the --out of an earlier call")
    if not 0 < options.close_mosaic < options.epochs:
        found.error(
            f"--close-mosaic {options.close_mosaic} must be from 1 to epochs - 1: else the peer never closes"
        )
    return options


def main() -> None:
    options, began = arguments(), common.machine()
    if options.only != "ours":
        common.check_peer(options.peer_python)
    chosen = {name: getattr(options, name) for name in CHOSEN} | {"patience": 0, "warmup_bias_lr": 0.0}
    shared = common.shared_settings({**chosen, **common.parsed(options.set)})
    start = starting_weights(options, shared)
    task = {"data": options.data, "model": options.model, "start": fingerprint(start)}
    runs = {(run.side, run.seed): run for run in earlier_runs(options, shared, task)}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        sides = (options.only,) if options.only else common.alternating(seed)
        for side in sides:
            train = train_ours if side == "ours" else train_peer
            result = train(options, {**shared, "seed": seed}, start, task)
            run = runs[side, seed] = run_of(side, seed, result)
            print(
                f"seed {seed} {side}: last {run.last:.4f} best {run.best:.4f} in {run.wall:.0f} s", flush=True
            )
    compared = [run for run in runs.values() if all((side, run.seed) in runs for side in SIDES)]
    if not compared:
        raise SystemExit("no seed was run by both sides: nothing to compare")
    if len({run.parameters for run in compared}) != 1:
        raise SystemExit(f"the models differ: {sorted({run.parameters for run in compared})} parameters")
    compared.sort(key=lambda run: (run.seed, run.side))
    write_curves({(run.side, run.seed): run.curve for run in compared}, options.out)
    title = f"Accuracy against ultralytics {next(run.version for run in compared if run.side == 'peer')}"
    common.report(title, began, summary(options, compared), options.out)


def starting_weights(options: argparse.Namespace, shared: dict[str, Any]) -> Path | None:
    """The file that both sides start from; made now for --pretrain-on, unless the earlier call made it."""
    if not options.pretrain_on:
        return options.weights
    weights, epochs = options.out / "start.pt", options.pretrain_epochs
    task = {"data": options.pretrain_on, "epochs": epochs}
    if options.merge and (options.merge / "start.pt").exists():
        theirs = json.loads((options.merge / "jobs" / "pretrain.job.json").read_text())["task"]
        if theirs != task:
            raise SystemExit(f"--merge {options.merge} began with other weights: {theirs}, not {task}")
        for file in (Path("start.pt"), Path("jobs/pretrain.job.json")):
            keep(options.merge / file, options.out / file)
        return weights
    common.check_peer(options.peer_python)
    own = {"epochs": epochs, "close_mosaic": min(10, epochs // 2), "seed": PRETRAIN_SEED}
    data = datasets.for_peer(options.pretrain_on, options.out)
    settings = common.peer_settings({**shared, **own}, options.out, data, options.peer_set, options.device)
    job = {"model": common.model_for_peer(options.model, options.out), "settings": settings}
    job |= {
        "threads": options.threads,
        "val_repeats": 0,
        "keep_weights": str(weights.resolve()),
        "task": task,
    }
    result = common.run_peer(options.peer_python, "peer/train.py", job, options.out, "pretrain")
    reached = result["epochs"][-1][FITNESS]
    print(f"pretrained on {options.pretrain_on}: {reached:.4f} in {result['wall']:.0f} s", flush=True)
    return weights


def keep(file: Path, copy: Path) -> None:
    """A copy of what an earlier call left, so that this call's folder can be merged with in its turn."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    if file.resolve() != copy.resolve():
        shutil.copyfile(file, copy)


def fingerprint(start: Path | None) -> str:
    return "scratch" if start is None else hashlib.sha256(start.read_bytes()).hexdigest()


def train_ours(
    options: argparse.Namespace, shared: dict[str, Any], start: Path | None, task: dict[str, str]
) -> dict[str, Any]:
    settings = common.our_settings(shared, options)
    if start is not None:
        settings["model"] = str(start.resolve())
    job = {"settings": settings, "val_repeats": 0, "task": task}
    return common.run_ours("ours/train.py", job, options.out, f"ours-{shared['seed']}")


def train_peer(
    options: argparse.Namespace, shared: dict[str, Any], start: Path | None, task: dict[str, str]
) -> dict[str, Any]:
    data = datasets.for_peer(options.data, options.out)
    # The peer's patience=0 means what ours does: never stop early.
    more = ["deterministic=True", f"pretrained={start is not None}", *options.peer_set]
    settings = common.peer_settings(shared, options.out, data, more, options.device)
    model = common.model_for_peer(options.model, options.out) if start is None else str(start.resolve())
    job = {"model": model, "settings": settings, "threads": options.threads, "val_repeats": 0, "task": task}
    return common.run_peer(options.peer_python, "peer/train.py", job, options.out, f"peer-{shared['seed']}")


def run_of(side: str, seed: int, result: dict[str, Any], merged: bool = False) -> Run:
    curve = tuple(row[FITNESS] for row in result["epochs"])
    precision = result.get("precision", "float32")
    return Run(
        side, seed, curve, result["parameters"], result["version"], precision, result.get("wall"), merged
    )


def earlier_runs(options: argparse.Namespace, shared: dict[str, Any], task: dict[str, str]) -> list[Run]:
    """What --merge DIR has: the other side of --only, or both. Ends the program if that was other work."""
    if options.merge is None:
        return []
    wanted = json.loads(json.dumps(shared))
    sides = [side for side in SIDES if side != options.only]
    runs = []
    for file in sorted((options.merge / "jobs").glob("*.job.json")):
        side, _, seed = file.name.removesuffix(".job.json").partition("-")
        result = file.with_name(f"{side}-{seed}.json")
        if side not in sides or not seed.isdigit() or not result.exists():
            continue
        job = json.loads(file.read_text())
        # Older versions of this program knew digits from scratch only, and did not say so.
        theirs = {**job["settings"], **job.get("task", {"data": "digits", "start": "scratch"})}
        ours = {**wanted, **task, "seed": int(seed)}
        if "task" not in job:
            ours["model"] = theirs["model"] = options.model
        other = [name for name in ours if name in theirs and ours[name] != theirs[name]]
        if other:
            what = ", ".join(f"{name}={theirs[name]} instead of {ours[name]}" for name in other)
            raise SystemExit(f"--merge {options.merge}: {file.name} is of other work ({what})")
        for each in (file, result):
            keep(each, options.out / "jobs" / each.name)
        runs.append(run_of(side, int(seed), json.loads(result.read_text()), merged=True))
    return runs


def summary(options: argparse.Namespace, runs: list[Run]) -> list[str]:
    """Lines for the report: `runs` has every seed of both sides, in order."""
    rows, each = [], []
    for which in ("last", "best"):
        values = {side: [getattr(run, which) for run in runs if run.side == side] for side in SIDES}
        (ours, our_error), (peer, peer_error) = (common.mean_and_error(values[side]) for side in SIDES)
        known = not math.isnan(peer_error)
        verdict = ("yes" if ours >= peer - peer_error else "NO") if known else "one seed says nothing"
        rows.append(
            [
                which,
                f"{ours:.4f} ± {our_error:.4f}",
                f"{peer:.4f} ± {peer_error:.4f}",
                # The sides share a seed's number, not its chance: their runs are independent.
                f"{ours - peer:+.4f} ± {math.hypot(our_error, peer_error):.4f}",
                verdict,
            ]
        )
        pairs = ", ".join(f"{a:.4f}/{b:.4f}" for a, b in zip(values["ours"], values["peer"], strict=True))
        each.append(f"- {which} epoch, seed by seed (ours/peer): {pairs}")
    header = ["epoch", "ours", "peer", "difference ± its standard error", "ours >= peer - 1 SE"]
    return [described(options, runs), "", *common.table(header, rows), "", *each, *notes(options, runs)]


def described(options: argparse.Namespace, runs: list[Run]) -> str:
    start = f"{options.model} from scratch"
    if options.weights:
        start = f"fine-tuning {options.weights.name}"
    elif options.pretrain_on:
        start = f"{options.model} pretrained by the peer on {options.pretrain_on}"
        start += f" ({options.pretrain_epochs} epochs)"
    more = f", {' '.join(options.set)}" if options.set else ""
    return (
        f"{start}, {Path(options.data).name}, imgsz {options.imgsz}, batch {options.batch}, "
        f"nbs {options.nbs}, {options.epochs} epochs, {options.optimizer} lr0={options.lr0:g}{more}, "
        f"{len({run.seed for run in runs})} seeds; mean mAP50-95 on val ± standard error"
    )


def notes(options: argparse.Namespace, runs: list[Run]) -> list[str]:
    lines = []
    for side in SIDES:
        own = [run for run in runs if run.side == side]
        precision = "/".join(sorted({run.precision for run in own}))
        merged = sum(run.merged for run in own)
        walls = [run.wall for run in own if run.wall is not None]
        seconds = f", {statistics.fmean(walls):.0f} s a training" if walls else ""
        old = f", {merged} of {len(own)} trainings from an earlier call" if merged else ""
        lines.append(f"- {side}: {precision}{seconds}{old}")
    return lines


if __name__ == "__main__":
    main()
