"""What of a folder goes to a cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tunekit.errors import ArgumentError
from tunekit.tuning.package import pack, sent_files

FILES = {
    ".gitignore": "*.log\n/runs/\nbuild\n!keep.log\n",
    "pets.yaml": "names: [cat]\n",
    "train.log": "x",
    "keep.log": "x",
    "runs/tune/a/best.pt": "x" * 10,
    "deep/runs/kept.txt": "x",
    "deep/.gitignore": "secret*\n!train.log\n",
    "deep/secret.txt": "x",
    "deep/train.log": "x",
    "deep/er/secret.yaml": "x",
    "deep/er/open.yaml": "x",
    "build/lib/a.py": "x",
    "deep/build": "a file of that name",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_what_gits_ignore_files_leave_out_stays_here(folder):
    """Git itself is the judge."""
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    judge = subprocess.run(listed, cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    assert [str(file) for file in sent_files(folder)] == sorted(judge, key=Path)
    assert {"pets.yaml", "keep.log", "deep/train.log", "deep/runs/kept.txt"} <= set(judge)


def test_environments_and_links_to_folders_stay_here_and_links_to_files_go_as_files(folder, tmp_path):
    (folder / ".venv").mkdir()
    (folder / ".venv" / "python").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "huge.bin").write_text("x")
    (folder / "data").symlink_to(tmp_path / "elsewhere")
    (folder / "mine.yaml").symlink_to(tmp_path / "elsewhere" / "huge.bin")
    files = sent_files(folder)
    assert Path("mine.yaml") in files
    assert not [file for file in files if file.parts[0] in (".venv", "data")]
    pack(folder, files, tmp_path / "target", 1.0)
    assert not (tmp_path / "target" / "mine.yaml").is_symlink()
    sent = {
        str(path.relative_to(tmp_path / "target"))
        for path in (tmp_path / "target").rglob("*.*")
        if path.is_file()
    }
    assert sent >= {"pets.yaml", "mine.yaml", "deep/er/open.yaml"}


def test_too_much_is_refused_with_what_it_is(folder, tmp_path):
    (folder / "images").mkdir()
    (folder / "images" / "a.bin").write_bytes(bytes(3_000_000))
    (folder / "b.bin").write_bytes(bytes(1_000_000))
    files = sent_files(folder)
    with pytest.raises(
        ArgumentError, match=r"4 MB would be sent, and max_size=3\.5; .*images \(3 MB\), b\.bin"
    ):
        pack(folder, files, tmp_path / "target", 3.5)
    assert not (tmp_path / "target").exists()
    assert pack(folder, files, tmp_path / "target", 4.5) == pytest.approx(4.0, abs=0.01)
