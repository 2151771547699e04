"""Data sets in their standard layouts, written here from drawn shapes."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from deeplab_native import data, viz
from python_tests.data.dataset_cases import (
    HEIGHT,
    VOID,
    WIDTH,
    draw,
    folder,
    save,
    save_list,
    voc_folders,
    voc_sample,
)


def check(dataset, expected):
    """The data set has these samples: name -> (photograph, labels)."""
    assert [entry.name for entry in dataset.entries] == list(expected)
    for sample, (name, (photo, labels)) in zip(dataset, expected.items(), strict=True):
        assert sample.name == name
        assert sample.image.dtype == sample.labels.dtype == torch.uint8
        assert sample.image.shape == (3, *labels.shape)
        # JPEG is lossy
        assert np.abs(sample.image.permute(1, 2, 0).numpy() - photo.astype(float)).mean() < 12
        assert np.array_equal(sample.labels.numpy(), labels), name
    assert len(dataset.palette) == len(dataset.classes) and dataset.ignore_index == VOID


# ---- PASCAL


@pytest.fixture
def voc(tmp_path):
    return voc_folders(tmp_path)


def test_voc(voc):
    root, expected = voc
    for where in (root, root / "VOCdevkit", root / "VOCdevkit/VOC2012"):
        check(data.pascal_voc(where, "val"), {"c": expected["c"]})
    dataset = data.open_dataset("voc", root, "trainval")
    check(dataset, {name: expected[name] for name in "abc"})
    assert dataset.classes[15] == "person" and dataset.palette[15].tolist() == [192, 128, 128]
    assert dataset.void_borders and dataset.title == "PASCAL VOC 2012 trainval"


def test_voc_augmented_with_and_without_lists(voc):
    root, expected = voc
    # without: all labels, and those that are not val's
    check(data.pascal_voc(root, "train_aug"), {name: expected[name] for name in "abd"})
    check(data.pascal_voc(root, "trainval_aug"), {name: expected[name] for name in "abcd"})
    lists = root / "VOCdevkit/VOC2012/ImageSets"
    save_list(lists / "Segmentation/trainaug.txt", "bd")
    check(data.pascal_voc(root, "train_aug"), {name: expected[name] for name in "bd"})
    save_list(
        lists / "SegmentationAug/train_aug.txt",
        ["/JPEGImages/d.jpg /SegmentationClassAug/d.png", "", "a"],
    )
    check(data.pascal_voc(root, "train_aug"), {name: expected[name] for name in "da"})
    save_list(root / "mine.txt", "a")
    check(data.pascal_voc(root, "train_aug", list_file=root / "mine.txt"), {"a": expected["a"]})
    (lists / "Segmentation/val.txt").unlink()
    shutil.rmtree(lists / "SegmentationAug")
    (lists / "Segmentation/trainaug.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.txt is missing, without which train_aug"):
        data.pascal_voc(root, "train_aug")


def test_pascal_context(tmp_path):
    root = tmp_path / "VOC2010"
    expected = {"x": voc_sample(root, "x", 1, "SegmentationClassContext", range(0, 60, 9))}
    save_list(root / "ImageSets/SegmentationContext/val.txt", expected)
    dataset = data.open_dataset("pascal-context", tmp_path)
    check(dataset, expected)
    assert len(dataset.classes) == 60
    assert (dataset.classes[0], dataset.classes[1], dataset.classes[59]) == (
        "background", "aeroplane", "wood",
    )  # fmt: skip
    assert list(dataset.classes[1:]) == sorted(dataset.classes[1:])
    assert not dataset.void_borders


@pytest.mark.parametrize("zip_layout", [False, True])
def test_pascal_person_part(tmp_path, zip_layout):
    parts = tmp_path / "pascal_person_part" if zip_layout else tmp_path
    expected = {"x": voc_sample(parts, "x", 2, "pascal_person_part_gt", range(7))}
    if zip_layout:
        (tmp_path / "VOCdevkit/VOC2010").mkdir(parents=True)
        (parts / "JPEGImages").rename(tmp_path / "VOCdevkit/VOC2010/JPEGImages")
        save_list(parts / "pascal_person_part_trainval_list/val.txt", expected)
    else:
        save_list(parts / "val_id.txt", expected)
    dataset = data.open_dataset("pascal-person-part", tmp_path)
    check(dataset, expected)
    assert dataset.classes[1:3] == ("head", "torso") and len(dataset.classes) == 7


# ---- scenes seen from a car


def test_cityscapes(tmp_path):
    # by the definition of the benchmark: 7 is the road, train id 0; 33 the bicycle, train id 18
    for number, (city, name) in enumerate([("b", "b_0"), ("a", "a_1"), ("a", "a_0")]):
        photo, labels = draw(number, [7, 8, 33, 4, 9], void=VOID)
        save(tmp_path / f"leftImg8bit/val/{city}/{name}_leftImg8bit.png", photo)
        save(tmp_path / f"gtFine/val/{city}/{name}_gtFine_labelIds.png", labels)
    dataset = data.open_dataset("cityscapes", tmp_path)
    assert [entry.name for entry in dataset.entries] == ["a_0", "a_1", "b_0"]
    photo, ids = draw(2, [7, 8, 33, 4, 9], void=VOID)
    expected = np.full_like(ids, VOID)
    for label_id, train_id in {7: 0, 8: 1, 33: 18}.items():
        expected[ids == label_id] = train_id
    assert np.array_equal(dataset[0].labels.numpy(), expected)
    assert np.array_equal(dataset[0].image.permute(1, 2, 0).numpy(), photo)
    assert len(dataset.classes) == 19
    assert dataset.classes[0] == "road" and dataset.palette[0].tolist() == [128, 64, 128]
    assert dataset.classes[13] == "car" and dataset.palette[13].tolist() == [0, 0, 142]
    # those of every id
    train_ids = [data.CITYSCAPES_TRAIN_IDS[i] for i in range(34)]
    assert [i for i in train_ids if i != VOID] == list(range(19))
    (tmp_path / "gtFine/val/a/a_1_gtFine_labelIds.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a_1_gtFine_labelIds\.png is missing \(unpack"):
        data.cityscapes(tmp_path)


@pytest.mark.parametrize("flat", [False, True])
def test_camvid(tmp_path, flat):
    expected = {}
    for number, name in enumerate(["p_0", "q_1"]):
        photo, labels = draw(number, [0, 3, 10], void=11)
        save(tmp_path / (f"images/{name}.jpg" if flat else f"test/{name}.png"), photo)
        save(tmp_path / ("labels" if flat else "testannot") / f"{name}.png", labels)
        expected[name] = photo, np.where(labels == 11, VOID, labels)
    if flat:
        save_list(tmp_path / "test.txt", expected)
    dataset = data.open_dataset("camvid", tmp_path, "test")
    check(dataset, expected)
    assert len(dataset.classes) == 11 and dataset.classes[10] == "bicyclist"
    with pytest.raises(FileNotFoundError, match=r"train is missing \(take the folder CamVid"):
        data.camvid(tmp_path, "train")


# ---- a folder of anything


def test_folder(tmp_path):
    folder(tmp_path)
    expected = {name: draw(i, range(4)) for i, name in enumerate("abcd")}
    dataset = data.open_dataset("folder", tmp_path)
    check(dataset, expected)
    assert dataset.classes == tuple(f"shape {i}" for i in range(4))
    save_list(tmp_path / "half.txt", "cb")
    check(data.folder(tmp_path, "half"), {name: expected[name] for name in "cb"})
    assert data.folder(tmp_path, classes=7).classes[6] == "class 6"
    assert data.folder(tmp_path, classes="voc").classes == viz.VOC_CLASSES
    assert data.folder(tmp_path, classes=["w", "x", "y", "z"]).classes == ("w", "x", "y", "z")


def test_label_map(tmp_path):
    folder(tmp_path)
    label_map = {0: 0, 1: VOID, 2: 1, 3: 0, VOID: VOID}
    dataset = data.folder(tmp_path, classes=2, label_map=label_map)
    for i in range(4):
        labels = draw(i, range(4))[1]
        expected = np.vectorize(label_map.get)(labels)
        assert np.array_equal(dataset[i].labels.numpy(), expected)
    del label_map[3]
    with pytest.raises(data.SampleError, match=r"value 3 at row .*expected one of 0, 1, 2, 255"):
        data.folder(tmp_path, classes=2, label_map=label_map)[0]
    with pytest.raises(ValueError, match=r"label_map: .*got 0 -> 2"):
        data.folder(tmp_path, classes=2, label_map={0: 2})


def test_in_a_data_loader(tmp_path):
    folder(tmp_path, "a")
    dataset = data.folder(tmp_path)
    [(names, images, labels)] = DataLoader(dataset)
    assert names == ("a",)
    assert images.shape == (1, 3, HEIGHT, WIDTH) and labels.shape == (1, HEIGHT, WIDTH)
    again = pickle.loads(pickle.dumps(dataset))  # as for its worker processes
    assert torch.equal(again[0].image, images[0])
    assert torch.equal(dataset[-1].labels, labels[0])
    for index in (1, -2):
        with pytest.raises(IndexError):
            dataset[index]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_stored_values_are_the_labels(tmp_path, mode, bits):
    """Of grey and palette PNGs of any depth; colours mean nothing."""
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % min(2**bits, 9)
    path = tmp_path / "labels/a.png"
    path.parent.mkdir()
    if mode == "P":
        image = Image.fromarray(labels)
        image.putpalette(np.random.default_rng(0).integers(0, 256, 3 * 2**bits).tolist())
        image.save(path, bits=bits)
    else:
        path.write_bytes(grey_png(labels, bits))
    save(tmp_path / "images/a.png", np.zeros((3, 4, 3), np.uint8))
    assert np.array_equal(data.folder(tmp_path, classes=9)[0].labels.numpy(), labels)


def grey_png(labels, bits):
    """A grey PNG of any depth, chunk by chunk: Pillow writes 8 bits only."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width = labels.shape
    high_bits_first = np.unpackbits(labels[..., None], axis=2)[..., 8 - bits :]
    rows = np.packbits(high_bits_first.reshape(height, -1), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("content", [["a", "b"], {"0": "a", "1": "b"}, {"b": 1, "a": 0}])
def test_class_files_of_every_form(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(content))
    assert data.as_class_set(path).names == ("a", "b")
