"""The data YAML: Ultralytics' forms are read, every fault names file, key and way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunekit.data.dataset import image_paths, label_path, load_data_config
from tunekit.errors import DataError


def write(folder: Path, text: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(text)
    return str(folder / "data.yaml")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    touch(*(tmp_path / "set" / "images" / name for name in ("train/b.jpg", "train/sub/a.PNG", "val/c.jpg")))
    touch(
        tmp_path / "set" / "images" / "train" / "notes.txt", tmp_path / "set" / "images" / "train" / "._b.jpg"
    )
    return tmp_path / "set"


SPLITS = "train: images/train\nval: images/val\n"


def names_of(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_without_path_the_yamls_folder_is_the_root(root: Path) -> None:
    config = load_data_config(write(root, SPLITS + "names: [cat, dog]"))
    assert config.root == root
    assert config.names == ("cat", "dog")
    assert config.nc == 2
    assert config.train == (root / "images/train",)
    assert config.test == ()


def test_path_is_found_beside_the_yaml(root: Path, tmp_path: Path) -> None:
    config = load_data_config(write(tmp_path / "yamls", f"path: ../set\n{SPLITS}nc: 1"))
    assert config.root == root


def test_path_is_found_from_where_we_are(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_data_config(write(tmp_path / "yamls", f"path: set\n{SPLITS}nc: 1")).root == root


def test_a_relative_yaml_is_read_from_where_we_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, SPLITS + "nc: 1")
    monkeypatch.chdir(root)
    assert load_data_config("data.yaml").source == root / "data.yaml"


@pytest.mark.parametrize("path", ["", "null", "~"])
def test_a_path_left_empty_is_a_missing_path(root: Path, path: str) -> None:
    assert load_data_config(write(root, f"path: {path}\n{SPLITS}nc: 1")).root == root


def test_roboflows_way_of_writing_places_is_understood(root: Path) -> None:
    config = load_data_config(write(root, "train: ../images/train\nval: ../images/val\nnc: 1"))
    assert config.train == (root / "images/train",)


def test_images_of_a_folder_are_found_in_all_depths_and_sorted(root: Path) -> None:
    config = load_data_config(write(root, SPLITS + "nc: 1"))
    assert names_of(image_paths(config, "train")) == ["b.jpg", "a.PNG"]


def test_a_split_may_be_a_list_and_an_image_counts_once(root: Path) -> None:
    text = "train: [images/train, images/train/sub, images/val]\nval: images/val\nnc: 1"
    config = load_data_config(write(root, text))
    assert names_of(image_paths(config, "train")) == ["b.jpg", "a.PNG", "c.jpg"]


def test_a_folder_that_links_to_itself_ends(root: Path) -> None:
    (root / "images/train/sub/round").symlink_to(root / "images/train")
    config = load_data_config(write(root, SPLITS + "nc: 1"))
    assert names_of(image_paths(config, "train")) == ["b.jpg", "a.PNG"]


def test_a_txt_lists_images_from_its_folder_the_root_or_anywhere(root: Path) -> None:
    (root / "lists").mkdir()
    touch(root / "lists" / "near.jpg", root / "far.jpg")
    lines = ["./near.jpg", "images/train/b.jpg", "", str(root / "far.jpg"), "./gone.jpg"]
    (root / "lists" / "train.txt").write_text("\n".join(lines))
    config = load_data_config(write(root, "train: lists/train.txt\nval: images/val\nnc: 1"))
    relative = [str(path.relative_to(root)) for path in image_paths(config, "train")]
    assert relative == ["far.jpg", "images/train/b.jpg", "lists/gone.jpg", "lists/near.jpg"]


def test_names_may_be_a_map_in_any_order(root: Path) -> None:
    config = load_data_config(write(root, SPLITS + "names: {1: dog, 0: cat}\nnc: 2"))
    assert config.names == ("cat", "dog")


def test_names_that_yaml_takes_for_other_things_stay_text(root: Path) -> None:
    assert load_data_config(write(root, SPLITS + "names: [no, 007, 1.50, null]")).names == (
        "no",
        "007",
        "1.50",
        "null",
    )


def test_classes_without_names_are_numbered(root: Path) -> None:
    assert load_data_config(write(root, SPLITS + "nc: 3")).names == ("class0", "class1", "class2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("# only a comment\n", ["is empty"]),
        ("- a\n- b\n", ["is not a data YAML"]),
        ("just words", ["is not a data YAML"]),
        ("train: [images\nval: x", ["data.yaml:2", "not valid YAML"]),
        ("a: b: c", ["data.yaml:1", "not valid YAML"]),
        ("path: nowhere\n" + SPLITS + "nc: 1", ["path:", "nowhere", "set it to"]),
        ("path: [a]\n" + SPLITS + "nc: 1", ["path:", "one folder"]),
        ("val: images/val\nnc: 1", ["train:", "add it"]),
        ("train: images/train\nnc: 1", ["val:", "add it"]),
        ("train: images/train\nval:\nnc: 1", ["val:", "add it"]),
        ("train: images/trian\nval: images/val\nnc: 1", ["train:", "images/trian is not there"]),
        ("train: {a: b}\nval: images/val\nnc: 1", ["train:", "a folder, a .txt"]),
        (SPLITS, ["names:", "add the classes"]),
        (SPLITS + "names: []", ["names:", "add the classes"]),
        (SPLITS + "names: cat", ["names:", "list of names or a map"]),
        (SPLITS + "names: [[cat]]", ["names:", "list of names or a map"]),
        (SPLITS + "names: {1: cat, 2: dog}", ["names:", "0..1"]),
        (SPLITS + "names: {a: cat}", ["names:", "0..0"]),
        (SPLITS + "names: [cat, dog]\nnc: 3", ["nc:", "is 3", "2 classes"]),
        (SPLITS + "nc: many", ["nc:", "many"]),
        (SPLITS + "nc: 0", ["nc:", "1 or more"]),
        (SPLITS + "nc: [1]", ["nc:"]),
    ],
)
def test_a_fault_names_the_file_the_key_and_what_to_do(root: Path, text: str, words: list[str]) -> None:
    source = write(root, text)
    with pytest.raises(DataError) as caught:
        load_data_config(source)
    assert all(word in str(caught.value) for word in [source, *words]), caught.value


def test_a_missing_yaml_suggests_one_that_is_there(root: Path) -> None:
    write(root, SPLITS)
    with pytest.raises(DataError, match=r"dta\.yaml is not there \(did you mean 'data\.yaml'"):
        load_data_config(str(root / "dta.yaml"))


def test_a_yaml_in_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nor is its folder"):
        load_data_config(str(tmp_path / "no" / "data.yaml"))


def test_a_folder_instead_of_a_yaml_says_so(root: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        load_data_config(str(root))


def test_a_picture_instead_of_a_yaml_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        load_data_config(str(tmp_path / "a.yaml"))


def test_a_split_the_yaml_does_not_have_is_told_with_those_it_has(root: Path) -> None:
    config = load_data_config(write(root, SPLITS + "nc: 1"))
    with pytest.raises(DataError, match=r"test: is not there .there are train, val"):
        image_paths(config, "test")


def test_a_test_split_that_is_not_there_matters_only_when_it_is_used(root: Path) -> None:
    config = load_data_config(write(root, SPLITS + "test: images/test\nnc: 1"))
    assert len(image_paths(config, "val")) == 1
    with pytest.raises(DataError, match=r"test: .*images/test is not there"):
        image_paths(config, "test")


def test_a_folder_without_images_is_told(root: Path) -> None:
    (root / "none").mkdir()
    config = load_data_config(write(root, "train: images/train\nval: none\nnc: 1"))
    with pytest.raises(DataError, match=r"val: .*none has no images"):
        image_paths(config, "val")


def test_a_file_that_is_no_list_is_told(root: Path) -> None:
    touch(root / "list.csv")
    config = load_data_config(write(root, "train: list.csv\nval: images/val\nnc: 1"))
    with pytest.raises(DataError, match=r"train: .*list\.csv"):
        image_paths(config, "train")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/d/images/train/a.jpg", "/d/labels/train/a.txt"),
        ("/images/d/images/a.b.png", "/images/d/labels/a.b.txt"),
        ("/d/train/images/a.jpg", "/d/train/labels/a.txt"),
        ("/d/my_images/images.jpg", "/d/my_images/images.txt"),
        ("/d/a", "/d/a.txt"),
    ],
)
def test_labels_lie_where_the_last_images_folder_is_called_labels(image: str, label: str) -> None:
    assert label_path(Path(image.replace("/", os.sep))) == Path(label)
