"""How many images a second does training, and validation, get through, against the peer?

Each side in turn, in a fresh process: a few epochs of real training with the default augmentation; the
first epoch warms up and is not counted. Timed is the whole training loop (data, augmentation, forward,
backward, optimizer, EMA) without validation and saving. In the same turns the bare model is timed:
forward and backward alone. Before that the peer runs once with each number of loader workers and threads
that it could be given, and takes the fastest. --configs runs several settings, one after another, and
puts them in one table.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from typing import Any

import common
import datasets

from tunekit.data.dataset import image_files, load_data_config

STANDARD = ("yolo11n:160:16", "yolo11n:320:8", "yolov8n:320:8", "yolo11p:128:16")


@dataclass(frozen=True)
class Setting:
    """What is trained: a row of the table."""

    model: str  # a YAML's name
    imgsz: int
    batch: int

    @property
    def key(self) -> str:
        return f"{self.model.removesuffix('.yaml')}-{self.imgsz}-{self.batch}"

    def __str__(self) -> str:
        return f"{self.model.removesuffix('.yaml')}, {self.imgsz} px, batch {self.batch}"


@dataclass(frozen=True)
class Peer:
    """How the peer is run: with what makes it fastest here."""

    workers: int
    threads: int


@dataclass(frozen=True)
class Found:
    """A setting's results: images/s, one of each run."""

    setting: Setting
    train: dict[str, list[float]]  # side -> a rate a run
    val: dict[str, list[float]]  # the same; empty without validations
    bare: list[float]
    precision: str
    choice: Peer
    tried: dict[Peer, float]


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "throughput")
    common.add_peer(found)
    common.add_work(found)
    found.add_argument("--model", default="yolo11n.yaml")
    found.add_argument("--imgsz", type=int, default=160)
    found.add_argument("--batch", type=int, default=16)
    found.add_argument(
        "--configs",
        nargs="*",
        metavar="MODEL:IMGSZ:BATCH",
        help=f"several settings instead of --model, --imgsz and --batch; alone: {' '.join(STANDARD)}",
    )
    found.add_argument("--images", type=int, help="images an epoch; all when left out")
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
    chosen = settings(options)
    version = common.check_peer(options.peer_python)
    images, nc = data_facts(options.data)
    options.images = min(options.images or images, images)
    results = []
    for setting in chosen:
        results.append(measured(options, setting, options.images / images, nc))
        lines = summary(options, results)  # after each setting, so that what is there survives a stop
        common.report(f"Throughput against ultralytics {version}", began, lines, options.out)


def settings(options: argparse.Namespace) -> list[Setting]:
    if options.configs is None:
        return [Setting(options.model, options.imgsz, options.batch)]
    found = []
    for word in options.configs or STANDARD:
        parts = word.split(":")
        if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
            raise SystemExit(f"--configs {word}: must be MODEL:IMGSZ:BATCH, such as {STANDARD[0]}")
        found.append(Setting(f"{parts[0].removesuffix('.yaml')}.yaml", int(parts[1]), int(parts[2])))
    return found


def data_facts(data: str) -> tuple[int, int]:
    """Training images and classes."""
    config = load_data_config(datasets.for_ours(data))
    return len(image_files(config, "train")), config.nc


def measured(options: argparse.Namespace, setting: Setting, fraction: float, nc: int) -> Found:
    shared = common.shared_settings(
        {
            "epochs": options.epochs,
            "batch": setting.batch,
            "imgsz": setting.imgsz,
            "fraction": fraction,
            "optimizer": options.optimizer,
            "close_mosaic": 0,
            "patience": 0,
            "warmup_epochs": 1,  # the one not counted; of a usual training it is a few percent
            **common.parsed(options.set),
        }
    )
    print(f"{setting}:", flush=True)
    choice, tried = peer_choice(options, setting, shared)
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    bare = []
    for pair in range(options.pairs):
        for side in common.alternating(pair):
            name = f"{side}-{setting.key}-{pair}"
            result = (
                ours(options, setting, shared, name)
                if side == "ours"
                else peer(options, setting, shared, choice, name, options.val_repeats)
            )
            runs[side].append(result)
            seen = result["val_images_per_second"]
            shown = f"{seen:.1f} images/s" if seen else "not asked for"
            print(f"pair {pair} {side}: {rate(result):.1f} images/s, validation {shown}", flush=True)
        bare.append(bare_rate(options, setting, shared, nc))
    if len({result["parameters"] for results in runs.values() for result in results}) != 1:
        raise SystemExit(f"{setting}: the models differ in their parameters")
    validations = {side: [result["val_images_per_second"] for result in runs[side]] for side in runs}
    return Found(
        setting,
        {side: [rate(result) for result in runs[side]] for side in runs},
        validations if options.val_repeats else {},
        bare,
        runs["ours"][0]["precision"],
        choice,
        tried,
    )


