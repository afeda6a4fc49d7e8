"""What of a folder is sent to a cluster: all that .gitignore files do not leave out, if it is not too much.

In: the working directory. Out: a folder with the same files. Knows no Ray.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

from tunekit.errors import ArgumentError

NEVER = (".git", ".venv", "__pycache__")
LARGEST = 3  # entries that are named when it is too much


def sent_files(root: Path) -> list[Path]:
    """The files below `root` that are sent, relative to it, sorted."""
    return sorted(_kept(root, Path(), []))


def _kept(root: Path, folder: Path, specs: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[Path]:
    ignore = root / folder / ".gitignore"
    if ignore.is_file():
        specs = [*specs, (folder, GitIgnoreSpec.from_lines(ignore.read_text().splitlines()))]
    for entry in os.scandir(root / folder):
        path = folder / entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in NEVER or _ignored(path, is_folder, specs):
            continue
        if is_folder:
            yield from _kept(root, path, specs)
        elif entry.is_file():  # a link to a file is sent as the file
            yield path


def _ignored(path: Path, is_folder: bool, specs: list[tuple[Path, GitIgnoreSpec]]) -> bool:
    """As git has it: what stands deeper wins, and `!name` takes back."""
    for place, spec in reversed(specs):
        name = path.relative_to(place).as_posix() + ("/" if is_folder else "")
        verdict = spec.check_file(name).include
        if verdict is not None:
            return verdict
    return False


def pack(root: Path, files: list[Path], target: Path, megabytes: float) -> float:
    """Copy `files` of `root` into `target`; their size in MB. Raises ArgumentError if it is too much."""
    sizes = {file: (root / file).stat().st_size for file in files}
    size = sum(sizes.values()) / 1e6
    if size > megabytes:
        parts: Counter[str] = Counter()
        for file, count in sizes.items():
            parts[file.parts[0]] += count
        largest = ", ".join(f"{name} ({count / 1e6:.0f} MB)" for name, count in parts.most_common(LARGEST))
        raise ArgumentError(
            f"working_dir={root}: {size:.0f} MB would be sent, and max_size={megabytes:g}; the largest are "
            f"{largest}. Name in .gitignore what the job does not need, or raise max_size="
        )
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / file, target / file)
    return size
