"""A folder of photographs and labels in each layout that `find_data` knows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from deeplab_native import viz

WIDTH, HEIGHT = 40, 30
NAMES = ("a", "b", "c", "d", "é 1")


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """(30, 40, 3) uint8 and labels: 1 and 2 are rectangles, the rest is 0."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[5:15, 4 + number : 20 + number] = 1
    labels[18:28, 10:30] = 2
    photo = np.array([(20, 30, 40), (200, 60, 60), (60, 60, 200)], np.uint8)[labels]
    return photo, labels


def write_photos(root: Path, images: str = "images") -> Path:
    (root / images).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(NAMES):
        Image.fromarray(scene(i)[0]).save(root / images / f"{name}.jpg", quality=95)
    return root


def write_indices(root: Path, values: tuple[int, ...] = (0, 1, 2), labels: str = "labels") -> Path:
    """Label PNGs of these values for classes 0, 1 and 2."""
    write_photos(root)
    (root / labels).mkdir()
    for i, name in enumerate(NAMES):
        viz.save_label_png(root / labels / f"{name}.png", np.array(values, np.uint8)[scene(i)[1]])
    return root


def write_colours(root: Path, colours: list[tuple[int, int, int]], mode: str = "RGB") -> Path:
    write_photos(root)
    (root / "labels").mkdir()
    for i, name in enumerate(NAMES):
        pixels = np.array(colours, np.uint8)[scene(i)[1]]
        Image.fromarray(pixels).convert(mode).save(root / f"labels/{name}.png")
    return root


def _corners(label: int, number: int) -> list[list[float]]:
    """Upper left and lower right."""
    rows, columns = np.nonzero(scene(number)[1] == label)
    return [
        [float(columns.min()), float(rows.min())],
        [float(columns.max()), float(rows.max())],
    ]


def write_labelme(root: Path, images: str = "") -> Path:
    """LabelMe's rectangles beside the photographs, a name for each label."""
    write_photos(root, images)
    for i, name in enumerate(NAMES):
        shapes = [
            {"label": what, "points": _corners(label, i), "shape_type": "rectangle"}
            for label, what in ((1, "box"), (2, "animal"))
        ]
        document = {
            "version": "5.4.1", "shapes": shapes, "imagePath": f"{name}.jpg", "imageData": None,
            "imageHeight": HEIGHT, "imageWidth": WIDTH,
        }  # fmt: skip
        (root / images / f"{name}.json").write_text(json.dumps(document))
    return root


def write_coco(root: Path, images: str = "images", file: str = "instances.json") -> Path:
    """Polygons of two categories, 3 and 7, and a category that no object has."""
    write_photos(root, images)
    photos, annotations = [], []
    for i, name in enumerate(NAMES):
        size = {"height": HEIGHT, "width": WIDTH}
        photos.append({"id": 10 + i, "file_name": f"{images}/{name}.jpg", **size})
        for category, label in ((3, 1), (7, 2)):
            (left, top), (right, bottom) = _corners(label, i)
            right, bottom = right + 1, bottom + 1
            polygon = [left, top, right, top, right, bottom, left, bottom]
            annotations.append(
                {"id": len(annotations), "image_id": 10 + i, "category_id": category,
                 "segmentation": [polygon], "iscrowd": 0}
            )  # fmt: skip
    categories = [
        {"id": 0, "name": "things"},
        {"id": 3, "name": "box"},
        {"id": 7, "name": "animal"},
    ]
    document = {"images": photos, "annotations": annotations, "categories": categories}
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text(json.dumps(document))
    return root
