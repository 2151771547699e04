"""COCO's and LabelMe's files refined: what changes, and what stays."""

import base64
import copy
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from deeplab_native.interop import (
    coco_polygons,
    decode_rle,
    encode_rle,
    labelme_shapes,
    read_coco,
    read_labelme,
    refine_coco,
    refine_labelme,
    refine_rle,
)
from python_tests.interop.scene import SIZE, coarse, iou, photo, truth


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo()).save(tmp_path / "photos/a.png")
    return tmp_path


def coco():
    disc, rectangle = coarse()
    image = {"id": 5, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1], "license": 3}
    common = {"image_id": 5, "category_id": 1, "area": 1, "bbox": [0, 0, 1, 1]}
    return {
        "info": {"year": 2026},
        "images": [image, {**image, "id": 6, "file_name": "not_needed.png"}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            common | {"id": 1, "iscrowd": 0, "segmentation": coco_polygons(disc)},
            common | {"id": 2, "iscrowd": 1, "segmentation": encode_rle(disc)},
            common | {"id": 3, "iscrowd": 0, "segmentation": encode_rle(rectangle)},
            {"id": 4, "image_id": 6, "category_id": 1, "bbox": [0, 0, 1, 1]},
        ],
    }


@pytest.mark.parametrize("counts", [list, str, bytes])
def test_rle(counts):
    rle = encode_rle(coarse()[0], compressed=counts is not list)
    if counts is bytes:
        rle["counts"] = rle["counts"].encode()
    before = copy.deepcopy(rle)
    refined = refine_rle(photo(), rle, confidence=0.75)
    assert type(refined["counts"]) is counts and iou(decode_rle(refined), truth()[0]) > 0.99
    assert rle == before
    with pytest.raises(TypeError, match="`kind`: is no option here"):
        refine_rle(photo(), rle, kind="mask")


@pytest.mark.parametrize("together", [False, True])
def test_coco(folder, together):
    given, seen = coco(), []
    before = copy.deepcopy(given)
    refined = refine_coco(
        given,
        folder / "photos",
        folder / "new.json",
        together=together,
        progress=lambda *now: seen.append(now),
    )
    assert given == before and json.loads((folder / "new.json").read_text()) == refined
    assert seen == [(1, 1, "a.png")]
    assert {k: refined[k] for k in ("info", "images", "categories")} == {
        k: given[k] for k in ("info", "images", "categories")
    }
    disc, crowd, rectangle, box = refined["annotations"]
    assert crowd == given["annotations"][1] and box == given["annotations"][3]
    masks = [read_coco(refined).label_map(5, {1: 1}) for _ in range(1)]
    assert iou(masks[0], truth().any(0) | coarse()[0]) > 0.98  # the crowd's cells, too
    assert iou(decode_rle(rectangle["segmentation"]), truth()[1]) > 0.99
    assert type(disc["segmentation"]) is list and type(rectangle["segmentation"]) is dict
    assert rectangle["bbox"] == [50, 22, 21, 27] and rectangle["area"] == truth()[1].sum()
    assert refine_coco(folder / "new.json", folder / "photos")["images"] == given["images"]


def test_coco_results(folder):
    (folder / "instances.json").write_text(json.dumps(coco()))
    results = [
        {"image_id": 5, "category_id": 1, "score": 0.9, "segmentation": encode_rle(coarse()[1])},
        {"image_id": 5, "category_id": 1, "score": 0.1, "segmentation": encode_rle(np.zeros(SIZE))},
    ]
    (folder / "results.json").write_text(json.dumps(results))
    for given in (results, folder / "results.json"):
        refined = refine_coco(given, folder / "photos", images=folder / "instances.json")
        assert iou(decode_rle(refined[0]["segmentation"]), truth()[1]) > 0.99
        assert refined[0].keys() == results[0].keys() and refined[0]["score"] == 0.9
        assert refined[1] == results[1]  # nothing is left of it
    results[1]["image_id"] = 7
    with pytest.raises(ValueError, match=r"`document`: \[1\]: image_id 7 is none of `images`"):
        refine_coco(results, folder / "photos", images=coco())
    with pytest.raises(TypeError, match="`document`: expected a JSON file or what was read"):
        refine_coco(results, folder / "photos")


