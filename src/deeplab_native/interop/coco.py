"""COCO's annotations and results, refined."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._annotations import (
    decode_rle,
    read_coco,
    read_results,
    segmentation_like,
    segmentation_mask,
    write_document,
)
from .._annotations.coco import CocoImage
from .._files import below, check_output
from .._images import read_image
from ..crf import refine
from ._options import check_options
from .instances import boxes_of, refine_masks

if TYPE_CHECKING:
    from PIL.Image import Image


def refine_rle(
    image: np.ndarray | Image | Any, rle: Mapping[str, Any], **options: Any
) -> dict[str, Any]:
    """Sharpens the mask of COCO's run lengths.

    Args:
        image: as of `refine`.
        rle: {"size": [H, W], "counts": ...} with a list, a string or bytes of counts.
        **options: of `refine`.

    Returns:
        Run lengths with counts of the same kind.

    Raises:
        TypeError, ValueError: before anything is computed, naming the argument.
    """
    check_options(options, without=("kind",))
    refined: dict[str, Any] = segmentation_like(refine(image, decode_rle(rle), **options), rle)
    return refined


def refine_coco(
    document: str | os.PathLike[str] | Mapping[str, Any] | list[Mapping[str, Any]],
    photos: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    images: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    together: bool = False,
    margin: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> Any:
    """Sharpens the masks of a COCO file, or of a net's results in COCO's form.

    Polygons become polygons and run lengths run lengths; `bbox` and `area` are computed anew where
    they are there. What has no segmentation, crowds (`iscrowd`), and objects of which the CRF
    leaves nothing stay as they are.

    Args:
        document: {"images": ..., "annotations": ..., "categories": ...}, or the list of results
            that pycocotools' `loadRes` takes; a JSON file, or what was read of one.
        photos: the folder in which each image's `file_name` lies.
        output: the JSON file to write, whole or not at all; None: none.
        images: of a list of results, the COCO file that has their images.
        together, margin, **options: as of `refine_masks`; the objects of a photograph together.
        progress: called after each photograph with how many are done, how many there are, and its
            `file_name`.

    Returns:
        The new document: an object or a list.

    Raises:
        TypeError, ValueError, OSError: naming the argument, the file, the annotation or the
            photograph; no file is written.

    Example:
        >>> refine_coco("instances.json", "photos", "refined.json", margin=150)
    """
    check_options(options, without=("kind",))
    if output is not None:
        check_output(output)
    folder = Path(photos)
    if not folder.is_dir():
        raise NotADirectoryError(f"`photos`: {photos} is no folder (give that of the photographs)")
    whole, entries, known = _read(document, images)
    new = list(entries)
    of: dict[int | str, list[int]] = {}
    for i, annotation in enumerate(entries):
        if annotation.get("segmentation") and not annotation.get("iscrowd"):
            of.setdefault(annotation["image_id"], []).append(i)
    files = {id_: below(folder, known[id_].file_name, "`document`: file_name") for id_ in of}
    missing = [known[id_].file_name for id_, file in files.items() if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"`photos`: {len(missing)} photographs are not in {folder}, first {missing[0]}"
        )
    options |= {"together": together, "margin": margin}
    for done, (id_, places) in enumerate(of.items(), 1):
        image = known[id_]
        size = (image.height, image.width)
        masks = np.stack([_mask(entries[i], size, i) for i in places])
        for i, mask in zip(
            places, refine_masks(_photo(folder, image), masks, **options), strict=True
        ):
            if mask.any():
                new[i] = _refined(entries[i], mask)
        if progress is not None:
            progress(done, len(of), image.file_name)
    result: Any = new if whole is None else {**whole, "annotations": new}
    if output is not None:
        write_document(output, result)
    return result


def _read(
    document: Any, images: Any
) -> tuple[Mapping[str, Any] | None, Sequence[Mapping[str, Any]], Mapping[int | str, CocoImage]]:
    """The COCO file, None of results; what is in it; the images."""
    if images is None:
        coco = read_coco(document)
        return coco.document, coco.document["annotations"], coco.images
    known = read_coco(images, name="images").images
    results = read_results(document)
    for i, result in enumerate(results):
        if result["image_id"] not in known:
            raise ValueError(
                f"`document`: [{i}]: image_id {result['image_id']!r} is none of `images`"
            )
    return None, results, known


def _mask(annotation: Mapping[str, Any], size: tuple[int, int], place: int) -> np.ndarray:
    where = f"`document`: annotation {annotation.get('id', f'[{place}]')}"
    return segmentation_mask(annotation["segmentation"], size, where)


def _photo(folder: Path, image: CocoImage) -> np.ndarray:
    """Upright, as annotation programs show it; as it is stored where only that has the size."""
    size = (image.height, image.width)
    for exif in (True, False):
        pixels = read_image(folder / image.file_name, exif=exif)
        if pixels.shape[:2] == size:
            return pixels
    raise ValueError(
        f"{folder / image.file_name}: {pixels.shape[0]} x {pixels.shape[1]} pixels, but the "
        f"document says {image.height} x {image.width} (height x width)"
    )


def _refined(annotation: Mapping[str, Any], mask: np.ndarray) -> dict[str, Any]:
    new = {**annotation, "segmentation": segmentation_like(mask, annotation["segmentation"])}
    if "bbox" in annotation:
        ((left, top, right, bottom),) = boxes_of(mask[None]).tolist()
        new["bbox"] = [left, top, right - left + 1, bottom - top + 1]
    if "area" in annotation:
        new["area"] = int(mask.sum())
    return new
