"""Is there room for the decoded images? Asked before the work, told in numbers when there is not.

Images and a folder in, bytes or a DataError out.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tunekit.data.decode import BadImage, read_image
from tunekit.errors import DataError

SAMPLE = 16  # images decoded to estimate what all of them need
MB = 1 << 20


def needed_bytes(images: Sequence[str], imgsz: int) -> int:
    """About what the decoded images take, from a sample evenly spaced over them."""
    sample = [images[index * len(images) // SAMPLE] for index in range(SAMPLE)]
    sizes = []
    for path in set(sample):
        try:
            sizes.append(read_image(path, imgsz).nbytes)
        except BadImage:
            continue  # it will take no room
    return round(sum(sizes) / max(1, len(sizes)) * len(images))


def free_bytes(folder: Path, cache: str | bool) -> int:
    """Room in the folder; in memory also no more than the machine can give without swapping."""
    free = shutil.disk_usage(folder).free
    if cache != "ram":
        return free
    with open("/proc/meminfo") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return min(free, int(fields["MemAvailable"].split()[0]) << 10)


def no_room(folder: Path, needed: int, cache: str | bool) -> DataError:
    """The error that says how much is missing and what to do instead."""
    way_out = (
        "use cache=disk, which is as fast once read"
        if cache == "ram"
        else "free some, set TUNEKIT_CACHE to a folder with more, or use cache=False"
    )
    return DataError(
        f"no room for the decoded images in {folder}: about {max(1, needed // MB)} MB needed,"
        f" {free_bytes(folder, cache) // MB} MB free; {way_out}"
    )
