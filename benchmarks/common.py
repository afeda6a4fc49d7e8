"""What the benchmarks share: the machine in words, tables, statistics, and workers in processes of their own.

A worker is a file of benchmarks/ours or benchmarks/peer that is called with a job and a result file
(JSON). The peer runs in an environment of its own (`--peer-python`), kept offline and quiet; nothing
of it is ever imported here.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

HERE = Path(__file__).resolve().parent
CONFIGS = HERE.parent / "tunekit" / "models" / "configs"
# Arguments that mean the same on both sides, under the same names: those of some groups, and these.
SHARED_GROUPS = ("optimization", "loss", "augmentation")
SHARED_NAMES = (
    "epochs",
    "batch",
    "imgsz",
    "patience",
    "fraction",
    "seed",
    "multi_scale",
    "rect",
    "single_cls",
)
OURS_ALONE = ("lr_batch", "label_smoothing")  # of those groups, but the peer does not know them


def parser(doc: str, out: str) -> argparse.ArgumentParser:
    """A command line with the options that all benchmarks have."""
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument(
        "--out", type=Path, default=Path("runs/bench") / out, help="folder for everything written"
    )
    found.add_argument(
        "--threads", type=int, default=cores(), help="CPU threads of either side (%(default)s)"
    )
    return found


def add_peer(found: argparse.ArgumentParser) -> None:
    found.add_argument(
        "--peer-python",
        type=Path,
        default=os.environ.get("PEER_PYTHON"),
        help="Python of an environment with ultralytics in it (or the environment variable PEER_PYTHON)",
    )
    found.add_argument(
        "--ours-set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="more arguments of ours, such as amp=False",
    )
    found.add_argument(
        "--peer-set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="more arguments of the peer, such as channels_last=True",
    )


def add_work(found: argparse.ArgumentParser) -> None:
    """Which data and device the training is on."""
    found.add_argument(
        "--data",
        default="digits",
        help="digits (embedded), trees (photographs from the air, see realdata.py) or a data YAML (beside "
        "whose labels the peer writes a cache of its own)",
    )
    found.add_argument("--device", default="cpu", help="cpu or cuda, for both sides (%(default)s)")


def check_peer(python: Path | None) -> str:
    """The peer's version. Ends the program with the way out when there is no peer."""
    advice = (
        "make one with: python3 -m venv /tmp/peer && /tmp/peer/bin/pip install ultralytics; "
        "then give --peer-python /tmp/peer/bin/python"
    )
    if python is None:
        raise SystemExit(f"--peer-python is needed: the environment that holds the peer; {advice}")
    ask = "import importlib.metadata as m; print(m.version('ultralytics'))"
    try:
        return subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as fault:
        raise SystemExit(f"--peer-python {python}: no ultralytics there ({fault}); {advice}") from None


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """CPU model with its widest arithmetic (where that is bfloat16 we train in it), cores and memory of
    this machine, and the load that was on it before we began."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        flags = told.get("flags", "").split()
        widest = next((flag for flag in ("avx512_bf16", "avx512f", "avx2") if flag in flags), "no avx2")
        model = f"{told.get('model name', model)} ({widest})"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {cores()} cores, {memory:.0f} GB, load {os.getloadavg()[0]:.1f} at the start"


def report(title: str, began: str, lines: Sequence[str], out: Path) -> None:
    """Print a section for RESULTS.md (and keep it in `out`/report.md); `began` is machine() at the start."""
    command = shlex.join(["python", *(_plain(word) for word in _argv())])
    today = datetime.date.today().isoformat()
    text = "\n".join([f"### {title}", "", f"{today} · {began}", f"`{command}`", "", *lines, ""])
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(text)
    print(f"\n{text}\n(written to {out / 'report.md'})")


def _argv() -> list[str]:
    return [str(Path(sys.argv[0]).resolve().relative_to(HERE.parent)), *sys.argv[1:]]


def _plain(word: str) -> str:
    """Paths of the machine say nothing to a reader: the peer's Python becomes PEER."""
    return "PEER" if word.endswith(("/bin/python", "/bin/python3")) else word


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A markdown table; floats with three decimals, everything else as it prints."""
    cells = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in [list(header), ["---"] * len(header), *cells]]


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error; of one value the error is unknown (nan)."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def shared_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument that both sides know, in full: `settings` over tunekit's defaults."""
    from tunekit.args import TrainArgs
    from tunekit.checks import build_args

    args = build_args(TrainArgs, settings)
    groups = {name: field.json_schema_extra["group"] for name, field in TrainArgs.model_fields.items()}
    names = [name for name, group in groups.items() if group in SHARED_GROUPS and name not in OURS_ALONE]
    names += SHARED_NAMES
    alone = sorted(settings.keys() - set(names))
    if alone:
        raise SystemExit(f"{alone[0]} is not an argument of both sides: use --ours-set or --peer-set")
    return {name: getattr(args, name) for name in names}


