"""Does our training reach the accuracy of the peer's on the same work?

Both sides train the same model from scratch on the embedded digits with the same arguments, seed after
seed, taking turns. Shown: mAP50-95 on val of the last and of the best epoch, mean ± standard error, and
whether our mean is at least the peer's minus one standard error of the peer's. Curves go to --out.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import common

FITNESS = "metrics/mAP50-95(B)"


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "accuracy")
    common.add_peer(found)
    found.add_argument("--model", default="yolo11p.yaml")
    found.add_argument("--seeds", type=int, default=5)
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
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    if not 0 < options.close_mosaic < options.epochs:
        raise SystemExit(
            f"--close-mosaic {options.close_mosaic} must be from 1 to epochs - 1; else the peer never closes"
        )
    version = common.check_peer(options.peer_python)
    names = ("epochs", "batch", "nbs", "imgsz", "fraction", "optimizer", "lr0", "momentum", "close_mosaic")
    chosen = {name: getattr(options, name) for name in names} | {"patience": 0, "warmup_bias_lr": 0.0}
    chosen |= common.parsed(options.set)
    runs: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        shared = common.shared_settings({**chosen, "seed": seed})
        for side in common.alternating(seed):
            result = train_ours(options, shared) if side == "ours" else train_peer(options, shared)
            curve = [row[FITNESS] for row in result["epochs"]]
            run = {"side": side, "seed": seed, "curve": curve, "last": curve[-1], "best": max(curve)}
            runs.append({**run, "parameters": result["parameters"], "wall": result["wall"]})
            print(
                f"seed {seed} {side}: last {curve[-1]:.4f} best {max(curve):.4f} in {result['wall']:.0f} s",
                flush=True,
            )
    if len({run["parameters"] for run in runs}) != 1:
        raise SystemExit(f"the models differ: {sorted({run['parameters'] for run in runs})} parameters")
    write_curves(runs, options.out)
    common.report(f"Accuracy against ultralytics {version}", began, summary(options, runs), options.out)


def train_ours(options: argparse.Namespace, shared: dict[str, Any]) -> dict[str, Any]:
    job = {"settings": common.our_settings(shared, options), "val_repeats": 0}
    return common.run_ours("ours/train.py", job, options.out, f"ours-{shared['seed']}")


def train_peer(options: argparse.Namespace, shared: dict[str, Any]) -> dict[str, Any]:
    data = common.digits_for_peer(options.out)
    # The peer's patience=0 means what ours does: never stop early.
    settings = common.peer_settings(shared, options.out, data, ["deterministic=True", *options.peer_set])
    model = common.model_for_peer(options.model, options.out)
    job = {"model": model, "settings": settings, "threads": options.threads, "val_repeats": 0}
    return common.run_peer(options.peer_python, "peer/train.py", job, options.out, f"peer-{shared['seed']}")


def summary(options: argparse.Namespace, runs: list[dict[str, Any]]) -> list[str]:
    rows, verdicts = [], []
    for which in ("last", "best"):
        values = {side: [run[which] for run in runs if run["side"] == side] for side in ("ours", "peer")}
        (ours, ours_error), (peer, peer_error) = (
            common.mean_and_error(values[side]) for side in ("ours", "peer")
        )
        passed = ours >= peer - peer_error
        rows.append(
            [
                which,
                f"{ours:.4f} ± {ours_error:.4f}",
                f"{peer:.4f} ± {peer_error:.4f}",
                f"{ours - peer:+.4f}",
                "yes" if passed else "NO" if peer_error == peer_error else "one seed says nothing",
            ]
        )
        each = ", ".join(f"{a:.4f}/{b:.4f}" for a, b in zip(values["ours"], values["peer"], strict=True))
        verdicts.append(f"- {which} epoch, seed by seed (ours/peer): {each}")
    walls = [
        f"{side} {sum(run['wall'] for run in runs if run['side'] == side):.0f} s" for side in ("ours", "peer")
    ]
    what = (
        f"{options.model} from scratch, digits, imgsz {options.imgsz}, batch {options.batch}, "
        f"nbs {options.nbs}, {options.epochs} epochs, {options.optimizer} lr0={options.lr0:g}, "
        f"{options.seeds} seeds; mean mAP50-95 on val ± standard error"
    )
    header = ["epoch", "ours", "peer", "difference", "ours >= peer - 1 SE"]
    return [what, "", *common.table(header, rows), "", *verdicts, f"- wall time: {', '.join(walls)}"]


def write_curves(runs: list[dict[str, Any]], out: Path) -> None:
    """curves.csv and curves.png: mAP50-95 by epoch, a thin line a seed, a thick one the mean."""
    from matplotlib.figure import Figure

    with (out / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["side", "seed", "epoch", FITNESS])
        for run in runs:
            writer.writerows([run["side"], run["seed"], n + 1, value] for n, value in enumerate(run["curve"]))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for side, colour in (("ours", "tab:blue"), ("peer", "tab:orange")):
        curves = [run["curve"] for run in runs if run["side"] == side]
        epochs = range(1, len(curves[0]) + 1)
        for curve in curves:
            axes.plot(epochs, curve, color=colour, alpha=0.3, linewidth=1)
        mean = [sum(values) / len(values) for values in zip(*curves, strict=True)]
        axes.plot(
            epochs, mean, color=colour, linewidth=2.5, label="tunekit" if side == "ours" else "ultralytics"
        )
    axes.set(xlabel="epoch", ylabel="mAP50-95 (val)")
    axes.legend()
    figure.savefig(out / "curves.png", dpi=120)


if __name__ == "__main__":
    main()
