"""Which images and classes there are: a data YAML in, a checked DataConfig and image paths out.

The format is Ultralytics': `path`, `train`, `val`, `test`, `names`, `nc`. Reads no image and no label.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from tunekit.errors import DataError

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".jp2", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"
)  # fmt: skip
ABSENT = ("", "null", "~")


@dataclass(frozen=True)
class DataConfig:
    """A data YAML, checked, with every path absolute."""

    source: Path  # the YAML
    root: Path
    train: tuple[Path, ...]  # folders and .txt lists of images; () where the YAML has none
    val: tuple[Path, ...]
    test: tuple[Path, ...]
    names: tuple[str, ...]

    @property
    def nc(self) -> int:
        return len(self.names)


def load_data_config(data: str) -> DataConfig:
    """The data set `data` names: `digits`, the embedded one, or the path of a data YAML."""
    if data == "digits":
        from tunekit.data.digits import ensure_digits

        return load_data_config(str(ensure_digits()))
    source = Path(data).expanduser().absolute()
    settings = _read_yaml(source)
    root = _root(source, settings)
    places = {split: _places(source, root, settings, split) for split in SPLITS}
    for split in ("train", "val"):
        if not places[split]:
            _fail(
                source,
                split,
                f"is not there; add it, '{split}: images/{split}'",
            )
        for place in places[split]:
            if not place.exists():
                _fail(source, split, _missing(place, settings))
    return DataConfig(source, root, **places, names=_names(source, settings))


def image_paths(config: DataConfig, split: str) -> list[Path]:
    """The images of a split, sorted by path, each once.

    An image that a .txt names and that is not there is among them: reading it reports the problem.
    """
    return [Path(path) for path in image_files(config, split)]


def image_files(config: DataConfig, split: str) -> list[str]:
    """`image_paths` as strings, which is several times faster for a large data set."""
    if split not in SPLITS:
        raise DataError(f"split={split}: must be one of {', '.join(SPLITS)}")
    places: tuple[Path, ...] = {"train": config.train, "val": config.val, "test": config.test}[split]
    if not places:
        there = ", ".join(name for name in SPLITS if getattr(config, name))
        _fail(config.source, split, f"is not there (there are {there}); add it or choose another split")
    found: set[str] = set()
    for place in places:
        if place.is_dir():
            images = _images_under(str(place))
        elif place.is_file():
            images = _listed(config, split, place)
        else:
            _fail(config.source, split, _missing(place, {}))
        if not images:
            kinds = " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
            _fail(config.source, split, f"{place} has no images; it should have some of {kinds}")
        found.update(images)
    return sorted(found)


def label_path(image: Path) -> Path:
    """Where an image's labels are: its last `images` folder becomes `labels`, its suffix `.txt`."""
    return Path(label_file(str(image)))


def label_file(image: str) -> str:
    """`label_path` on strings."""
    folder, name = os.path.split(image)
    # The separator behind makes a folder that is itself called images match as well.
    before, images, after = (folder + os.sep).rpartition(f"{os.sep}images{os.sep}")
    if images:
        folder = f"{before}{os.sep}labels{os.sep}{after}"
    return os.path.join(folder, os.path.splitext(name)[0] + ".txt")


