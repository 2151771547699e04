"""COCO's JSON of instances: photographs, categories and masks of objects.

https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .documents import entry, read_document
from .polygons import coco_polygons, fill_polygons
from .rle import check_size, decode_rle, encode_rle, short


@dataclass(frozen=True)
class CocoImage:
    """A photograph of a COCO file; `file_name` is relative to its folder of photographs."""

    id: int | str
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class Coco:
    """A COCO file of instances.

    Attributes:
        images: by their id.
        categories: the names, by their id.
        annotations: of each image, by its id, as they are in the file; () where it has none.
        document: the file's JSON.
        path: the file; None where its content was given.
    """

    images: Mapping[int | str, CocoImage] = field(repr=False)
    categories: Mapping[int, str]
    annotations: Mapping[int | str, Sequence[Mapping[str, Any]]] = field(repr=False)
    document: Mapping[str, Any] = field(repr=False)
    path: Path | None = None

    def label_map(self, image_id: int | str, numbers: Mapping[int, int]) -> np.ndarray:
        """(H, W) uint8: of each pixel the smallest object that has it; 0 where there is none.

        Args:
            image_id: of one of `images`.
            numbers: the label of each category's id, 0..255.

        Raises:
            ValueError: a segmentation that is none, or a category without a number.
        """
        image = self.images[image_id]
        size = (image.height, image.width)
        found = []
        for annotation in self.annotations[image_id]:
            where = f"{self.path or 'the document'}: annotation {short(annotation.get('id'))}"
            category = annotation["category_id"]
            if category not in numbers:
                raise ValueError(f"{where}: category {category} is no class ({short(numbers)})")
            mask = segmentation_mask(annotation.get("segmentation"), size, where)
            found.append((int(mask.sum()), mask, numbers[category]))
        labels = np.zeros(size, np.uint8)
        for _, mask, number in sorted(found, key=lambda item: -item[0]):
            labels[mask] = number
        return labels


def read_coco(source: object, *, name: str = "document") -> Coco:
    """A COCO file, or its content as `json.load` gives it.

    Raises:
        TypeError: something else.
        FileNotFoundError, ValueError: the file is not there, or is no COCO file of instances; what
            is wrong is named. Segmentations are looked at when they are drawn.
    """
    document, path = read_document(source, name)
    where = str(path or f"`{name}`")
    images: dict[int | str, CocoImage] = {}
    for i, image in enumerate(entry(document, "images", list, where)):
        at = f"{where}: images[{i}]"
        id_ = entry(image, "id", (int, str), at)
        if id_ in images:
            raise ValueError(f"{at}: id {short(id_)} for the second time")
        size = [entry(image, key, int, at) for key in ("height", "width")]
        images[id_] = CocoImage(id_, entry(image, "file_name", str, at), *check_size(size, at))
    categories: dict[int, str] = {}
    for i, category in enumerate(entry(document, "categories", list, where)):
        at = f"{where}: categories[{i}]"
        number = entry(category, "id", int, at)
        if number in categories:
            raise ValueError(f"{at}: id {number} for the second time")
        categories[number] = entry(category, "name", str, at)
    of: dict[int | str, list[Mapping[str, Any]]] = {id_: [] for id_ in images}
    for i, annotation in enumerate(entry(document, "annotations", list, where)):
        at = f"{where}: annotations[{i}]"
        id_ = entry(annotation, "image_id", (int, str), at)
        if id_ not in images:
            raise ValueError(f"{at}: image_id {short(id_)} is none of the {len(images)} images")
        category_id = entry(annotation, "category_id", int, at)
        if category_id not in categories:
            raise ValueError(f"{at}: category_id {category_id} is none of {short(categories)}")
        of[id_].append(annotation)
    return Coco(images, categories, of, document, path)


def read_results(source: object, *, name: str = "document") -> list[Mapping[str, Any]]:
    """A net's results in COCO's form, [{"image_id": ..., "segmentation": ..., ...}, ...].

    Raises:
        TypeError: something else than a file or a list.
        FileNotFoundError, ValueError: the file is not there, or holds something else.
    """
    listed, path = read_document(source, name, list)
    for i, result in enumerate(listed):
        entry(result, "image_id", (int, str), f"{path or f'`{name}`'}: [{i}]")
    return list(listed)


def segmentation_mask(segmentation: object, size: tuple[int, int], where: str) -> np.ndarray:
    """(H, W) bool of COCO's `segmentation`: polygons, or run lengths of either kind.

    Raises ValueError, which begins with `where`, where it is neither, or of another size.
    """
    try:
        if isinstance(segmentation, Mapping):
            return decode_rle(segmentation, size=size, name="segmentation")
        if isinstance(segmentation, list | tuple) and segmentation:
            return fill_polygons(segmentation, size, name="segmentation")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    raise ValueError(
        f"{where}: expected polygons or run lengths as 'segmentation', got {short(segmentation)}"
    )


def segmentation_like(mask: np.ndarray, segmentation: object) -> Any:
    """A mask (H, W) as COCO's `segmentation`, of the kind that another is of.

    Polygons for polygons, and run lengths with a list, a string or bytes of counts for such.
    """
    if not isinstance(segmentation, Mapping):
        return coco_polygons(mask)
    counts = segmentation.get("counts")
    rle = encode_rle(mask, compressed=isinstance(counts, str | bytes))
    if isinstance(counts, bytes):
        rle["counts"] = rle["counts"].encode()
    return rle
