"""A trial's folder and its copy in the storage; a run's part of the storage as its search sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.results.tune_folder import TuneFolder, front_folder, new_tune_folder
from tunekit.atomic import write_atomic
from tunekit.data.cachedir import cache_folder
from tunekit.errors import RunFolderError, TrainingError
from tunekit.results.store import trials_of
from tunekit.tuning.depot import BEST, FILES, LAST, Depot, TrialCopy, in_use, open_depot
from tunekit.tuning.storage import Storage


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def storage(tmp_path):
    place = Storage(str(tmp_path / "store"))
    place.make()
    return place


def record(folder: Path, epoch: int, best: int) -> None:
    """What the recorder leaves after an epoch, in its order, each file replaced."""
    contents = {
        "args.yaml": "epochs: 9\n",
        "results.csv": "epoch\n" + "".join(f"{row}\n" for row in range(1, epoch + 1)),
        BEST: str(best),
        LAST: str(epoch),
    }
    for name in FILES:
        (folder / "new").write_text(contents[name])
        (folder / "new").replace(folder / name)


def rows(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "results.csv").read_text().splitlines()[1:]]


def test_a_trial_goes_on_elsewhere_from_what_was_sent(storage):
    first = TrialCopy(storage)
    record(first.folder, 1, 1)
    first.send()
    record(first.folder, 2, 1)
    first.send()
    record(first.folder, 3, 3)  # and then the node is gone
    second = TrialCopy(storage)
    assert rows(second.folder) == [1, 2]
    assert (second.folder / BEST).read_text() == "1"
    assert (second.folder / LAST).read_text() == "2"
    assert (second.folder / "args.yaml").read_text() == "epochs: 9\n"


def test_a_trial_without_a_checkpoint_begins_with_an_empty_folder(storage):
    storage.write("results.csv", b"epoch\n1\n")  # its first epoch was cut off while it was sent
    copy = TrialCopy(storage)
    assert [path.name for path in copy.folder.rglob("*") if path.is_file()] == []
    copy.close()


def test_only_what_has_changed_is_sent(storage, monkeypatch):
    sent: list[str] = []
    put = Storage.put
    monkeypatch.setattr(Storage, "put", lambda self, file, name: (sent.append(name), put(self, file, name)))
    copy = TrialCopy(storage)
    record(copy.folder, 1, 1)
    copy.send()
    assert sent == list(FILES)
    copy.send()
    (copy.folder / "new").write_text("2")
    (copy.folder / "new").replace(copy.folder / LAST)
    copy.send()
    assert sent[len(FILES) :] == [LAST]


def test_who_was_given_up_for_dead_can_send_no_more(storage):
    first = TrialCopy(storage)
    record(first.folder, 1, 1)
    first.send()
    second = TrialCopy(storage)
    record(second.folder, 2, 2)
    second.send()
    record(first.folder, 2, 1)
    with pytest.raises(TrainingError, match="begun again elsewhere"):
        first.send()
    assert storage.read(BEST) == b"2"


def test_a_nodes_full_disk_is_told_with_the_variable_that_names_another_place(storage, small_disk):
    copy = TrialCopy(storage)
    with (
        pytest.raises(RunFolderError, match=r"File too large.* or let TUNEKIT_CACHE name") as told,
        copy.disk(),
    ):
        write_atomic(copy.folder / LAST, lambda file: file.write(bytes(200_000)))
    assert str(told.value).startswith(f"cannot write into {copy.folder} on ")
    assert "project=" not in str(told.value)
    copy.close()


class Cut(Exception):
    """The power fails."""


@given(
    bests=st.lists(st.booleans(), min_size=1, max_size=4),
    writes=st.integers(0, 16),
    data=st.data(),
)
def test_wherever_sending_is_cut_off_a_trial_finds_all_of_one_epoch(bests, writes, data, tmp_path_factory):
    place = tmp_path_factory.mktemp("cut")
    left = writes
    original = Storage._write

    def cut(self, name, content):
        nonlocal left
        if left == 0:
            raise Cut
        left -= 1
        original(self, name, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEKIT_CACHE", str(place / "cache"))
        (place / "store").mkdir()
        storage = Storage(str(place / "store"))
        sent, best_of = 0, {0: 0}
        first = TrialCopy(storage)
        patch.setattr(Storage, "_write", cut)
        try:
            for epoch, better in enumerate(bests, start=1):
                best_of[epoch] = epoch if better or epoch == 1 else best_of[epoch - 1]
                record(first.folder, epoch, best_of[epoch])
                first.send()
                sent = epoch
        except Cut:
            pass
        patch.setattr(Storage, "_write", original)
        second = TrialCopy(storage)
        last = second.folder / LAST
        epoch = int(last.read_text()) if last.exists() else 0
        assert epoch == sent  # what was told of is never lost
        if epoch:
            assert rows(second.folder)[:epoch] == list(range(1, epoch + 1))
            assert int((second.folder / BEST).read_text()) in {best_of[epoch], best_of.get(epoch + 1)}
        second.close()
        first.close()


def test_folders_that_killed_processes_left_are_cleared_away_and_no_others(storage):
    killed = (
        "import os, signal, sys\n"
        "from tunekit.tuning.depot import TrialCopy\n"
        "from tunekit.tuning.storage import Storage\n"
        "copy = TrialCopy(Storage(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", killed, storage.uri], check=False)
    here = cache_folder("trials")
    (left,) = (path for path in here.iterdir() if path.is_dir())
    first = TrialCopy(storage)
    second = TrialCopy(storage)
    assert not left.exists()
    assert {path for path in here.iterdir() if path.is_dir()} == {first.folder, second.folder}
    first.close()
    second.close()
    assert list(here.iterdir()) == []


@pytest.fixture
def run(tmp_path):
    return new_tune_folder(tmp_path / "run")


def stored(run: TuneFolder, storage: Storage) -> Depot:
    """A depot whose trials are those of `run`, which has none of them on its own disk."""
    depot = open_depot(run.path, run.study, storage)
    for folder in (run.path / "trials").iterdir():
        copy = TrialCopy(depot.storage.below(f"trials/{folder.name}"))
        for name in FILES:
            (folder / name).replace(copy.folder / name)
        (folder / "weights").rmdir()
        folder.rmdir()
        copy.send()
        copy.close()
    return depot


def test_the_search_fetches_rows_and_the_best_weights_and_deletes_the_others(run, storage):
    for best in (0.1, 0.3, 0.2):
        run.trial([0.05, best])
    depot = stored(run, storage)
    for number in range(3):
        depot.fetch_tables(number)
        assert len((run.path / f"trials/{number}/results.csv").read_text().splitlines()) == 3
    trials = trials_of(run.study)
    depot.fetch_weights(trials)
    depot.prune(trials)
    assert [str(path.relative_to(run.path)) for path in sorted(run.path.rglob("*.pt"))] == [
        "trials/1/weights/best.pt",
        "trials/1/weights/last.pt",
    ]
    assert [name for name in depot.storage.names() if "weights" in name] == [
        "trials/1/weights/best.pt",
        "trials/1/weights/last.pt",
    ]
    assert "trials/0/results.csv" in depot.storage.names()


def test_of_several_objectives_the_best_weights_of_the_whole_front_are_fetched(tmp_path, storage):
    run = front_folder(tmp_path / "several")
    depot = stored(run, storage)
    trials = trials_of(run.study)
    depot.fetch_weights(trials)
    depot.prune(trials)
    finished = {str(path.relative_to(run.path)) for path in run.path.glob("trials/[0-5]/weights/*.pt")}
    assert finished == {"trials/2/weights/best.pt", "trials/3/weights/best.pt", "trials/3/weights/last.pt"}
    kept = {name.split("/")[1] for name in depot.storage.names() if "weights" in name}
    assert kept == {"2", "3", "6"}, "the front, and the one that is running"


def test_weights_of_a_trial_that_still_trains_are_kept(run, storage):
    run.trial([0.3])
    run.trial([0.1], state="RUNNING")
    depot = stored(run, storage)
    depot.prune(trials_of(run.study))
    assert f"trials/1/{LAST}" in depot.storage.names()


def test_a_run_goes_on_with_its_own_part_of_the_storage_only(run, storage):
    depot = open_depot(run.path, run.study, storage)
    depot.storage.write("trials/0/results.csv", b"x")
    open_depot(run.path, run.study, storage)
    assert depot.storage.read("trials/0/results.csv") == b"x"
    depot.begin()  # another run of that name
    assert depot.storage.read("trials/0/results.csv") is None
    with pytest.raises(RunFolderError, match=r"resume=.*: its trials are not in storage=.* any more"):
        open_depot(run.path, run.study, storage)


def test_a_name_that_others_use_in_the_storage_is_not_taken(storage):
    assert not in_use(storage, "first", exist_ok=False)
    storage.write("first/run", b"x")
    storage.write("photos/1.jpg", b"x")
    assert in_use(storage, "first", exist_ok=False)
    assert in_use(storage, "first", exist_ok=True)
    assert in_use(storage, "photos", exist_ok=False)
    with pytest.raises(RunFolderError, match=r"holds photos/1\.jpg, which is no run's"):
        in_use(storage, "photos", exist_ok=True)
