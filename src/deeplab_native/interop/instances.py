"""Masks of objects, which may overlap: each refined by itself, or all against one another."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from ..crf import refine
from ..crf._arrays import photo, tensor_of
from ._options import check_options

if TYPE_CHECKING:
    from PIL.Image import Image

_Masks = TypeVar("_Masks", np.ndarray, torch.Tensor)
_CONFIDENCE = signature(refine).parameters["confidence"].default
_KINDS = ("auto", "mask", "probabilities", "sigmoid", "logits")


def refine_masks(
    image: np.ndarray | torch.Tensor | Image,
    masks: _Masks,
    *,
    together: bool = False,
    margin: int | None = None,
    **options: Any,
) -> _Masks:
    """Sharpens the masks of the objects in a picture.

    Args:
        image: as of `refine`.
        masks: (N, H, W), one for each object, an array or a tensor: booleans, 0 and another value,
            or floating point, the probability of each object.
        together: False: each mask by itself, and masks may overlap before and after. True: objects
            and background compete for every pixel, and no two masks overlap in the end; where they
            did, it is unsure whose the pixel is. `confidence` is that of each alone: the label that
            is given is as much likelier than every other one. For masks, not for probabilities.
        margin: how many pixels around a mask's box its CRF sees, which is faster for small objects
            in large pictures; None: the whole picture. Twice `sigma_alpha` changes 0.1 % of the
            masks' pixels. Not with `together`.
        **options: of `refine`; `kind` is "mask", "probabilities" (or "sigmoid") or "logits".

    Returns:
        (N, H, W), a new array or tensor on the masks' device: of their dtype and values, of
        probabilities and logits booleans. An empty mask stays so, and any may become so.

    Raises:
        TypeError, ValueError: before anything is computed, naming the argument.

    Example:
        >>> masks = refine_masks(photo, masks)  # of SAM, YOLO, Mask R-CNN
    """
    kind = options.get("kind", "auto")
    if kind not in _KINDS:
        raise ValueError(f"`kind`: expected one of {', '.join(_KINDS)}; got {kind!r}")
    check_options(options)
    if margin is not None and (type(margin) is not int or margin < 0 or together):
        raise ValueError(
            "`margin`: expected a number of pixels from 0 on, or None, as always with `together`; "
            f"got {margin!r}"
        )
    pixels = photo(image, options.pop("image_range", None))
    values, array = tensor_of("masks", masks)
    size = tuple(pixels.shape[1:])
    if values.ndim != 3 or values.shape[1:] != size:
        raise ValueError(
            f"`masks`: expected (N, {size[0]}, {size[1]}) for a picture of {size[0]} x {size[1]}, "
            f"got {tuple(values.shape)} (`refine` takes a single one, (H, W))"
        )
    high = _foreground(values, kind)
    if high is None:
        if together:
            raise ValueError("`masks`: with `together` expected masks, got values between")
        kind = "probabilities" if kind == "auto" else kind
    else:
        values, kind = values != 0, "mask"
    options["kind"] = kind
    if not len(values):
        found = values.bool()
    elif together:
        found = _together(pixels, values, options)
    else:
        found = torch.stack([_one(pixels, mask, margin, options) for mask in values])
    refined: Any = array(found)
    if high is not None and isinstance(masks, torch.Tensor):
        refined = refined.to(masks.dtype) * torch.as_tensor(high).to(masks)
    elif high is not None:
        refined = refined.astype(masks.dtype) * masks.dtype.type(high)
    return refined  # type: ignore[no-any-return]


def boxes_of(masks: Any) -> Any:
    """The boxes around masks (N, H, W): (N, 4) int64 x0, y0, x1, y1 of the outermost pixels.

    As `supervision.mask_to_xyxy`: x1 and y1 are the last pixels inside, and an empty mask has
    zeros. An array or a tensor, as the masks are.
    """
    values, array = tensor_of("masks", masks)
    boxes = torch.zeros(len(values), 4, dtype=torch.int64)
    for i, mask in enumerate(values):
        rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
        if len(rows):
            boxes[i] = torch.stack([columns[0], rows[0], columns[-1], rows[-1]])
    return array(boxes)


def _foreground(values: torch.Tensor, kind: str) -> float | None:
    """The value of the masks' foreground; None where they are probabilities or logits."""
    if kind not in ("auto", "mask"):
        return None
    if values.dtype == torch.bool or not values.numel():
        return 1
    high = values.max()
    if bool(((values == 0) | (values == high)).all()) and (high != 0 or not high.is_nonzero()):
        return float(high) or 1
    if values.is_floating_point() and kind == "auto":
        return None
    raise ValueError(
        f"`masks`: expected 0 and one other value, got {values.dtype} from {float(values.min()):g} "
        f"to {float(high):g} (of probabilities give `kind`)"
    )


def _one(
    pixels: torch.Tensor, mask: torch.Tensor, margin: int | None, options: dict[str, Any]
) -> torch.Tensor:
    """(H, W) bool of one mask."""
    if margin is None:
        whole: torch.Tensor = refine(pixels, mask, **options)
        return whole
    inside = (
        mask if mask.dtype == torch.bool else mask > (0 if options["kind"] == "logits" else 0.5)
    )
    found = torch.zeros_like(inside)
    ((left, top, right, bottom),) = boxes_of(inside[None]).tolist()
    if inside.any():
        height, width = mask.shape
        rows = slice(max(0, top - margin), min(height, bottom + margin + 1))
        columns = slice(max(0, left - margin), min(width, right + margin + 1))
        found[rows, columns] = refine(pixels[:, rows, columns], mask[rows, columns], **options)
    return found


def _together(pixels: torch.Tensor, masks: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """Labels 0, 1, ... of background and objects, unsure where masks overlap."""
    count = masks.sum(0)
    owner = masks.byte().argmax(0).add(1).masked_fill(count == 0, 0).masked_fill(count > 1, -1)
    if not bool((owner >= 0).any()):
        raise ValueError("`masks`: all of them cover everything (refine them one by one)")
    confidence = float(options.get("confidence", _CONFIDENCE))
    # refine counts the labels that occur, and shares what is left among the others of them
    others = max(1, len(owner[owner >= 0].unique()) - 1)
    confidence /= confidence + (1 - confidence) * others
    asked = {"kind": "labels", "ignore": -1, "confidence": confidence}
    labels = refine(pixels, owner, **options | asked)
    return torch.stack([labels == i for i in range(1, len(masks) + 1)])
