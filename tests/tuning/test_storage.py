"""The storage: a folder, and a server that speaks S3; each with its faults."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from tests.tuning import objects
from tunekit.checks import build_args
from tunekit.errors import ArgumentError, RunFolderError
from tunekit.search_args import TuneArgs
from tunekit.tuning import probe
from tunekit.tuning import storage as module
from tunekit.tuning.storage import Storage


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("moto", reason="the S3 server comes with the dev extra")
    with pytest.MonkeyPatch.context() as patch, objects.object_server() as port:
        for name, value in objects.KEYS.items():
            patch.setenv(name, value)
        yield port


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    """The URI of an empty storage."""
    if request.param == "folder":
        return str(tmp_path)
    return objects.uri(request.getfixturevalue("server"), tmp_path.name)


def test_files_come_back_as_they_went(place, tmp_path):
    storage = Storage(place).below("run").below("trials/0")
    source, target = tmp_path / "source", tmp_path / "target"
    for content in (b"first", bytes(range(256)) * 50_000):  # the second one in several parts
        source.write_bytes(content)
        storage.put(source, "weights/last.pt")
        assert storage.get("weights/last.pt", target)
        assert target.read_bytes() == content
    storage.write("claim", b"")
    assert storage.read("claim") == b""
    assert storage.names() == ["claim", "weights/last.pt"]
    assert Storage(place).below("run").names() == ["trials/0/claim", "trials/0/weights/last.pt"]


def test_what_is_not_there_is_no_fault(place, tmp_path):
    storage = Storage(place).below("nothing")
    assert storage.read("file") is None
    assert not storage.get("file", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert storage.names() == []
    storage.delete("file")
    storage.clear()


def test_what_is_deleted_is_gone_and_nothing_else(place):
    storage = Storage(place)
    for name in ("a/1", "a/b/2", "ab/3"):
        storage.write(name, b"x")
    storage.delete("a/1")
    assert storage.names() == ["a/b/2", "ab/3"]
    storage.below("a").clear()
    assert storage.names() == ["ab/3"]


def test_a_check_leaves_nothing_behind(place):
    Storage(place).check()
    assert Storage(place).names() == []


def test_a_node_tells_whether_it_sees_the_same_storage(place, tmp_path, monkeypatch):
    asked = probe.probe_of(tmp_path, Storage(place))
    asked.put()
    assert pickle.loads(pickle.dumps(asked)).problem() == ""
    asked.remove()
    assert Storage(place).names() == []
    monkeypatch.setattr(probe, "SEEN_SECONDS", 0.0)
    assert "is there another place than on the node that searches" in asked.problem()
    (tmp_path / "gone").mkdir()
    lost = probe.probe_of(tmp_path, Storage(str(tmp_path / "gone"), patience=0))
    (tmp_path / "gone").rmdir()
    assert f"there is no folder {tmp_path / 'gone'}" in lost.problem()


def test_a_storage_travels_between_processes(place):
    Storage(place).below("a").write("b", b"x")
    assert pickle.loads(pickle.dumps(Storage(place).below("a"))).read("b") == b"x"


def test_an_endpoint_of_the_environment_is_used(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server}")
    Storage(f"s3://{objects.BUCKET}/by-environment").check()


def test_a_missing_bucket_is_told_at_once(server):
    with pytest.raises(RunFolderError, match=r"storage=s3://none/x.*make the bucket, or mend its name"):
        Storage(objects.uri(server, "x", bucket="none")).check()


def test_wrong_keys_are_told_at_once():
    pytest.importorskip("moto", reason="the S3 server comes with the dev extra")
    with pytest.MonkeyPatch.context() as patch, objects.object_server() as port:
        for name, value in objects.KEYS.items():
            patch.setenv(name, value)
        objects.ask_for_keys(port)
        with pytest.raises(RunFolderError, match=r"cannot write .*; .*AWS_ACCESS_KEY_ID"):
            Storage(objects.uri(port)).check()


def test_a_server_that_is_not_there_is_told_at_once(monkeypatch):
    for name, value in objects.KEYS.items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    with pytest.raises(RunFolderError, match="NETWORK_CONNECTION"):
        Storage(objects.uri(objects.free_port())).check()
    assert time.monotonic() - began < 60


def test_a_disk_that_is_not_mounted_is_told_and_no_other_one_filled(tmp_path):
    missing = tmp_path / "mnt" / "nfs"
    with pytest.raises(RunFolderError, match="cannot make it"):
        Storage(str(missing)).make()
    with pytest.raises(RunFolderError, match=f"there is no folder {missing}"):
        Storage(str(missing)).check()
    assert not missing.parent.exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ftp://host/place", "ftp:// is not known: use one of s3://"),
        ("runs/store", "must be an absolute path"),
        ("s3://KEY:SECRET@bucket/x", "a password would be written into the run folder"),
    ],
)
def test_places_that_cannot_be_are_refused(given, words):
    with pytest.raises(ArgumentError, match=f"storage.*{words}"):
        build_args(TuneArgs, {"storage": given})


def test_an_option_that_s3_does_not_have_is_told():
    with pytest.raises(ArgumentError, match=r"storage=s3://b\?endpoint=x: Unexpected query parameter"):
        Storage("s3://b?endpoint=x").check()


def test_a_store_that_cannot_be_reached_for_some_seconds_loses_nothing(server, tmp_path):
    gate = objects.Gate(server)
    storage = Storage(objects.uri(gate.port, tmp_path.name))
    storage.write("a", b"before")
    gate.shut()
    timer = threading.Timer(3, gate.open)
    timer.start()
    storage.write("a", b"after")
    timer.join()
    assert storage.read("a") == b"after"
    gate.shut()


class Faulty(fs.FileSystemHandler):
    """A folder as an object store: a file appears when it is closed. Calls fail while `faults` says so."""

    def __init__(self, root: Path, faults: list[bool]) -> None:
        self._inner = fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())
        self._faults = faults

    def _next(self) -> fs.FileSystem:
        if self._faults and self._faults.pop(0):
            raise OSError("broken line")
        return self._inner

    def open_output_stream(self, path, metadata):
        inner = self._next()
        inner.create_dir(path.rpartition("/")[0], recursive=True)
        return inner.open_output_stream(path)

    def open_input_file(self, path):
        return self._next().open_input_file(path)

    def get_file_info(self, paths):
        return self._next().get_file_info(paths)

    def get_file_info_selector(self, selector):
        return self._next().get_file_info(selector)

    def delete_file(self, path):
        self._next().delete_file(path)

    def get_type_name(self):
        return "faulty"

    def normalize_path(self, path):
        return path

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = move = copy_file = None
    open_input_stream = open_append_stream = None


@pytest.fixture
def hurried(monkeypatch):
    """Time passes in no time; what is slept adds up in the list."""
    slept: list[float] = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    monkeypatch.setattr(module.time, "monotonic", lambda: sum(slept))
    return slept


@given(faults=st.lists(st.booleans(), max_size=12))
def test_faults_that_pass_change_nothing(faults, tmp_path_factory):
    root = tmp_path_factory.mktemp("faulty")
    system = fs.PyFileSystem(Faulty(root, list(faults)))
    slept: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "opened", lambda uri: (system, "store"))
        patch.setattr(module.time, "sleep", slept.append)
        patch.setattr(module.time, "monotonic", lambda: sum(slept))
        storage = Storage("s3://faulty", patience=1000)
        storage.write("a", b"1")
        storage.write("a", b"22")
        assert storage.read("a") == b"22"
        assert storage.names() == ["a"]
        storage.delete("a")
        assert storage.read("a") is None
        assert len(slept) <= sum(faults)


def test_a_fault_that_stays_is_waited_for_a_minute_and_told_in_one_sentence(hurried, monkeypatch, tmp_path):
    system = fs.PyFileSystem(Faulty(tmp_path, [True] * 1000))
    monkeypatch.setattr(module, "opened", lambda uri: (system, "store"))
    with pytest.raises(
        RunFolderError, match=r"^storage=s3://x: cannot write a, tried for 60 s: broken line$"
    ):
        Storage("s3://x").write("a", b"1")
    assert 45 < sum(hurried) <= 60
    assert max(hurried) <= 8


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(hurried, monkeypatch, tmp_path):
    (tmp_path / "store").mkdir()
    file = tmp_path / "store" / "rows"
    file.write_bytes(b"1\n2\n")

    class Replaced(Faulty):
        def open_input_file(self, path):
            opened_file = super().open_input_file(path)
            if file.read_bytes() == b"1\n2\n":
                file.unlink()
                file.write_bytes(b"1\n2\n3\n")
            return opened_file

    system = fs.PyFileSystem(Replaced(tmp_path, []))
    monkeypatch.setattr(module, "opened", lambda uri: (system, "store"))
    assert Storage("s3://x").read("rows") == b"1\n2\n3\n"


def test_googles_client_is_not_left_to_try_for_a_quarter_of_an_hour():
    nobody = objects.free_port()
    began = time.monotonic()
    with pytest.raises(RunFolderError, match=r"storage=gs://.*: cannot write"):
        Storage(f"gs://anonymous@bucket/x?scheme=http&endpoint_override=127.0.0.1:{nobody}").check()
    assert time.monotonic() - began < 60
