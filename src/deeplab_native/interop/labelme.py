"""LabelMe's files, refined."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._annotations import (
    LabelMe,
    Shape,
    labelme_shapes,
    read_labelme,
    shape_mask,
    write_document,
)
from .._annotations.labelme import BACKGROUND, IGNORED
from .._files import check_output
from .._images import fromarray
from ..crf import refine
from ._options import check_options
from .instances import boxes_of

if TYPE_CHECKING:
    from PIL.Image import Image

_AREAS = ("polygon", "rectangle", "oriented_rectangle", "circle", "mask")


def refine_labelme(
    document: str | os.PathLike[str] | Mapping[str, Any] | LabelMe,
    output: str | os.PathLike[str] | None = None,
    *,
    image: np.ndarray | Image | Any = None,
    kinds: Collection[str] = ("polygon", "circle", "mask"),
    **options: Any,
) -> dict[str, Any]:
    """Sharpens the shapes of a LabelMe file.

    All shapes and the background compete for every pixel: no two overlap in the end, and of those
    that did the later had the pixels. Polygons and circles become polygons, one for each connected
    part, with their label, flags and description; parts of one that had no group get one. Masks
    become masks.

    Args:
        document: a LabelMe file, or what was read of one.
        output: the JSON file to write, whole or not at all; None: none.
        image: as of `refine`; None: `imageData`, else the file that `imagePath` names.
        kinds: which shapes are areas with an outline to sharpen, of "polygon", "rectangle",
            "oriented_rectangle", "circle" and "mask". Rectangles are boxes more often than not.
            All other shapes, and those that the CRF leaves nothing of, stay as they are.
        **options: of `refine`, but `kind` and `ignore`; pixels of "__ignore__" are unsure.

    Returns:
        The new document.

    Raises:
        TypeError, ValueError, OSError: naming the argument, the file or the shape; no file is
            written.

    Example:
        >>> refine_labelme("photo.json", "refined.json")
    """
    check_options(options, without=("kind", "ignore"))
    if isinstance(kinds, str) or not set(kinds) <= set(_AREAS):
        raise ValueError(f"`kinds`: expected some of {', '.join(_AREAS)}; got {kinds!r}")
    if output is not None:
        check_output(output)
    file = document if isinstance(document, LabelMe) else read_labelme(document)
    chosen = [s.kind in kinds and s.label not in (BACKGROUND, IGNORED) for s in file.shapes]
    new: list[Mapping[str, Any]] = [shape.source for shape in file.shapes]
    if any(chosen):
        # the label of a shape is its place from 1 on
        labels = _drawn(file, chosen)
        picture = file.image() if image is None else image
        labels = refine(picture, labels, kind="labels", ignore=-1, **options)
        new, group = [], _free_group(file)
        for i, (shape, is_chosen) in enumerate(zip(file.shapes, chosen, strict=True), 1):
            mask = labels == i
            parts = _refined(shape, mask) if is_chosen and mask.any() else [shape.source]
            if len(parts) > 1 and shape.source.get("group_id") is None:
                parts = [{**part, "group_id": group} for part in parts]
                group += 1
            new += parts
    result = {**file.document, "shapes": new}
    if output is not None:
        write_document(output, result)
    return result


def _drawn(file: LabelMe, chosen: Sequence[bool]) -> np.ndarray:
    """(H, W) int64, later shapes above; -1 where unsure."""
    labels = np.zeros((file.height, file.width), np.int64)
    for i, (shape, is_chosen) in enumerate(zip(file.shapes, chosen, strict=True), 1):
        number = i if is_chosen else {BACKGROUND: 0, IGNORED: -1}.get(shape.label)
        if number is not None:
            labels[shape_mask(shape, labels.shape)] = number
    return labels


def _refined(shape: Shape, mask: np.ndarray) -> list[Mapping[str, Any]]:
    source = dict(shape.source)
    if shape.kind != "mask":
        own = {k: v for k, v in source.items() if k not in ("label", "points", "shape_type")}
        return [*labelme_shapes(mask, shape.label, **own)]
    ((left, top, right, bottom),) = boxes_of(mask[None]).tolist()
    file = io.BytesIO()
    fromarray(mask[top : bottom + 1, left : right + 1].astype(np.uint8)).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return [source | {"points": [[left, top], [right, bottom]], "mask": text}]


def _free_group(file: LabelMe) -> int:
    """From it on no number is a group's."""
    taken = [group for shape in file.shapes if type(group := shape.source.get("group_id")) is int]
    return max(taken, default=0) + 1
