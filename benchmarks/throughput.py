"""How many images a second does training, and validation, get through, against the peer?

Each side in turn, in a fresh process: a few epochs of real training on the embedded digits with the
default augmentation; the first epoch warms up and is not counted. Timed is the whole training loop (data,
augmentation, forward, backward, optimizer, EMA) without validation and saving. Before that the peer runs
once with each number of loader workers and threads that it could be given, and takes the fastest.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import common

TRAIN_IMAGES = 384  # of the embedded digits


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "throughput")
    common.add_peer(found)
    found.add_argument("--model", default="yolo11n.yaml")
    found.add_argument("--imgsz", type=int, default=160)
    found.add_argument("--batch", type=int, default=16)
    found.add_argument(
        "--images", type=int, default=TRAIN_IMAGES, help="images an epoch (at most %(default)s)"
    )
    found.add_argument("--epochs", type=int, default=3, help="the first one is not counted")
    found.add_argument("--pairs", type=int, default=4, help="runs of each side")
    found.add_argument("--optimizer", default="SGD")
    found.add_argument("--val-repeats", type=int, default=3, help="validations that count; 0: none")
    found.add_argument("--bare-steps", type=int, default=30, help="steps of bare forward and backward")
    found.add_argument("--peer-workers", type=int, help="loader workers of the peer, instead of trying")
    found.add_argument("--peer-threads", type=int, help="threads of the peer, instead of trying")
    found.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="more arguments of both sides"
    )
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    if options.epochs < 2:
        raise SystemExit("--epochs must be at least 2: the first one only warms up")
    version = common.check_peer(options.peer_python)
    shared = common.shared_settings(
        {
            "epochs": options.epochs,
            "batch": options.batch,
            "imgsz": options.imgsz,
            "fraction": min(1.0, options.images / TRAIN_IMAGES),
            "optimizer": options.optimizer,
            "close_mosaic": 0,
            "patience": 0,
            **common.parsed(options.set),
        }
    )
    choice, tried = peer_choice(options, shared)
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    for pair in range(options.pairs):
        for side in common.alternating(pair):
            name = f"{side}-{pair}"
            result = (
                ours(options, shared, name)
                if side == "ours"
                else peer(options, shared, *choice, name, options.val_repeats)
            )
            runs[side].append(result)
            print(
                f"pair {pair} {side}: {rate(result):.1f} images/s, validation {shown_val(result)}", flush=True
            )
    if len({result["parameters"] for results in runs.values() for result in results}) != 1:
        raise SystemExit("the models differ in their parameters")
    bare = bare_rate(options, shared)
    lines = summary(options, runs, bare, choice, tried)
    common.report(f"Throughput against ultralytics {version}", began, lines, options.out)


def rate(result: dict[str, Any]) -> float:
    """Images/s over the epochs after the first: the harmonic mean, as their sizes are alike."""
    return statistics.harmonic_mean([row["images_per_second"] for row in result["epochs"][1:]])


def shown_val(result: dict[str, Any]) -> str:
    found = result["val_images_per_second"]
    return f"{found:.1f} images/s" if found else "not asked for"


def ours(options: argparse.Namespace, shared: dict[str, Any], name: str) -> dict[str, Any]:
    job = {"settings": common.our_settings(shared, options), "val_repeats": options.val_repeats}
    return common.run_ours("ours/train.py", job, options.out, name)


def peer(
    options: argparse.Namespace,
    shared: dict[str, Any],
    workers: int,
    threads: int,
    name: str,
    val_repeats: int,
) -> dict[str, Any]:
    data, model = common.digits_for_peer(options.out), common.model_for_peer(options.model, options.out)
    given = [f"workers={workers}", "val=False", *options.peer_set]
    settings = common.peer_settings(shared, options.out, data, given)
    job = {"model": model, "settings": settings, "threads": threads, "val_repeats": val_repeats}
    return common.run_peer(options.peer_python, "peer/train.py", job, options.out, name)


def peer_choice(
    options: argparse.Namespace, shared: dict[str, Any]
) -> tuple[tuple[int, int], dict[tuple[int, int], float]]:
    """(loader workers, threads) that make the peer fastest here, and what was tried: choice -> images/s."""
    workers = (0, 1, 2) if options.peer_workers is None else (options.peer_workers,)
    full = options.peer_threads or options.threads
    choices = [(number, full) for number in workers]
    if options.peer_threads is None and full > 1:
        # A loader process beside fewer computing threads; the peer's own choice on CPU is cores - 1.
        choices += [(number, full - 1) for number in workers if number]
    if len(choices) == 1:
        return choices[0], {}
    tried = {}
    for choice in choices:
        result = peer(options, {**shared, "epochs": 2}, *choice, "peer-try", 0)
        tried[choice] = rate(result)
        print(f"peer with workers={choice[0]}, {choice[1]} threads: {tried[choice]:.1f} images/s", flush=True)
    return max(tried, key=tried.__getitem__), tried


def bare_rate(options: argparse.Namespace, shared: dict[str, Any]) -> float:
    job = {"settings": common.our_settings(shared, options), "nc": 10, "steps": options.bare_steps}
    return float(common.run_ours("ours/bare.py", job, options.out, "bare")["images_per_second"])


def summary(
    options: argparse.Namespace,
    runs: dict[str, list[dict[str, Any]]],
    bare: float,
    choice: tuple[int, int],
    tried: dict[tuple[int, int], float],
) -> list[str]:
    rows = [compared("training", [[rate(result) for result in runs[side]] for side in ("ours", "peer")])]
    if options.val_repeats:
        rates = [[result["val_images_per_second"] for result in runs[side]] for side in ("ours", "peer")]
        rows.append(compared("validation", rates))
    share = statistics.median(rate(result) for result in runs["ours"]) / bare
    precision = runs["ours"][0]["precision"]
    what = (
        f"{options.model}, {options.imgsz} px, batch {options.batch}, "
        f"digits ({options.images} images an epoch), default augmentation, "
        f"{options.optimizer}, {options.threads} threads; {options.pairs} runs a side, "
        f"{options.epochs - 1} epochs counted of each"
    )
    header = ["images/s, median", "ours", "peer", "ratio, median of pairs", "ratio, min to max"]
    attempts = "; ".join(f"{w} workers {t} threads {found:.1f}" for (w, t), found in tried.items())
    return [
        what,
        "",
        *common.table(header, rows),
        "",
        f"- ours computes in {precision}; its training runs at {share:.0%} of "
        f"bare forward + backward of the model ({bare:.1f} images/s)",
        f"- the peer computes in float32 (it has no autocast on CPU), cache=ram, workers={choice[0]}, "
        f"{choice[1]} threads" + (f"; tried: {attempts}" if attempts else ""),
    ]


def compared(what: str, rates: list[list[float]]) -> list[str]:
    ratios = [ours / peer for ours, peer in zip(*rates, strict=True)]
    ours, peer = (statistics.median(side) for side in rates)
    span = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return [what, f"{ours:.1f}", f"{peer:.1f}", f"{statistics.median(ratios):.2f}", span]


if __name__ == "__main__":
    main()
