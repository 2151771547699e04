"""COCO's files: label maps of them, and what is damaged."""

import json
import re

import numpy as np
import pytest

from deeplab_native._annotations import (
    coco_polygons,
    encode_rle,
    read_coco,
    segmentation_like,
    segmentation_mask,
)

SIZE = (20, 30)
LARGE, SMALL, CROWD = np.zeros(SIZE, bool), np.zeros(SIZE, bool), np.zeros(SIZE, bool)
LARGE[2:15, 3:20] = True
LARGE[6:9, 6:9] = False
SMALL[5:10, 10:14] = True
CROWD[16:, 2:9] = True


def document(**more):
    return {
        "images": [
            {"id": 7, "file_name": "a/photo.jpg", "height": 20, "width": 30},
            {"id": "empty", "file_name": "b.jpg", "height": 4, "width": 5},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "segmentation": coco_polygons(SMALL)},
            {"id": 2, "image_id": 7, "category_id": 3, "segmentation": coco_polygons(LARGE)},
            {"id": 3, "image_id": 7, "category_id": 3, "segmentation": encode_rle(CROWD)},
        ],
    } | more


def test_label_map(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document()))
    coco = read_coco(path)
    assert coco.categories == {3: "cat", 18: "dog"} and coco.path == path
    assert coco.images[7].file_name == "a/photo.jpg" and list(coco.images) == [7, "empty"]
    labels = coco.label_map(7, {3: 1, 18: 2})
    # the smaller object lies above the larger one, in whatever order they are
    wanted = np.where(SMALL, 2, np.where(LARGE | CROWD, 1, 0))
    np.testing.assert_array_equal(labels, wanted)
    assert labels.dtype == np.uint8
    assert coco.label_map("empty", {}).shape == (4, 5)


def test_the_kind_of_a_segmentation_is_kept():
    plain, packed = encode_rle(LARGE, compressed=False), encode_rle(LARGE)
    in_bytes = packed | {"counts": packed["counts"].encode()}
    for like in (coco_polygons(SMALL), plain, packed, in_bytes):
        made = segmentation_like(LARGE, like)
        assert type(made) is type(like)
        if isinstance(like, dict):
            assert made == like
        np.testing.assert_array_equal(segmentation_mask(made, SIZE, "x"), LARGE)


def changed(part, place, **entries):
    whole = document()
    whole[part][place] = {**whole[part][place], **entries}
    return whole


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        ({"images": []}, "`document`: expected a list 'categories', got none"),
        (document(images={}), "expected a list 'images', got {}"),
        (document(images=[3]), "images[0]: expected a JSON object, got 3"),
        (changed("images", 1, id=7), "images[1]: id 7 for the second time"),
        (changed("images", 1, id=[7]), "expected a whole number or a text 'id', got [7]"),
        (changed("images", 1, height=True), "expected a whole number 'height', got True"),
        (changed("images", 1, width=1 << 40), "are more than 268435456 pixels"),
        (changed("categories", 1, id=3), "categories[1]: id 3 for the second time"),
        (changed("categories", 1, name=None), "expected a text 'name', got None"),
        (changed("annotations", 2, image_id=9), "image_id 9 is none of the 2 images"),
        (
            changed("annotations", 2, category_id=9),
            "category_id 9 is none of {3: 'cat', 18: 'dog'}",
        ),
    ],
)
def test_damaged(whole, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_coco(whole)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "expected polygons or run lengths as 'segmentation', got None"),
        ([], "expected polygons or run lengths as 'segmentation', got []"),
        ([[1, 2]], "`segmentation[0]`: expected three corners or more"),
        (encode_rle(np.ones((2, 3))), "`segmentation`: a mask of 2 x 3 for a picture of 20 x 30"),
    ],
)
def test_a_segmentation_that_is_none(segmentation, message):
    coco = read_coco(changed("annotations", 1, segmentation=segmentation))
    with pytest.raises(ValueError, match=re.escape(f"the document: annotation 2: {message}")):
        coco.label_map(7, {3: 1, 18: 2})
    with pytest.raises(ValueError, match="annotation 1: category 18 is no class"):
        coco.label_map(7, {3: 1})
