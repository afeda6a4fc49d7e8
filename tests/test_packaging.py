"""The wheel, built and installed into a new environment, works away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import tunekit

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    # PYTHONPATH could lead back to the checkout.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what is tracked or new, so that a build folder left behind adds nothing."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    # Without isolation: the build tools are in this environment, nothing is fetched.
    run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        folder,
        folder / "source",
        cwd=folder,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel in it.

    What the wheel depends on is read from this environment's site-packages by a .pth line; the
    wheel's own files come first, and .pth lines of that folder (an editable install) do not count.
    """
    folder = tmp_path_factory.mktemp("environment")
    environment = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=folder)
    python = environment / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        wheel,
        cwd=folder,
    )
    site = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    listed = run("git", "ls-files", "tunekit", "search_spaces", cwd=ROOT).splitlines()
    for name in listed:
        inside = f"tunekit/{name}" if name.startswith("search_spaces/") else name
        assert inside in held


def test_the_wheel_carries_its_licence_and_no_tests(wheel: Path) -> None:
    held = zipfile.ZipFile(wheel).namelist()
    licences = [name for name in held if name.endswith(("/LICENSE", "/NOTICE"))]
    assert len(licences) == 2
    assert not [name for name in held if "tests/" in name or "benchmarks/" in name]
    (metadata,) = (name for name in held if name.endswith("/METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert f"Version: {tunekit.__version__}" in text
    assert "Requires-Python: >=3.10" in text


def test_every_dependency_is_bounded_on_both_sides(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    (metadata,) = (name for name in names if name.endswith("/METADATA"))
    lines = zipfile.ZipFile(wheel).read(metadata).decode().splitlines()
    needs = [line for line in lines if line.startswith("Requires-Dist: ")]
    assert len(needs) > 10
    for need in needs:
        assert ">=" in need
        assert "<" in need.replace("<=", "")


def test_the_command_answers_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    assert "tunekit VERB name=value" in run(installed / "tunekit", "--help", cwd=tmp_path)
    assert "lr0 *" in run(installed / "tunekit", "tune", "--help", cwd=tmp_path)


def test_spaces_models_and_digits_load_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    program = """
import json
import tunekit
from tunekit.data.digits import handwriting
from tunekit.models.build import load_spec
from tunekit.search.space import load_space
spaces = {name: len(load_space(name).parameters) for name in ("default", "quick", "augment", "scales")}
models = [load_spec(name).scale for name in ("yolo11p.yaml", "yolo11n.yaml", "yolov8s.yaml")]
digits = sum(len(handwriting(split)[1]) for split in ("train", "val", "test"))
print(json.dumps([tunekit.__file__, spaces, models, digits]))
"""
    where, spaces, models, digits = json.loads(run(installed / "python", "-c", program, cwd=tmp_path))
    assert Path(where).is_relative_to(installed.parent)
    assert spaces["default"] > spaces["quick"] > 0
    assert models == ["p", "n", "s"]
    assert digits == 1797
