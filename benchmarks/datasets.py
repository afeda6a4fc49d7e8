"""`--data` of the benchmarks -> what either side is given. Makes the photographs when they are not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import realdata
from search import pairs

MADE = ("digits", "trees", "pairs")
PAIRS = Path("runs/bench/data/pairs")


def for_ours(data: str) -> str:
    """What our `data=` takes: digits, or an absolute path, because workers run in folders of their own."""
    if data == "digits":
        return data
    if data == "trees":
        return str(realdata.ensure(realdata.HOME).resolve())
    if data == "pairs":
        return str(pairs.ensure(PAIRS).resolve())
    path = Path(data).expanduser().resolve()
    if not path.is_file():
        raise SystemExit(f"--data {data}: it must be one of {', '.join(MADE)} or the path of a data YAML")
    return str(path)


def for_peer(data: str, out: Path) -> str:
    """The same images for the peer: a copy of what is made here, beside which it writes files of its own."""
    if data not in MADE:
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
