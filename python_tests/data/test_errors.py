"""Data sets with something wrong: every error names the file, and says what to do."""

from __future__ import annotations

import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from deeplab_native import data
from python_tests.data.dataset_cases import HEIGHT, WIDTH, folder, save_list, voc_folders


def as_bytes(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


COLOURS = Image.new("RGB", (WIDTH, HEIGHT + 1), (128, 0, 0))
OUTSIDE = Image.fromarray(np.full((HEIGHT + 1, WIDTH), 77, np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels/b.png", as_bytes(OUTSIDE, format="PNG"), "value 77 at row 0, column 0 .*0 to 3"),
        ("labels/b.png", as_bytes(COLOURS, format="PNG"), "mode RGB holds no label indices"),
        ("labels/b.png", as_bytes(OUTSIDE, format="JPEG"), "labels in a JPEG file"),
        ("labels/b.png", as_bytes(OUTSIDE.convert("I;16"), format="PNG"), "mode I;16"),
        ("labels/b.png", as_bytes(OUTSIDE, format="PNG")[:50], "damaged or cut off"),
        ("labels/b.png", b"", "not a PNG"),
        ("labels/b.png", as_bytes(OUTSIDE.crop((0, 0, 9, 8)).point(lambda _: 0), format="PNG"),
         "labels of 9 x 8 for b.png, which is 30 x 25"),
        ("images/b.png", as_bytes(COLOURS, format="PNG")[:60], "damaged or cut off"),
        ("images/b.png", as_bytes(COLOURS, format="JPEG")[:400], "damaged or cut off"),
        ("images/b.png", b"text", "not a picture"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_files_are_named_and_the_others_go_on(tmp_path, name, content, words):
    folder(tmp_path)
    (tmp_path / name).write_bytes(content)
    dataset = data.folder(tmp_path)
    found = {}
    for i in range(len(dataset)):
        try:
            found[i] = dataset[i].name
        except data.SampleError as error:
            assert re.search(words, str(error)), error
            assert str(tmp_path / name) in str(error)
    assert found == {0: "a", 2: "c", 3: "d"}


def test_missing_and_extra_files(tmp_path):
    folder(tmp_path)
    dataset = data.folder(tmp_path)
    (tmp_path / "labels/b.png").unlink()
    with pytest.raises(data.SampleError, match=r"labels/b\.png: no such label PNG"):
        dataset[1]  # gone after the data set was opened
    with pytest.raises(ValueError, match=r"1 files have no partner, the first is .*images/b\.png"):
        data.folder(tmp_path)
    save_list(tmp_path / "all.txt", "abcde")
    with pytest.raises(FileNotFoundError, match=r"labels/b\.png is missing, and 2 more files"):
        data.folder(tmp_path, "all")


def test_bad_lists(tmp_path):
    folder(tmp_path)
    path = tmp_path / "val.txt"
    path.write_text("\n \n")
    with pytest.raises(ValueError, match=r"val\.txt: an empty list, and so an empty split"):
        data.folder(tmp_path, "val")
    path.write_text("a\nb\na\n")
    with pytest.raises(ValueError, match="a is listed twice"):
        data.folder(tmp_path, "val")
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ValueError, match=r"val\.txt: no text file"):
        data.folder(tmp_path, "val")
    with pytest.raises(FileNotFoundError, match=r"test\.txt is missing \(there are val"):
        data.folder(tmp_path, "test")
    with pytest.raises(ValueError, match="split: expected the name of a list"):
        data.folder(tmp_path, "../val")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "no JSON"),
        ("[1]", "expected class names, as a list"),
        ("7", "expected class names, .* got 7"),
        ('{"0": "a", "2": "b"}', "without gaps"),
        ('{"0": "a", "1": 3}', "class names, as a list .* or by index"),
        ('{"0": "a", "1": "a"}', "got a repeatedly"),
        ("{}", "1 to 255 classes, got 0"),
    ],
)
def test_bad_class_files(tmp_path, content, words):
    folder(tmp_path)
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(ValueError, match=rf"classes\.json: .*{words}"):
        data.folder(tmp_path)


@pytest.mark.parametrize(
    ("classes", "error", "words"),
    [
        (0, ValueError, "1 to 255, got 0"),
        (256, ValueError, "1 to 255, got 256"),
        ("vocc", ValueError, "classes: .*'vocc'"),
        (2.5, TypeError, "classes: .*2.5"),
        (["a", 1], TypeError, "classes: "),
        ("none.json", FileNotFoundError, "none.json"),
    ],
)
def test_bad_classes(tmp_path, classes, error, words):
    folder(tmp_path)
    with pytest.raises(error, match=words):
        data.folder(tmp_path, classes=classes)


@pytest.mark.parametrize("name", [n for n in data.DATASETS if n != "folder"])
def test_where_a_set_is_to_be_had(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/\S+ is missing \(.*https?://"):
        data.open_dataset(name, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"root: \S+none is no folder \(.*https?://"):
        data.open_dataset(name, tmp_path / "none")
    with pytest.raises(ValueError, match=r"split: .* val"):
        data.open_dataset(name, tmp_path, "minival")
    if name in ("voc", "cityscapes"):
        with pytest.raises(ValueError, match="'test' are not public"):
            data.open_dataset(name, tmp_path, "test")


def test_missing_parts_of_voc(tmp_path):
    root, _ = voc_folders(tmp_path)
    (root / "VOCdevkit/VOC2012/SegmentationClass/c.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"SegmentationClass/c\.png is missing \(unpack"):
        data.pascal_voc(root)
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("a b c\n")
    with pytest.raises(ValueError, match=r"val\.txt: entry 1 is 'a b c'"):
        data.pascal_voc(root)
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.txt is missing \(unpack VOCtrainval"):
        data.pascal_voc(root)
    shutil.rmtree(root / "VOCdevkit/VOC2012/SegmentationClassAug")
    with pytest.raises(FileNotFoundError, match=r"SegmentationClassAug is missing \(put"):
        data.pascal_voc(root, "train_aug")


def test_unknown_names():
    with pytest.raises(ValueError, match=r"name: expected one of voc, .*'coco'"):
        data.open_dataset("coco", ".")
    with pytest.raises(TypeError):
        data.open_dataset("voc", ".", colours=3)