def test_coco_errors_write_nothing(folder):
    def fails(error, message, given, photos="photos", **how):
        with pytest.raises(error, match=re.escape(message)):
            refine_coco(given, folder / photos, folder / "new.json", **how)
        assert not (folder / "new.json").exists()

    fails(NotADirectoryError, "`photos`: ", coco(), photos="none")
    fails(ValueError, "`confidence`", coco(), confidence=0)
    given = coco()
    given["images"][0]["file_name"] = "b.png"
    fails(FileNotFoundError, "1 photographs are not in", given)
    given = coco()
    given["images"][0]["height"] = 61
    fails(ValueError, "`document`: annotation 3: `segmentation`: a mask of 60 x 80", given)
    del given["annotations"][2]
    fails(ValueError, "60 x 80 pixels, but the document says 61 x 80", given)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        refine_coco(coco(), folder / "photos", folder / "none/new.json")


def labelme(**more):
    disc, rectangle = coarse()
    png = io.BytesIO()
    Image.fromarray(rectangle[24:48, 48:72].astype(np.uint8)).save(png, "PNG")
    shapes = labelme_shapes(disc, "disc", flags={"sure": True}, description="red")
    shapes += [
        {
            "label": "rectangle",
            "points": [[48, 24], [71, 47]],
            "shape_type": "mask",
            "mask": base64.b64encode(png.getvalue()).decode(),
            "group_id": 4,
        },
        {"label": "spot", "points": [[3, 3]], "shape_type": "point"},
        {"label": "frame", "points": [[0, 0], [9, 9]], "shape_type": "rectangle"},
    ]
    whole = {"version": "5.5.0", "shapes": shapes, "imagePath": "photos/a.png", "imageData": None}
    return whole | {"imageHeight": SIZE[0], "imageWidth": SIZE[1], "flags": {}} | more


def test_labelme(folder):
    given = labelme()
    before = copy.deepcopy(given)
    (folder / "a.json").write_text(json.dumps(given))
    refined = refine_labelme(folder / "a.json", folder / "new.json")
    assert json.loads((folder / "new.json").read_text()) == refined
    disc, rectangle, spot, frame = refined["shapes"]
    assert [spot, frame] == given["shapes"][2:]  # no areas
    assert disc["flags"] == {"sure": True} and disc["description"] == "red"
    assert rectangle["shape_type"] == "mask" and rectangle["group_id"] == 4
    parts = {"disc": 1, "rectangle": 2, "spot": 0, "frame": 0}
    labels = read_labelme(refined).label_map(parts)
    assert iou(labels == 1, truth()[0]) > 0.98 and iou(labels == 2, truth()[1]) > 0.98
    other = refine_labelme(given, image=photo())  # not from the file
    assert other == refined and given == before
    assert {k: v for k, v in refined.items() if k != "shapes"} == {
        k: v for k, v in given.items() if k != "shapes"
    }


def test_labelme_parts_stay_together_and_background_and_unsure_are_heeded():
    _, x = np.indices(SIZE)
    pixels = photo()
    stripe = abs(x - 22) < 3
    pixels[stripe] = (40, 90, 60)  # the disc is cut in two
    shapes = [
        *labelme_shapes(truth()[0], "disc", group_id=None),
        {"label": "_background_", "points": [[20, 0], [24, 59]], "shape_type": "rectangle"},
        {"label": "__ignore__", "points": [[0, 0], [9, 59]], "shape_type": "rectangle"},
    ]
    refined = refine_labelme(labelme(shapes=shapes), image=pixels)["shapes"]
    left, right = (s for s in refined if s["label"] == "disc")
    assert left["group_id"] == right["group_id"] == 1
    assert refined[2:] == shapes[1:]
    found = read_labelme(labelme(shapes=[left, right])).label_map({"disc": 1})
    assert iou(found, truth()[0] & ~stripe) > 0.98
    assert refine_labelme(labelme(shapes=shapes), image=pixels, kinds=())["shapes"] == shapes


def test_labelme_errors(folder):
    with pytest.raises(ValueError, match="`kinds`: expected some of polygon"):
        refine_labelme(labelme(), image=photo(), kinds=("star",))
    with pytest.raises(TypeError, match="`ignore`: is no option here"):
        refine_labelme(labelme(), image=photo(), ignore=3)
    with pytest.raises(ValueError, match="give the file, so that"):
        refine_labelme(labelme(), folder / "new.json")
    assert not (folder / "new.json").exists()
