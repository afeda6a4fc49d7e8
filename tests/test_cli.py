"""The command line as a user meets it: real processes, exit codes, one sentence, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tunekit
from tunekit import cli, verbs
from tunekit.args import TrainArgs
from tunekit.errors import ArgumentError
from tunekit.search_args import TuneArgs
from tunekit.verb_args import ARGUMENTS
from tunekit.words import parse

Completed = subprocess.CompletedProcess[str]


def tunekit_command(*words: str, cwd: Path | None = None, **environment: str) -> Completed:
    return subprocess.run(
        [sys.executable, "-m", "tunekit", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=60,
    )


def complaint(*words: str, cwd: Path | None = None) -> str:
    """What a wrong call says on stderr, after checking that it says it well."""
    done = tunekit_command(*words, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())
    return done.stderr.strip()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[TrainArgs]:
    """train's calls are noted instead of run: what reaches a verb is the subject here."""
    calls: list[TrainArgs] = []
    monkeypatch.setattr(verbs, "_noted", calls.append, raising=False)
    monkeypatch.setitem(verbs.VERBS, "train", verbs.Verb("", "tunekit.verbs:_noted", ""))
    return calls


# Help


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_verb(words: list[str]) -> None:
    done = tunekit_command(*words)
    assert done.returncode == 0
    for name, verb in verbs.VERBS.items():
        assert f"  {name}" in done.stdout
        assert verb.summary in done.stdout


@pytest.mark.parametrize("verb", ARGUMENTS)
def test_a_verbs_help_shows_each_argument_with_its_default(verb: str) -> None:
    done = tunekit_command(verb, "--help")
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip() and line[0] != " "}
    for name, field in ARGUMENTS[verb].model_fields.items():
        assert name in rows
        if field.default is not None and not field.is_required():
            default = field.default
            assert (",".join(default) if isinstance(default, tuple) else str(default)) in rows[name]


def test_help_shows_choices_ranges_docs_and_what_can_be_searched() -> None:
    shown = " ".join(tunekit_command("tune", "--help").stdout.split())
    assert "sampler auto auto, genetic, tpe, cmaes, what chooses the next trial" in shown
    assert "mosaic * 1.0 number from 0 to 1 probability of a mosaic of four images" in shown
    assert "iterations 100 whole number at least 1" in shown


@pytest.mark.parametrize("words", [["help", "train"], ["train", "-h"], ["train", "epochs=3", "--help"]])
def test_a_verbs_help_can_be_asked_for_in_each_usual_way(words: list[str]) -> None:
    assert tunekit_command(*words).stdout.startswith("tunekit train: ")


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    heavy = ("torch", "ray", "optuna", "numpy", "cv2", "pyarrow", "matplotlib", "plotly")
    for words in (["--help"], ["tune", "--help"]):
        code = (
            f"import sys; from tunekit.cli import main; main({words!r});"
            f"sys.exit(' '.join(name for name in {heavy!r} if name in sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stderr.strip() == ""
    # Processor time, as the machine may be busy; alone on one, the wall clock shows the same.
    assert min(processor_seconds("--help") for _ in range(3)) < 0.5
    assert min(processor_seconds("tune", "--help") for _ in range(3)) < 1.0


def processor_seconds(*words: str) -> float:
    before = os.times()
    tunekit_command(*words)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, tunekit; sys.exit(int(bool({'torch', 'ray', 'optuna', 'pydantic'} & set(sys.modules))))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_version_is_the_packages() -> None:
    assert tunekit_command("--version").stdout == f"tunekit {tunekit.__version__}\n"


# Mistakes


VERBS = ", ".join(verbs.VERBS)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["trian"],
            f"error: unknown verb 'trian': did you mean 'train'? The verbs are {VERBS}",
        ),
        (
            ["predict"],
            f"error: unknown verb 'predict': The verbs are {VERBS}",
        ),
        (
            ["data=x.yaml"],
            f"error: a verb comes first ({VERBS}): tunekit VERB data=x.yaml",
        ),
        (
            ["help", "tun"],
            f"error: unknown verb 'tun': did you mean 'tune'? The verbs are {VERBS}",
        ),
        (["train", "epoch=3"], "error: unknown argument 'epoch': did you mean 'epochs'?"),
        (["train", "lr=3"], "error: unknown argument 'lr': here it is 'lr0'"),
        (["train", "epochs"], "error: 'epochs' has no value: write epochs=VALUE"),
        (["train", "--epochs", "3"], "error: '--epochs' has no value: write epochs=VALUE"),
        (["train", "epoch"], "error: 'epoch' is not of the form name=value; did you mean epochs=VALUE?"),
        (["train", "val"], "error: one verb at a time: 'train' or 'val'"),
        (["train", "=3"], "error: '=3': write name=value without spaces around '='"),
        (["train", "lr0=1", "lr0=2"], "error: lr0 is given twice: lr0=1 and lr0=2"),
        (["train", "epochs=-1"], "error: epochs=-1: must be at least 1"),
        (["tune", "iterations=0"], "error: iterations=0: must be at least 1"),
        (["val"], "error: model= is needed: checkpoint to validate"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(words: list[str], sentence: str) -> None:
    assert complaint(*words) == sentence


def test_each_of_several_bad_values_has_its_line() -> None:
    assert complaint("train", "epochs=0", "imgsz=100", "cos_lr=perhaps").splitlines() == [
        "error: epochs=0: must be at least 1",
        "error: imgsz=100: must be a multiple of 32, the largest stride: use 96 or 128",
        "error: cos_lr=perhaps: must be True or False",
    ]


# From the words to the verb


def test_words_become_the_verbs_arguments(called: list[TrainArgs]) -> None:
    assert cli.main(["train", "epochs=3", "--lr0=0.5", "--loader-workers=2", "name=a=b"]) == 0
    (args,) = called
    assert (args.epochs, args.lr0, args.loader_workers, args.name) == (3, 0.5, 2, "a=b")


def test_the_python_api_takes_the_same_arguments(called: list[TrainArgs], tmp_path: Path) -> None:
    cfg = tmp_path / "best.yaml"
    cfg.write_text("lr0: 0.02\n")
    tunekit.train(cfg=cfg, epochs=3, device=0)
    assert (called[0].epochs, called[0].lr0, called[0].device) == (3, 0.02, "0")
    with pytest.raises(ArgumentError, match="did you mean 'epochs'"):
        tunekit.train(epoch=3)


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(args: TrainArgs) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs, "_interrupted", interrupted, raising=False)
    monkeypatch.setitem(verbs.VERBS, "train", verbs.Verb("", "tunekit.verbs:_interrupted", ""))
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        command = [sys.executable, "-m", "tunekit", "tune", "--help"]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")


