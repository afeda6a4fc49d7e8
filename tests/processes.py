"""The processes of this machine that descend from given ones, as Linux tells it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def descendants(roots: Iterable[int]) -> dict[int, str]:
    """Process ids with their titles; the roots themselves are among them."""
    parents, titles, roots = {}, {}, set(roots)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(entry.name)] = (entry / "cmdline").read_text()
            except (OSError, UnicodeDecodeError):  # it has just ended
                continue

    def ours(pid: int) -> bool:
        return pid in roots or (pid in parents and ours(parents[pid]))

    return {pid: title for pid, title in sorted(titles.items()) if ours(pid)}