def our_settings(shared: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of our train: the shared ones, the machine's and those of --ours-set."""
    own = {
        "model": options.model,
        "data": datasets.for_ours(options.data),
        "device": options.device,
        "threads": options.threads,
    }
    return {**shared, **own, **parsed(options.ours_set)}


def model_for_peer(model: str, out: Path) -> str:
    """Our model YAML under the name that says the scale. The peer does not know the letter p, and then
    takes the file's first scale, which is p; parameter counts are compared to be sure."""
    family = "".join(letter for letter in Path(model).stem.rstrip("pnsmlx"))
    copy = out / "peer" / model
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(CONFIGS / f"{family}.yaml", copy)
    return str(copy.resolve())


def peer_settings(
    shared: Mapping[str, Any], out: Path, data: str, more: Sequence[str], device: str = "cpu"
) -> dict[str, Any]:
    """Arguments of the peer's train: ours, and what keeps it quiet and offline."""
    quiet = {"plots": False, "verbose": False, "pretrained": False, "exist_ok": True}
    own = {
        "device": "0" if device == "cuda" else device,
        "amp": device != "cpu",
        "workers": 0,
        "cache": "ram",
        "project": str((out / "peer").resolve()),
        "name": "run",
    }
    return {**shared, **quiet, **own, "data": data, **parsed(more)}


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE words, values as YAML reads them."""
    import yaml

    return {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in words)}


def peer_environment(out: Path) -> dict[str, str]:
    """Environment variables of the peer: settings in `out`, no network, no installing."""
    folder = out.resolve() / "peer" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    own = {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "True", "YOLO_AUTOINSTALL": "False"}
    return {**os.environ, **own, "YOLO_VERBOSE": "False", "WANDB_DISABLED": "true"}


def run_worker(
    python: Path | str,
    script: str,
    job: Mapping[str, Any],
    out: Path,
    name: str,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Run benchmarks/`script` on `job`; its result with `wall` seconds added. Ends the program on failure.

    Job and result stay in `out`/jobs, as `name`.job.json and `name`.json.
    """
    folder = out / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    job_file, result_file, log = (folder / f"{name}{end}" for end in (".job.json", ".json", ".log"))
    result_file.unlink(missing_ok=True)
    job_file.write_text(json.dumps(job, indent=1))
    start = time.perf_counter()
    command = [str(python), str(HERE / script), str(job_file.resolve()), str(result_file.resolve())]
    with log.open("w") as file:
        code = subprocess.run(command, env=dict(environment), cwd=folder, stdout=file, stderr=file).returncode
    if code or not result_file.exists():
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SystemExit(f"{script} failed with exit code {code}, see {log}:\n{tail}")
    result = {**json.loads(result_file.read_text()), "wall": time.perf_counter() - start}
    result_file.write_text(json.dumps(result))
    return result


def run_ours(script: str, job: Mapping[str, Any], out: Path, name: str) -> dict[str, Any]:
    return run_worker(sys.executable, script, job, out, name, os.environ)


def run_peer(python: Path, script: str, job: Mapping[str, Any], out: Path, name: str) -> dict[str, Any]:
    return run_worker(python, script, job, out, name, peer_environment(out))


def alternating(number: int) -> tuple[str, str]:
    """Who goes first in pair `number`: each side in turn, so that a drifting machine favours neither."""
    return ("ours", "peer") if number % 2 == 0 else ("peer", "ours")


def tune_command(settings: Mapping[str, Any]) -> list[str]:
    """`tunekit tune` as a command of its own process."""
    return [sys.executable, "-m", "tunekit", "tune", *(f"{name}={value}" for name, value in settings.items())]


def study_trials(run: Path) -> list[Any]:
    """The finished trials of a tune as Optuna recorded them, with their times, in the order of their ends."""
    from optuna import get_all_study_names, load_study
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(run / "study.journal")))
    study = load_study(study_name=get_all_study_names(storage)[0], storage=storage)
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return sorted(finished, key=lambda trial: trial.datetime_complete)
