"""Every command of the README is run, in the order in which a newcomer meets them.

Only their sizes are changed, so that a training takes seconds; `make test` is this test's caller, and
`make demo` would run the first tune there is but for its name and the number of its trials.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tunekit.cli import main
from tunekit.data.dataset import image_paths, label_path, load_data_config
from tunekit.search.space import load_space

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SMALL = {"epochs": "1", "imgsz": "64", "iterations": "2", "confirm": "2"}
FEW = "fraction=0.05, threads=1, concurrent=1"  # images, and processes, which take seconds to start


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def small(command: str) -> list[str]:
    """The words of a tunekit command, with sizes that make it quick."""
    words = shlex.split(command)[1:]
    for name, size in SMALL.items():
        # An extended search must be larger than the one that it extends.
        size = "3" if name == "iterations" and "resume=" in command else size
        words = [f"{name}={size}" if word.startswith(f"{name}=") else word for word in words]
    if words[0] in ("tune", "train") and "resume=" not in command and "cfg=" not in command:
        words += ["fraction=0.05", "threads=1"]
        if words[0] == "tune":
            words.append("concurrent=1")
        searched = any(word.startswith("objectives=") for word in words)  # then the space has small ones, too
        if not searched and not any(
            word.startswith("model=") and ("p.yaml" in word or ".pt" in word) for word in words
        ):
            words = [word for word in words if not word.startswith("model=")] + ["model=yolo11p.yaml"]
    return words


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder: the README's YAML files, and some pets, which here are digits."""
    folder = tmp_path_factory.mktemp("newcomer")
    for text in blocks("yaml"):
        name = re.match(r"# (\S+\.yaml)\n", text)
        assert name, f"a YAML block says its file's name in its first line: {text}"
        (folder / name[1]).write_text(text)
    digits = load_data_config("digits")
    for split in ("train", "val", "test"):
        for image in image_paths(digits, split)[:24]:
            label = label_path(image)
            for source, kind in ((image, "images"), (label, "labels")):
                target = folder / "datasets" / "pets" / kind / split / source.name
                target.parent.mkdir(parents=True, exist_ok=True)
                if kind == "images":
                    shutil.copy(source, target)
                else:  # of two kinds
                    rows = [line.split(" ", 1) for line in source.read_text().splitlines()]
                    target.write_text("".join(f"{int(digit) % 2} {box}\n" for digit, box in rows))
    return folder


@pytest.mark.timeout(600)
def test_every_command_works_in_the_order_given(
    home: Path, shared_ray: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, as Python and Ray take long to start."""
    monkeypatch.chdir(home)
    run = [line for line in commands() if not line.startswith("make ")]
    assert {line for line in commands() if line.startswith("make ")} == {"make demo", "make test"}
    assert len(run) >= 6
    for line in run:
        assert main(small(line)) == 0, f"{line}\n{capsys.readouterr()}"


def test_make_demo_runs_the_first_tune() -> None:
    told = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True)
    demo = next(line for line in reversed(told.stdout.splitlines()) if "tunekit tune" in line)
    first = next(line for line in commands() if line.startswith("tunekit tune"))
    own = re.compile(r"(name|iterations)=\S+")
    assert own.sub("", demo).split()[1:] == own.sub("", first).split()[1:]


def test_the_python_of_the_readme_works(
    home: Path, shared_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (program,) = blocks("python")
    for name, size in SMALL.items():
        program = re.sub(rf"\b{name}=\d+", f"{name}={size}", program)
    program = program.replace('model="yolo11p.yaml"', f'model="yolo11p.yaml", {FEW}')
    names: dict[str, object] = {}
    exec(program, names)
    assert len(names["table"]) == len(names["run"].trials)  # type: ignore[attr-defined,arg-type]


@pytest.mark.parametrize("run", ["runs/tune/first", "runs/train/plain"])
def test_every_file_the_readme_says_a_run_leaves_is_there(home: Path, run: str) -> None:
    folder = home / run
    table = README.split(f"### What lands in `{run}/`")[1].split("\n#")[0]
    named = [
        name
        for cell in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", cell)
    ]
    assert len(named) >= 10
    for name in named:
        assert (folder / name.replace("<number>/", "0")).exists(), name


def test_the_examples_work(
    home: Path, shared_ray: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    program = (ROOT / "examples" / "tune_digits.py").read_text()
    for name, size in SMALL.items():
        program = re.sub(rf"\b{name}=\d+", f"{name}={size}", program)
    program = program.replace("nbs=16", f"nbs=16, {FEW}")
    exec(program, {})
    assert "mAP50-95 on images that no search has seen: " in capsys.readouterr().out
    assert load_space(str(ROOT / "examples" / "space.yaml")).defaults()["optimizer"] == "AdamW"