def _read_yaml(source: Path) -> dict[str, Any]:
    """The YAML's keys. All scalars stay text, so that a class called `no` or `007` keeps its name."""
    if source.is_dir():
        raise DataError(f"data={source} is a folder; give the data YAML in it")
    try:
        settings = yaml.load(source.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise DataError(f"data={source} is not there{_nearby(source)}; give a data YAML or digits") from None
    except OSError as fault:
        raise DataError(f"data={source} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError:
        raise DataError(f"{source} is not UTF-8 text, so it is not a data YAML") from None
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)  # only the located kinds of YAMLError have one
        place = f"{source}:{mark.line + 1}" if mark else f"{source}"
        reason = getattr(fault, "problem", None) or "it cannot be parsed"
        raise DataError(f"{place} is not valid YAML: {reason}; mend that line") from None
    if settings in (None, "") or settings == {}:
        raise DataError(f"{source} is empty; a data YAML needs train, val and names")
    if not isinstance(settings, dict):
        raise DataError(f"{source} is not a data YAML: it needs 'key: value' lines with train, val and names")
    return settings


def _nearby(source: Path) -> str:
    if not source.parent.is_dir():
        return f" (nor is its folder {source.parent})"
    there = [path.name for path in source.parent.iterdir() if path.suffix in (".yaml", ".yml")]
    near = difflib.get_close_matches(source.name, there, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _root(source: Path, settings: dict[str, Any]) -> Path:
    """The data set's folder: `path` beside the YAML, else `path` where we are, else the YAML's folder."""
    path = settings.get("path", "")
    if not isinstance(path, str):
        _fail(source, "path", "must be one folder")
    if path.lower() in ABSENT:
        return source.parent
    tried = [_absolute(source.parent, path), _absolute(Path.cwd(), path)]
    for root in tried:
        if root.is_dir():
            return root
    places = " nor at ".join(dict.fromkeys(str(root) for root in tried))
    hint = "; it has a download: entry, which you must run yourself" if "download" in settings else ""
    _fail(source, "path", f"is no folder at {places}; set it to the data set's folder{hint}")


def _places(source: Path, root: Path, settings: dict[str, Any], split: str) -> tuple[Path, ...]:
    value = settings.get(split, "")
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        _fail(source, split, "must be a folder, a .txt list of images, or a list of these")
    return tuple(_place(root, entry) for entry in entries if entry.lower() not in ABSENT)


def _place(root: Path, entry: str) -> Path:
    place = _absolute(root, entry)
    if not place.exists() and entry.startswith("../"):
        # Roboflow's YAMLs say ../train/images for the folder train/images beside them.
        beside = _absolute(root, entry[3:])
        return beside if beside.exists() else place
    return place


def _absolute(base: Path, path: str) -> Path:
    return Path(os.path.normpath(base / Path(path).expanduser()))


def _missing(place: Path, settings: dict[str, Any]) -> str:
    hint = " (it has a download: entry, which you must run yourself)" if "download" in settings else ""
    return f"{place} is not there; correct it or path:{hint}"


def _names(source: Path, settings: dict[str, Any]) -> tuple[str, ...]:
    names, count = settings.get("names"), _count(source, settings)
    if names in (None, "", [], {}):
        if count is None:
            _fail(
                source,
                "names",
                "is not there; add the classes, as in 'names: [cat, dog]'",
            )
        return tuple(f"class{index}" for index in range(count))
    if isinstance(names, dict):
        wanted = [str(index) for index in range(len(names))]
        if sorted(names) != sorted(wanted):
            _fail(
                source,
                "names",
                f"has {len(names)} classes: number them 0..{len(names) - 1}, each once",
            )
        names = [names[index] for index in wanted]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        _fail(source, "names", "must be a list of names or a map of numbers to names")
    if count is not None and count != len(names):
        _fail(source, "nc", f"is {count}, but names has {len(names)} classes; mend one or leave nc out")
    return tuple(names)


def _count(source: Path, settings: dict[str, Any]) -> int | None:
    value = settings.get("nc", "")
    if isinstance(value, str) and value.lower() in ABSENT:
        return None
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or int(value) < 1:
        _fail(source, "nc", f"is {value}; it must be the number of classes, 1 or more")
    return int(value)


def _images_under(folder: str) -> list[str]:
    """Image files in a folder and those under it; each folder once, so that links cannot go in circles."""
    images, folders, seen = [], [folder], set()
    while folders:
        folder = folders.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith("."):
                    images.append(entry.path)
                elif entry.is_dir():
                    folders.append(entry.path)
    return images


def _listed(config: DataConfig, split: str, listing: Path) -> list[str]:
    """Images of a .txt list. Relative lines are meant from the list's folder, or else from the root."""
    if listing.suffix.lower() != ".txt":
        _fail(
            config.source,
            split,
            f"{listing} is neither a folder nor a .txt list of images",
        )
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        _fail(config.source, split, f"{listing} is not UTF-8 text; it should have an image's path a line")
    images = []
    for line in filter(None, map(str.strip, lines)):
        tried = [os.path.normpath(os.path.join(base, line)) for base in (listing.parent, config.root)]
        images.append(next((path for path in tried if os.path.exists(path)), tried[0]))
    return images


def _fail(source: Path, key: str, sentence: str) -> NoReturn:
    raise DataError(f"{source}: {key}: {sentence}")