# cfg=


def test_the_line_wins_over_the_file(called: list[TrainArgs], tmp_path: Path) -> None:
    cfg = tmp_path / "mine.yaml"
    cfg.write_text("# a comment\nepochs: 7\nlr0: 1e-3\ncos_lr: true\nname: 2024\ndevice: null\n")
    assert cli.main(["train", "epochs=3", f"cfg={cfg}"]) == 0
    (args,) = called
    assert (args.epochs, args.lr0, args.cos_lr, args.name, args.device) == (3, 0.001, True, "2024", None)


def test_a_file_of_all_arguments_reads_back_as_they_were(called: list[TrainArgs], tmp_path: Path) -> None:
    cfg = tmp_path / "args.yaml"
    cfg.write_text(yaml.safe_dump(TrainArgs(lr0=1e-05, optimizer="SGD").model_dump()))
    assert cli.main(["train", f"cfg={cfg}"]) == 0
    assert called[0] == TrainArgs(lr0=1e-05, optimizer="SGD")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cfg=c.yaml: is empty"),
        (b"# nothing\n", "cfg=c.yaml: is empty"),
        (b"- epochs\n", "c.yaml:1: arguments are lines of `name: value`"),
        (b"epochs\n", "c.yaml:1: arguments are lines of `name: value`"),
        (b"lr0: 0.1\nepochs: [1\n", "c.yaml:3: is not YAML"),
        (b"lr0: 0.1\n\tepochs: 1\n", "c.yaml:2: is not YAML"),
        (b"lr0: 0.1\nepochs: 0\n", "c.yaml:2: epochs=0: must be at least 1"),
        (b"lr0: 0.1\n\nepoch: 1\n", "c.yaml:3: unknown argument 'epoch': did you mean 'epochs'?"),
        (b"lr0: 0.1\nlr0: 0.2\n", "c.yaml:2: lr0 is given twice, first at c.yaml:1"),
        (b"cfg: other.yaml\n", "c.yaml:1: a cfg file cannot name another one"),
        (b"epochs: !!python/object:os.system 1\n", "c.yaml:1: is not YAML"),
        (b"? [a]\n: 1\n", "c.yaml:1: an argument's name is a word"),
        (b"lr0: 2024-99-99\n", "c.yaml:1: lr0: "),
        (b"\xff\xfe\x00", "cfg=c.yaml: cannot be read (not a text file)"),
        (b"a: \x00\n", "cfg=c.yaml: is not YAML"),
        (b"--- \na: 1\n---\nb: 2\n", "c.yaml:3: is not YAML"),
    ],
)
def test_a_cfg_that_cannot_be_used_is_told_with_its_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_bytes(content)
    assert cli.main(["train", "cfg=c.yaml"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {sentence}")


def test_a_cfg_that_is_missing_or_a_folder_is_told(tmp_path: Path) -> None:
    assert complaint("train", "cfg=no.yaml", cwd=tmp_path) == "error: cfg=no.yaml: there is no such file"
    (tmp_path / "folder").mkdir()
    assert "cannot be read" in complaint("train", "cfg=folder", cwd=tmp_path)
    assert complaint("train", "cfg=", cwd=tmp_path) == "error: cfg= names no file"


def test_a_bad_value_in_the_file_does_not_matter_when_the_line_replaces_it(
    called: list[TrainArgs], tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text("epochs: 0\n")
    assert cli.main(["train", f"cfg={tmp_path / 'c.yaml'}", "epochs=2"]) == 0
    assert called[0].epochs == 2


def test_every_verb_leads_to_code_that_exists() -> None:
    import importlib

    for verb in verbs.VERBS.values():
        module, function = verb.function.split(":")
        assert callable(getattr(importlib.import_module(module), function))
    assert set(verbs.VERBS) == set(ARGUMENTS)


def test_examples_in_the_help_parse() -> None:
    for name, verb in verbs.VERBS.items():
        settings = parse(name, verb.example.split()[2:])
        settings.pop("cfg", None)
        ARGUMENTS[name].model_validate(settings)
    assert TuneArgs.model_validate(parse("tune", ["iterations=10"])).iterations == 10


def test_what_takes_a_while_is_said_on_stderr_once(tmp_path: Path) -> None:
    done = tunekit_command(
        *(
            "train",
            "model=yolo11p.yaml",
            "imgsz=32",
            "epochs=1",
            "fraction=0.02",
            "device=cpu",
            "threads=1",
            "plots=False",
        ),
        cwd=tmp_path,
        TUNEKIT_CACHE=str(tmp_path / "cache"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("decoding 384 images of train") == 1
    assert "decoding" not in done.stdout
