"""Who finds better settings with fewer epochs? Every strategy on every box, seed by seed; a table, a picture.

    python benchmarks/search/compare.py digits --seeds 30 --slots 4
    python benchmarks/search/compare.py tables --slots 1 --strategies auto random 'optuna tpe' 'optuna cmaes'

Counted is what a search would report at any time, by its true fitness, which it does not know, against the
epochs that all its trainings have taken by then. `target` is what the peer's newest tuner, one training
after the other, reports after 100 whole trainings (the median over its seeds); shown are the epochs and the
simulated time until a search is there to stay, both in whole trainings. `lead` is by how much the median of
`auto + forecast` is ahead where it is least so, from 5 trainings on. Searches that were run before are read
from --out, so strategies can be added one by one; `--anew` forgets them.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import common
import numpy as np
import optuna
from boxes import PROBLEMS, TABLES, Box, FromScratch, Synthetic, Tabular
from matplotlib.figure import Figure
from scipy.stats import rankdata, studentized_range
from simulate import Story, search
from strategies import ABLATED, STRATEGIES
from surrogate import HOW, Learnt
from tasks import TASKS

from tunekit.results.style import save

MARKS = (5, 10, 20, 50, 100)  # whole trainings
FROM_SCRATCH = "from scratch"
ALL_TABLES = tuple(f"{family}/{dataset}" for family, datasets in TABLES.items() for dataset in datasets)
BOXES = (
    *(f"{task}, {how}" if how else task for task in TASKS for how in HOW),
    *PROBLEMS,
    FROM_SCRATCH,
    *ALL_TABLES,
)
SEVERAL = {"synthetic": tuple(PROBLEMS), "tables": ALL_TABLES}
ALONE = ("peer", "peer, our scales", "classic")  # know no trainings side by side
KNOWN = {**STRATEGIES, **ABLATED}
TARGET = "peer"
LEADER = "auto + forecast"
WHOLE = 100  # trainings of the target


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("boxes", nargs="+", choices=(*BOXES, *SEVERAL))
    parser.add_argument("--strategies", nargs="+", choices=KNOWN, default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--slots", type=int, default=4, help="trainings side by side (%(default)s)")
    parser.add_argument(
        "--trainings", type=int, default=WHOLE, help="whole ones' epochs to spend (%(default)s)"
    )
    parser.add_argument("--processes", type=int, default=common.cores(), help="(%(default)s)")
    parser.add_argument("--anew", action="store_true", help="run searches that were run before, too")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/search"))
    options = parser.parse_args()
    options.boxes = [box for word in options.boxes for box in SEVERAL.get(word, (word,))]
    return options


def main() -> None:
    options, began = arguments(), common.machine()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = [
        (name, box, 1 if name in ALONE else options.slots, options.trainings, seed, options.out)
        for box in options.boxes
        for name in options.strategies
        for seed in seeds
    ]
    if options.anew:
        for job in jobs:
            kept(*job).unlink(missing_ok=True)
    (options.out / "stories").mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for done, job in enumerate(pool.imap_unordered(run, jobs), 1):
            print(f"\r{done}/{len(jobs)} {job}", end="", file=sys.stderr, flush=True)
    text: list[str] = []
    ranks: list[np.ndarray] = []
    marks = [mark for mark in MARKS if mark <= options.trainings]
    for box in options.boxes:
        stories = {
            name: [
                read(name, box, 1 if name in ALONE else options.slots, options.trainings, seed, options.out)
                for seed in seeds
            ]
            for name in options.strategies
        }
        epochs = box_of(box, 0).epochs
        at = {
            name: np.array([one.at(np.array(marks) * epochs) for one in all_])
            for name, all_ in stories.items()
        }
        ranks.append(mean_ranks(at))
        text += [f"{box}", "", *report(stories, at, ranks[-1], marks, epochs), ""]
        save(picture(stories, epochs, options.trainings, box), options.out / f"{box.replace('/', ' ')}.png")
    if len(options.boxes) > 1:
        text += overall(options.strategies, np.array(ranks), marks)
    title = f"Search: {options.seeds} seeds, {options.slots} trainings side by side"
    common.report(title, began, text, options.out)


def box_of(name: str, seed: int) -> Box:
    """The synthetic ones are another function for each seed."""
    if name == FROM_SCRATCH:
        return FromScratch(seed)
    if name in PROBLEMS:
        return Synthetic(name, seed)
    family, _, dataset = name.partition("/")
    if family in TABLES:
        return Tabular(family, dataset)
    task, _, how = name.partition(", ")
    return Learnt(task, how)


def kept(name: str, box: str, slots: int, trainings: int, seed: int, out: Path) -> Path:
    words = f"{box}-{name}-{slots}-{trainings}-{seed}"
    return out / "stories" / ("".join(c if c.isalnum() or c == "-" else "_" for c in words) + ".json")


def run(job: tuple[str, str, int, int, int, Path]) -> str:
    """One search, in a process of its own, if it is not there yet."""
    name, box, slots, trainings, seed, _ = job
    file = kept(*job)
    if not file.exists():
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        place = box_of(box, seed)
        story = search(KNOWN[name], place, slots, trainings * place.epochs, seed)
        file.write_text(json.dumps(asdict(story)))
    return file.stem


def read(name: str, box: str, slots: int, trainings: int, seed: int, out: Path) -> Story:
    return Story(**json.loads(kept(name, box, slots, trainings, seed, out).read_text()))


def report(
    stories: dict[str, list[Story]],
    at: dict[str, np.ndarray],
    ranks: np.ndarray,
    marks: list[int],
    epochs: int,
) -> list[str]:
    """`at`: of each strategy (seeds, marks); `ranks`: (strategies, marks)."""
    everywhere = np.arange(1, marks[-1] * epochs + 1)
    paths = {name: np.array([one.at(everywhere) for one in all_]) for name, all_ in stories.items()}
    middles = {name: np.median(path, axis=0)[MARKS[0] * epochs - 1 :] for name, path in paths.items()}
    judged = marks.index(min(20, marks[-1]))
    target = float(np.median(at[TARGET][:, -1])) if TARGET in at else None
    rows = []
    for (name, values), rank in zip(at.items(), ranks[:, judged], strict=True):
        middle = [f"{np.median(values[:, place]):.3f}" for place in range(len(marks))]
        needed = ["", ""] if target is None else reached(stories[name], target, epochs)
        apart = LEADER in middles and name != LEADER
        lead = f"{(middles[LEADER] - middles[name]).min():.3f}" if apart else ""
        rows.append([name, *middle, f"{paths[name].mean():.3f}", f"{rank:.2f}", lead, *needed])
    rows.sort(key=lambda row: float(row[-4]))
    header = [
        "strategy",
        *(f"{mark} trainings" for mark in marks),
        "mean",
        f"rank at {marks[judged]}",
        "lead",
        "epochs to the target",
        "time to it",
    ]
    text = common.table(header, rows)
    many = len(next(iter(stories.values())))
    text += [
        "",
        f"Ranks that differ by less than {critical(len(stories), many):.2f} do not differ (Nemenyi, 5%).",
    ]
    if target is not None:
        text += [f"Target, what {TARGET} reports after {marks[-1]} trainings: {target:.3f}."]
    return text


def overall(names: list[str], ranks: np.ndarray, marks: list[int]) -> list[str]:
    """`ranks`: (boxes, strategies, marks), each the mean over seeds. Seeds of one box are no boxes of
    their own: what is true of one may be true of it alone."""
    middle = ranks.mean(axis=0)
    order = np.argsort(middle[:, -1])
    rows = [[names[place], *(f"{rank:.2f}" for rank in middle[place])] for place in order]
    return [
        f"Mean ranks over {len(ranks)} boxes",
        "",
        *common.table(["strategy", *(f"{mark} trainings" for mark in marks)], rows),
        "",
        f"Ranks that differ by less than {critical(len(names), len(ranks)):.2f} do not differ (Nemenyi, 5%).",
    ]


def reached(stories: list[Story], target: float, epochs: int) -> list[str]:
    """Whole trainings' epochs, and their time, until a search reports the target and never less again: the
    medians."""
    needed = []
    for story in stories:
        below = [place for place, truth in enumerate(story.truth) if truth < target]
        last = below[-1] + 1 if below else 0
        there = last < len(story.epochs)
        needed.append((story.epochs[last], story.seconds[last]) if there else (math.inf, math.inf))
    spent = np.median(np.array(needed) / epochs, axis=0)  # an epoch takes a second
    return ["not reached" if math.isinf(one) else f"{one:.1f}" for one in spent]


def mean_ranks(at: dict[str, np.ndarray]) -> np.ndarray:
    """(strategies, marks) over seeds; 1 is the best."""
    values = np.stack(list(at.values()))
    return np.asarray(rankdata(-values, axis=0).mean(axis=1))


def critical(strategies: int, blocks: int) -> float:
    """The critical difference of mean ranks (Demsar, JMLR 7, 2006)."""
    quantile = studentized_range.ppf(0.95, strategies, math.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(strategies * (strategies + 1) / (6 * blocks)))


def picture(stories: dict[str, list[Story]], epochs: int, trainings: int, box: str) -> Figure:
    """Medians over seeds against epochs, the middle half shaded for the default and the target."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    spent = np.geomspace(2 * epochs, trainings * epochs, 200)
    for place, (name, all_) in enumerate(stories.items()):
        values = np.array([one.at(spent) for one in all_])
        style = ("-", "--", ":")[place // 10 % 3]  # there are ten colours
        (line,) = axes.plot(spent / epochs, np.median(values, axis=0), style, label=name)
        if name in (TARGET, LEADER):
            low, high = np.quantile(values, (0.25, 0.75), axis=0)
            axes.fill_between(spent / epochs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(
        xscale="log", xlabel="epochs spent, in whole trainings", ylabel="true fitness of the best", title=box
    )
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
