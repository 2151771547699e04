"""Somebody's photographs: every layout gives the same labels, and every fault is named."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from deeplab_native.data.own_data import find_data
from python_tests.data import own_cases as cases
from python_tests.data.own_cases import NAMES, scene

GREY = [(0, 0, 0), (10, 20, 30), (200, 0, 1)]
VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]


def classes(root, content):
    (root / "classes.json").write_text(json.dumps(content))
    return root


LAYOUTS = {
    "indices": (lambda root: cases.write_indices(root), ("background", "class 1", "class 2")),
    "gaps": (
        lambda root: cases.write_indices(root, (0, 15, 40), "masks"),
        ("background", "class 15", "class 40"),
    ),
    "no background": (
        lambda root: cases.write_indices(root, (3, 5, 9)),
        ("class 3", "class 5", "class 9"),
    ),
    "a list": (
        lambda root: classes(cases.write_indices(root), ["sky", "house", "tree"]),
        ("sky", "house", "tree"),
    ),
    "an object": (
        lambda root: classes(
            cases.write_indices(root, (0, 7, 9)), {"9": "tree", "0": "sky", "7": "house"}
        ),
        ("sky", "house", "tree"),
    ),
    "numbers by name": (
        lambda root: classes(cases.write_indices(root), {"house": 1, "tree": 2, "sky": 0}),
        ("sky", "house", "tree"),
    ),
    "colours": (lambda root: cases.write_colours(root, GREY), ("background", "#0a141e", "#c80001")),
    "opaque colours": (
        lambda root: cases.write_colours(root, GREY, "RGBA"),
        ("background", "#0a141e", "#c80001"),
    ),
    "named colours": (
        lambda root: classes(
            cases.write_colours(root, GREY),
            {"sky": [0, 0, 0], "house": [10, 20, 30], "tree": [200, 0, 1]},
        ),
        ("sky", "house", "tree"),
    ),
    "VOC's colours": (
        lambda root: classes(cases.write_colours(root, VOC), ["sky", "house", "tree"]),
        ("sky", "house", "tree"),
    ),
    "LabelMe": (lambda root: cases.write_labelme(root), ("background", "animal", "box")),
    "LabelMe in images": (
        lambda root: classes(cases.write_labelme(root, "images"), ["background", "box", "animal"]),
        ("background", "box", "animal"),
    ),
    "COCO": (lambda root: cases.write_coco(root), ("background", "animal", "box")),
    "COCO in annotations": (
        lambda root: classes(
            cases.write_coco(root, file="annotations/x.json"), ["background", "box", "animal"]
        ),
        ("background", "box", "animal"),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_same_labels(layout, tmp_path):
    write, names = LAYOUTS[layout]
    data = find_data(write(tmp_path / "photos"))
    assert data.class_set.names == names
    assert list(data.pairs) == sorted(NAMES)
    turned = names[1:] == ("animal", "box")  # the alphabet's order
    for i, name in enumerate(NAMES):
        expected = scene(i)[1]
        if turned:
            expected = np.array([0, 2, 1], np.uint8)[expected]
        assert np.array_equal(data.labels(name), expected)
    assert len(data.notes) >= 2  # classes, and what is held out


def test_masks_of_black_and_white(tmp_path):
    root = cases.write_indices(tmp_path / "photos", (0, 255, 255))
    data = find_data(root)
    assert data.class_set.names == ("background", "foreground")
    assert np.array_equal(data.labels("a"), scene(0)[1] > 0)
    assert find_data(classes(root, ["table", "cup"])).labels("a").max() == 1


def test_void_does_not_count(tmp_path):
    data = find_data(cases.write_indices(tmp_path / "a", (0, 1, 255)))
    assert data.class_set.names == ("background", "class 1")
    assert set(np.unique(data.labels("a"))) == {0, 1, 255}
    root = classes(cases.write_indices(tmp_path / "b"), ["sky", "house", "Void"])
    assert find_data(root).class_set.names == ("sky", "house")
    assert set(np.unique(find_data(root).labels("a"))) == {0, 1, 255}
    white = [*GREY[:2], (224, 224, 192)]  # VOC's
    assert set(np.unique(find_data(cases.write_colours(tmp_path / "c", white)).labels("a"))) == {
        *(0, 1, 255)
    }


def test_what_has_no_partner_is_left_out(tmp_path):
    root = cases.write_indices(tmp_path / "photos")
    (root / "labels/b.png").unlink()
    (root / "images/c.jpg").unlink()
    data = find_data(root)
    assert list(data.pairs) == ["a", "d", "é 1"]
    notes = "\n".join(data.notes)
    assert "1 photographs have no labels and are left out: b.jpg" in notes
    assert "1 labels have no photograph and are left out: c.png" in notes


def test_names_as_macos_writes_them(tmp_path):
    root = cases.write_indices(tmp_path / "photos")
    (root / "images/é 1.jpg").rename(root / "images/e\u0301 1.jpg")
    assert len(find_data(root).pairs) == len(NAMES)


def damage(what, root):
    label = root / "labels/b.png"
    if what == "size":
        Image.fromarray(scene(1)[1][:20]).save(label)
    elif what == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(scene(1)[0]).save(root / "images/b.jpg", exif=exif)
    elif what == "jpeg":
        for name in NAMES:
            (root / f"labels/{name}.png").unlink()
            Image.fromarray(scene(0)[1]).save(root / f"labels/{name}.jpg")
    elif what == "jpeg named png":
        Image.fromarray(scene(1)[1]).save(label, format="JPEG")
    elif what == "names":
        for name in NAMES:
            (root / f"labels/{name}.png").rename(root / f"labels/{name}_mask.png")
    elif what == "one coloured":
        Image.fromarray(scene(1)[0]).save(label)
    elif what == "smooth":
        for name in NAMES:
            noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
            Image.fromarray(noise).save(root / f"labels/{name}.png")
    elif what == "damaged":
        label.write_bytes(label.read_bytes()[:60])
    elif what == "photo":
        (root / "images/b.jpg").write_bytes(b"no picture")
    elif what == "one class":
        for name in NAMES:
            Image.fromarray(0 * scene(0)[1]).save(root / f"labels/{name}.png")
    elif what == "no labels":
        for path in (root / "labels").iterdir():
            path.unlink()
    elif what == "one":
        for name in NAMES[1:]:
            (root / f"images/{name}.jpg").unlink()
    elif what == "unlisted":
        classes(root, ["background", "house"])
    elif what == "colours":
        classes(root, {"background": [0, 0, 0], "house": [1, 2, 3]})
    elif what == "form":
        classes(root, {"background": 0.5})
    elif what == "list":
        (root / "val.txt").write_text("a\nzebra\n")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("size", r"b\.png: labels of 40 x 20 for b\.jpg, which is 40 x 30 \(save the labels at"),
        ("turned", r"b\.png: labels of 40 x 30 for b\.jpg, which is 30 x 40 \(save"),
        ("jpeg", r"a\.jpg: labels in a \.jpg file, which changes their values \(save .* PNG\)"),
        ("jpeg named png", r"b\.png: labels in a JPEG file, which may be lossy"),
        ("names", r"labels: no label PNG .*: a\.jpg needs labels/a\.png, and there is a_mask\.png"),
        ("one coloured", r"b\.png is coloured and .*\.png is not \(save all labels alike\)"),
        ("smooth", r"\.png: \d+ colours, as of a photograph .*anti-alias.*\(5 of 5 files"),
        ("damaged", r"b\.png: damaged or cut off"),
        ("photo", r"b\.jpg: not a picture"),
        ("one class", r"labels: every labelled pixel is background: .* nothing to tell apart"),
        ("no labels", r"photos: 5 photographs, and no labels \(expected images/ .*COCO"),
        ("one", r"photos: 1 photograph with labels; expected two or more"),
        ("unlisted", r"a\.png: 200 pixels of 2, which classes\.json does not have: .*add it there"),
        ("colours", r"classes\.json: gives colours, but the label PNGs hold numbers"),
        ("form", r"classes\.json: expected class names, as a list"),
        ("list", r"val\.txt: 'zebra' is no photograph with labels"),
    ],
)
def test_every_fault_is_named(what, message, tmp_path):
    root = cases.write_indices(tmp_path / "photos")
    damage(what, root)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        data = find_data(root)
        for name in data.pairs:
            data.labels(name)
    assert "\n" not in str(caught.value)


def test_colours_that_the_list_does_not_have(tmp_path):
    root = cases.write_colours(tmp_path / "photos", GREY)
    classes(root, {"sky": [0, 0, 0], "house": [10, 20, 30]})
    with pytest.raises(ValueError, match=r"a\.png: 200 pixels of #c80001, which classes\.json"):
        find_data(root)
    classes(root, ["sky", "house", "tree"])
    with pytest.raises(ValueError, match=r"#0a141e is not VOC's colour .*\"sky\": \[10, 20, 30\]"):
        find_data(root)


def test_shapes_that_the_list_does_not_have(tmp_path):
    root = classes(cases.write_labelme(tmp_path / "photos"), ["background", "box"])
    with pytest.raises(ValueError, match=r"the shapes have animal, .* background, box \(add it\)"):
        find_data(root)
    classes(root, ["box", "animal"])
    with pytest.raises(ValueError, match=r"the first class is box, .*begin the list with 'backgr"):
        find_data(root)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder"):
        find_data(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=re.escape("no photographs in this folder")):
        find_data(tmp_path)
    root = cases.write_coco(tmp_path / "photos")
    for name in NAMES:
        (root / f"images/{name}.jpg").rename(root / f"images/other {name}.jpg")
    with pytest.raises(FileNotFoundError, match=r"none of its 5 photographs is in .*images/a\.jpg"):
        find_data(root)
