"""Files are whole or not there, and a disk that is full is told as such, whoever writes."""

import pytest
import torch

from tunekit.atomic import write_atomic, write_text
from tunekit.errors import RunFolderError


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write(b"0" * 1_000_000),
        lambda file: torch.save({f"layer{index}": torch.zeros(5_000) for index in range(50)}, file),
    ],
    ids=["bytes", "torch.save"],
)
def test_a_full_disk_is_told_by_its_name_and_leaves_the_old_file(tmp_path, small_disk, write):
    path = tmp_path / "last.pt"
    path.write_text("old")
    with pytest.raises(RunFolderError, match=r"cannot write .*last\.pt: File too large"):
        write_atomic(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_fault_of_the_writer_itself_is_raised_as_it_is(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(ZeroDivisionError):
        write_atomic(path, lambda file: file.write(b"%d" % (1 // 0)))
    assert not list(tmp_path.iterdir())


def test_who_may_not_write_is_told_at_the_last_moment(tmp_path):
    path = tmp_path / "last.pt"
    path.write_text("old")
    asked = []

    def check() -> None:
        asked.append(path.read_text())
        raise PermissionError("not yours")

    with pytest.raises(RunFolderError, match="not yours"):
        write_atomic(path, lambda file: asked.append(file.write(b"new")), check)
    assert asked == [3, "old"]
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_a_missing_folder_is_told_with_the_way_out(tmp_path):
    with pytest.raises(RunFolderError, match=r"No such file or directory.* project="):
        write_text(tmp_path / "gone" / "args.yaml", "x")
