"""Disks that are full in the middle of a search: the run's, the storage's, a node's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.tuning.nodes import can_mount
from tests.tuning.test_run import TINY, table
from tests.tuning.test_storage_search import wait_until
from tunekit.results.run import Run

GIVEN = {**TINY, "epochs": 30, "iterations": 2, "name": "full", "concurrent": 1, "cpus": 1}
WAYS_OUT = {
    "runs": "Free some space or choose another place with project=",
    "store": "free some space there",
    "cache": "or let TUNEKIT_CACHE name another place",
}


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, with room for what two trials keep."""
    if not can_mount() or os.geteuid() != 0:
        pytest.skip("needs the right to mount")
    place = tmp_path / request.param
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "none", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(file: Path) -> None:
    """Leave no byte."""
    with file.open("wb", buffering=0) as content, suppress(OSError):
        while True:
            content.write(bytes(1 << 16))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("disk", WAYS_OUT, indirect=True)
def test_a_search_whose_disk_is_full_says_which_and_goes_on_when_there_is_room(disk, tmp_path):
    given = {**GIVEN, "project": tmp_path / "runs"}
    rows = tmp_path / "runs/full/trials/0/results.csv"
    if disk.name != "runs":
        given["storage"] = tmp_path / "store"
        rows = tmp_path / "store/full/trials/0/results.csv"
    environment = {**os.environ}
    if disk.name == "cache":
        environment["TUNEKIT_CACHE"] = str(disk)

    def tune(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tunekit", "tune", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    search = tune(*(f"{name}={given[name]}" for name in given))
    wait_until(lambda: rows.exists() and len(table(rows)) >= 2, lambda: search.poll() is not None)
    fill(disk / "filler")
    told, _ = search.communicate(timeout=200)
    assert search.returncode == 1, told
    (error,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert str(disk) in error
    assert "No space left on device" in error
    assert WAYS_OUT[disk.name] in error
    assert f"then go on with: tunekit tune resume={tmp_path / 'runs/full'}" in error
    assert "Traceback" not in told
    (disk / "filler").unlink()

    again = tune(f"resume={tmp_path / 'runs/full'}")
    told, _ = again.communicate(timeout=200)
    assert again.returncode == 0, told
    run = Run(tmp_path / "runs/full")
    assert [row.state for row in run.trials] == ["COMPLETE", "COMPLETE"]
    for number in (0, 1):
        found = [row["epoch"] for row in run.epochs().to_pylist() if row["trial"] == number]
        assert found == list(range(1, 31))
