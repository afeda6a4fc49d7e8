"""Every run has a folder of its own, and nobody else writes there."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tunekit.errors import ArgumentError, RunFolderError
from tunekit.results.folder import lock_run, new_run_folder

HOLDER = """
import sys, time
from pathlib import Path
from tunekit.results.folder import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_name_that_is_taken_is_numbered(tmp_path):
    made = [new_run_folder(tmp_path / "runs" / "tune", "digits") for _ in range(3)]
    assert [folder.name for folder in made] == ["digits", "digits-2", "digits-3"]
    assert all(folder.is_dir() for folder in made)


def test_a_name_that_is_in_use_elsewhere_is_passed_over(tmp_path):
    folder = new_run_folder(tmp_path, "first", taken={"first", "first-2"}.__contains__)
    assert folder == tmp_path / "first-3"
    assert new_run_folder(tmp_path, "first", exist_ok=True, taken=lambda name: True) == tmp_path / "first"


def test_runs_started_at_once_get_different_folders(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_run_folder(tmp_path, "digits"), range(40)))
    assert len(set(made)) == 40


def test_exist_ok_clears_what_the_old_run_wrote_and_nothing_else(tmp_path):
    folder = new_run_folder(tmp_path, "digits")
    for name in ("args.yaml", "study.journal", "notes.txt"):
        (folder / name).write_text("old")
    (folder / "trials" / "0").mkdir(parents=True)
    (folder / "trials" / "0" / "results.csv").write_text("old")
    assert new_run_folder(tmp_path, "digits", exist_ok=True) == folder
    assert {entry.name for entry in folder.iterdir()} - {".lock"} == {"notes.txt"}


def test_exist_ok_refuses_a_folder_that_no_run_wrote(tmp_path):
    photos = tmp_path / "weights"
    (photos / "trials").mkdir(parents=True)
    with pytest.raises(RunFolderError, match=r"weights is no run folder"):
        new_run_folder(tmp_path, "weights", exist_ok=True)
    assert (photos / "trials").is_dir()


def test_exist_ok_does_not_touch_a_folder_in_use(tmp_path, holder):
    (tmp_path / "args.yaml").write_text("of the running one")
    with pytest.raises(RunFolderError, match=f"in use by another process .pid {holder.pid}."):
        new_run_folder(tmp_path.parent, tmp_path.name, exist_ok=True)
    assert (tmp_path / "args.yaml").read_text() == "of the running one"


def test_a_second_driver_is_told_which_process_is_the_first(tmp_path, holder):
    with pytest.raises(RunFolderError, match=f"pid {holder.pid}"), lock_run(tmp_path):
        pass


def test_a_killed_driver_leaves_the_folder_free(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with lock_run(tmp_path):
        pass


def test_the_lock_is_free_again_after_use_and_after_a_fault(tmp_path):
    with lock_run(tmp_path), pytest.raises(RunFolderError, match=f"pid {os.getpid()}"), lock_run(tmp_path):
        pass
    with pytest.raises(KeyError), lock_run(tmp_path):
        raise KeyError
    with lock_run(tmp_path):
        pass


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp"])
def test_a_name_is_not_a_path(tmp_path, name):
    with pytest.raises(ArgumentError, match=r"name=.*project="):
        new_run_folder(tmp_path, name, exist_ok=True)


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot make the run folder .*file/digits.*project="):
        new_run_folder(tmp_path / "file", "digits")
    with pytest.raises(RunFolderError, match="too long"):
        new_run_folder(tmp_path, "x" * 300)
    with pytest.raises(RunFolderError, match="nowhere"), lock_run(tmp_path / "nowhere"):
        pass


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the super-user writes everywhere")
def test_a_read_only_place_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match="ermission denied"):
        new_run_folder(tmp_path, "digits")
