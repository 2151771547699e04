"""LabelMe's files: what it draws, and what is damaged."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("hypothesis")
from hypothesis import given, settings

from deeplab_native._annotations import labelme_shapes, read_labelme, shape_mask, write_document
from python_tests.annotations.shapes import masks

SIZE = (20, 30)


def base64_png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def shape(kind="polygon", points=((1, 1), (5, 1), (5, 5)), label="cat", **more):
    return {"label": label, "points": [list(p) for p in points], "shape_type": kind} | more


def document(*shapes, **more):
    whole = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "photo.png"}
    return whole | {"imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1]} | more


def drawn(*shapes) -> np.ndarray:
    return read_labelme(document(*shapes)).label_map({"cat": 1, "dog": 2})


@settings(deadline=None)
@given(masks())
def test_round_trip(mask):
    shapes = labelme_shapes(mask, "cat", group_id=3)
    size = {"imageHeight": mask.shape[0], "imageWidth": mask.shape[1]}
    file = read_labelme(json.loads(json.dumps(document(*shapes, **size))))
    np.testing.assert_array_equal(file.label_map({"cat": 1}), mask)
    assert all(s.source["group_id"] == 3 and s.kind == "polygon" for s in file.shapes)
    assert all(len(s.points) >= 3 for s in file.shapes)  # as LabelMe wants them


def test_each_kind():
    y, x = np.indices(SIZE)
    cases = {
        "rectangle": (((8, 9), (3, 2)), (x >= 3) & (x <= 8) & (y >= 2) & (y <= 9)),
        "polygon": (((3, 2), (8, 2), (8, 9), (3, 9)), (x >= 3) & (x <= 8) & (y >= 2) & (y <= 9)),
        "oriented_rectangle": (((9, 3), (14, 8), (9, 13), (4, 8)), abs(x - 9) + abs(y - 8) <= 5),
        "line": (((-50, 10), (80, 10)), (y >= 6) & (y <= 15)),  # 10 pixels wide
    }
    for kind, (points, wanted) in cases.items():
        np.testing.assert_array_equal(drawn(shape(kind, points)), wanted, err_msg=kind)
    for kind, points, radius in (("circle", ((12, 9), (12, 3)), 6), ("point", ((12, 9),), 5)):
        found = drawn(shape(kind, points)) != 0
        distance = np.hypot(x - 12, y - 9)
        assert found[distance <= radius - 0.5].all() and not found[distance > radius + 0.5].any()
    strip = drawn(shape("linestrip", ((-50, 10), (10, 10), (80, 10))))
    np.testing.assert_array_equal(strip, cases["line"][1])


def test_a_mask_in_its_place():
    part = np.zeros((4, 5), np.uint8)
    part[1:, 2:] = 255
    wanted = np.zeros(SIZE)
    wanted[8:11, 22:25] = 1
    kind = shape("mask", ((20, 7), (24, 10)), mask=base64_png(part))
    np.testing.assert_array_equal(drawn(kind), wanted)
    outside = shape("mask", ((-3, 18), (1, 21)), mask=base64_png(part))
    wanted = np.zeros(SIZE)
    wanted[19:, :2] = 1
    np.testing.assert_array_equal(drawn(outside), wanted)
    far = shape("mask", ((90, 90), (94, 93)), mask=base64_png(part))
    assert not drawn(far).any()


def test_later_shapes_lie_above_and_names_of_label_me_have_numbers():
    below = shape("rectangle", ((0, 0), (9, 9)))
    above = shape("rectangle", ((2, 2), (3, 3)), label="dog")
    hidden = shape("rectangle", ((5, 5), (6, 6)), label="__ignore__")
    empty = shape("rectangle", ((8, 8), (8, 8)), label="_background_")
    labels = drawn(below, above, hidden, empty)
    assert labels.dtype == np.uint8
    assert [labels[0, 0], labels[2, 2], labels[5, 5], labels[8, 8]] == [1, 2, 255, 0]
    assert read_labelme(document(below, above, hidden, empty)).names == ("cat", "dog")
    with pytest.raises(ValueError, match="labels that are no classes: cat, dog \\(the classes are"):
        read_labelme(document(below, above)).label_map({"bird": 1})


def test_the_photograph(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    inside = read_labelme(document(imageData=base64_png(pixels)))
    np.testing.assert_array_equal(inside.image(), pixels)
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "images/photo.png")
    path = tmp_path / "photo.json"
    # as old versions and Windows write it: without a size
    whole = document(shape(), imagePath="images\\photo.png", imageHeight=None, imageWidth=None)
    write_document(path, whole)
    beside = read_labelme(path)
    assert (beside.height, beside.width) == SIZE and beside.path == path
    np.testing.assert_array_equal(beside.image(), pixels)
    assert shape_mask(beside.shapes[0], SIZE).sum() == 15
    with pytest.raises(ValueError, match="imageHeight x imageWidth 7 x 30, but the picture has 20"):
        read_labelme(document(imageData=base64_png(pixels), imageHeight=7)).image()
    with pytest.raises(ValueError, match=r"give the file, so that 'photo\.png' is found by it"):
        read_labelme(document()).image()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "{path}: no JSON: empty, or truncated"),
        (b"\xff\xfe\x00", "{path}: no JSON: "),
        (b"[" * 100_000, "{path}: no JSON: "),
        (b'{"shapes": [', "{path}: no JSON: Expecting value"),
        (b"<!DOCTYPE html><title>404</title>", "{path}: no JSON: a web page (HTML)"),
        (b"[1, 2]", "{path}: expected a JSON object {{...}}, got [1, 2]"),
        (b"{}", "{path}: expected a list 'shapes', got none"),
    ],
)
def test_a_file_that_is_none(tmp_path, content, message):
    path = tmp_path / "photo.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message.format(path=path))):
        read_labelme(path)


@pytest.mark.parametrize(
    ("shapes", "more", "message"),
    [
        (["cat"], {}, "shapes[0]: expected a JSON object, got 'cat'"),
        ([shape(), {"points": []}], {}, "shapes[1]: expected a text 'label', got none"),
        ([shape("star")], {}, "as 'shape_type', got 'star'"),
        ([shape({"a": 1})], {}, "as 'shape_type', got {'a': 1}"),
        ([shape(points=((1, 1), (2, 2)))], {}, "a polygon has 3 or more points, this 2"),
        ([shape("circle")], {}, "a circle has 2 points, this 3"),
        ([shape("linestrip", ())], {}, "a linestrip has 1 or more points, this 0"),
        ([shape(points=((1, 1), (2,), (3, 3)))], {}, "expected points [[x, y], ...]"),
        ([shape(points=(("a", 1), (2, 3), (3, 3)))], {}, "expected points [[x, y], ...]"),
        ([shape(points=((float("inf"), 1), (2, 3), (3, 3)))], {}, "points that are not finite"),
        ([shape(points=((1e18, 1), (2, 3), (3, 3)))], {}, "a point at 1e+18 for a picture of 20"),
        ([shape("mask", ((1, 1), (2, 2)))], {}, "expected a text 'mask', got none"),
        ([shape("mask", ((1, 1), (2, 2)), mask="!")], {}, "mask: expected a picture in base64"),
        ([shape("mask", ((1, 1), (2, 2)), mask="aGk=")], {}, "not a picture that Pillow can read"),
        ([], {"imageHeight": 0}, "imageHeight, imageWidth: expected a size [height, width]"),
        ([], {"imageHeight": 1 << 20, "imageWidth": 1 << 20}, "are more than 268435456 pixels"),
        ([], {"imageHeight": "20"}, "expected a whole number 'imageHeight', got '20'"),
        ([], {"imageHeight": None, "imageData": 3}, "expected a text 'imageData', got 3"),
    ],
)
def test_damaged(shapes, more, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_labelme(document(*shapes, **more))
    assert str(error.value).startswith("`document`") or "the document" in str(error.value)


def test_what_is_no_document(tmp_path):
    with pytest.raises(TypeError, match="`document`: expected a JSON file or what was read of one"):
        read_labelme(3)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_labelme(tmp_path / "missing.json")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_labelme(tmp_path)