def rate(result: dict[str, Any]) -> float:
    """Images/s over the epochs after the first: the harmonic mean, as their sizes are alike."""
    return statistics.harmonic_mean([row["images_per_second"] for row in result["epochs"][1:]])


def ours(options: argparse.Namespace, setting: Setting, shared: dict[str, Any], name: str) -> dict[str, Any]:
    given = {**common.our_settings(shared, options), "model": setting.model, "val": False}
    job = {"settings": given, "val_repeats": options.val_repeats}
    return common.run_ours("ours/train.py", job, options.out, name)


def peer(
    options: argparse.Namespace,
    setting: Setting,
    shared: dict[str, Any],
    choice: Peer,
    name: str,
    val_repeats: int,
) -> dict[str, Any]:
    data = datasets.for_peer(options.data, options.out)
    given = [f"workers={choice.workers}", "val=False", *options.peer_set]
    arguments = common.peer_settings(shared, options.out, data, given, options.device)
    job = {"model": common.model_for_peer(setting.model, options.out), "settings": arguments}
    job |= {"threads": choice.threads, "val_repeats": val_repeats}
    return common.run_peer(options.peer_python, "peer/train.py", job, options.out, name)


def peer_choice(
    options: argparse.Namespace, setting: Setting, shared: dict[str, Any]
) -> tuple[Peer, dict[Peer, float]]:
    """What makes the peer fastest here, and what was tried: choice -> images/s."""
    if options.peer_workers is not None:
        workers = [options.peer_workers]
    elif options.device == "cpu":
        workers = [0, 1, 2]
    else:  # a GPU leaves the cores to loading
        workers = sorted({0, options.threads // 2, options.threads})
    full = options.peer_threads or options.threads
    choices = [Peer(number, full) for number in workers]
    if options.device == "cpu" and options.peer_threads is None and full > 1:
        # A loader process beside fewer computing threads; the peer's own choice on CPU is cores - 1.
        choices += [Peer(number, full - 1) for number in workers if number]
    if len(choices) == 1:
        return choices[0], {}
    tried = {}
    for choice in choices:
        result = peer(options, setting, {**shared, "epochs": 2}, choice, f"peer-{setting.key}-try", 0)
        tried[choice] = rate(result)
        print(f"peer with {shown_choice(choice)}: {tried[choice]:.1f} images/s", flush=True)
    return max(tried, key=tried.__getitem__), tried


def shown_choice(choice: Peer) -> str:
    return f"workers={choice.workers}, {choice.threads} threads"


def bare_rate(options: argparse.Namespace, setting: Setting, shared: dict[str, Any], nc: int) -> float:
    given = {**common.our_settings(shared, options), "model": setting.model}
    job = {"settings": given, "nc": nc, "steps": options.bare_steps}
    return float(common.run_ours("ours/bare.py", job, options.out, "bare")["images_per_second"])


def summary(options: argparse.Namespace, results: list[Found]) -> list[str]:
    what = (
        f"{options.data} ({options.images} images an epoch), default augmentation, {options.optimizer}, "
        f"{options.device}, {options.threads} threads; {options.pairs} runs a side, "
        f"{options.epochs - 1} epochs counted of each; "
        "images/s: medians of the runs; ratio: median of the pairs (lowest to highest)"
    )
    header = ["setting", "training, ours", "peer", "ratio", "of bare forward + backward"]
    if options.val_repeats:
        header += ["validation, ours", "peer", "ratio"]
    rows = []
    for found in results:
        share = statistics.median(found.train["ours"]) / statistics.median(found.bare)
        rows.append([str(found.setting), *compared(found.train), f"{share:.0%}"])
        rows[-1] += compared(found.val) if found.val else []
    tries = []
    for found in results:
        attempts = "; ".join(f"{shown_choice(each)} {speed:.1f}" for each, speed in found.tried.items())
        tries.append(
            f"- {found.setting}: ours in {found.precision}, bare {statistics.median(found.bare):.1f}; "
            f"peer with {shown_choice(found.choice)}" + (f" (tried: {attempts})" if attempts else "")
        )
    note = "- the peer: cache=ram"
    if options.device == "cpu":
        note += ", float32 (it has no autocast on CPU)"
    return [what, "", *common.table(header, rows), "", *tries, note]


def compared(rates: dict[str, list[float]]) -> list[str]:
    """Cells: ours, the peer's, and their ratio."""
    ratios = [ours / peer for ours, peer in zip(rates["ours"], rates["peer"], strict=True)]
    ours, peer = (statistics.median(rates[side]) for side in ("ours", "peer"))
    span = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return [f"{ours:.1f}", f"{peer:.1f}", span]


if __name__ == "__main__":
    main()
