"""`--data` of the benchmarks -> what either side is given. Makes the photographs when they are not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import realdata


def for_ours(data: str) -> str:
    """What our `data=` takes: digits, or an absolute path, because workers run in folders of their own."""
    if data == "digits":
        return data
    if data == "trees":
        return str(realdata.ensure(realdata.HOME).resolve())
    path = Path(data).expanduser().resolve()
    if not path.is_file():
        raise SystemExit(f"--data {data}: it must be digits, trees or the path of a data YAML")
    return str(path)


def for_peer(data: str, out: Path) -> str:
    """The same images for the peer: a copy of digits and trees, beside which it writes files of its own."""
    if data not in ("digits", "trees"):
        return for_ours(data)
    if data == "digits":
        from tunekit.data.digits import ensure_digits

        source = ensure_digits()
    else:
        source = Path(for_ours(data))
    copy = out / "peer" / data
    if not (copy / source.name).exists():
        shutil.copytree(source.parent, copy, dirs_exist_ok=True)
    return str((copy / source.name).resolve())
