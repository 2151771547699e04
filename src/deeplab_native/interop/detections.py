"""Detections of `supervision`, and the results of Ultralytics' nets."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import torch

from .instances import boxes_of, refine_masks


def refine_detections(
    detections: Any,
    image: Any = None,
    *,
    together: bool = False,
    margin: int | None = None,
    **options: Any,
) -> Any:
    """Sharpens the masks of detections, and draws their boxes anew.

    Args:
        detections: `supervision.Detections` with masks, or the results of an Ultralytics net that
            segments, with masks of the picture's size (`model(..., retina_masks=True)`).
        image: as of `refine`; None for such results, which have their picture (`orig_img`, BGR).
        together, margin, **options: as of `refine_masks`.

    Returns:
        New detections, as many, with the masks and boxes refined. The box of a mask that is empty
        stays as it was; classes, confidences, names and all else are the same objects.

    Raises:
        TypeError: something else; ValueError: it has no masks, or of another size.

    Example:
        >>> detections = refine_detections(detections, photo)
        >>> result = refine_detections(model("photo.jpg", retina_masks=True)[0])
    """
    options |= {"together": together, "margin": margin}
    if all(hasattr(detections, name) for name in ("xyxy", "mask", "class_id")):
        return _supervision(detections, image, options)
    if all(hasattr(detections, name) for name in ("orig_img", "masks", "boxes")):
        return _ultralytics(detections, image, options)
    raise TypeError(
        "`detections`: expected supervision.Detections or Ultralytics' Results, got "
        f"{type(detections).__name__} (`refine_masks` takes masks (N, H, W))"
    )


def _supervision(detections: Any, image: Any, options: dict[str, Any]) -> Any:
    if detections.mask is None:
        raise ValueError("`detections`: have no masks, only boxes (of a net that segments)")
    if image is None:
        raise ValueError("`image`: expected the picture that the detections are of, got None")
    # a compact mask, too, is an array to NumPy
    masks = refine_masks(image, np.asarray(detections.mask), **options)
    return dataclasses.replace(
        detections, mask=masks, xyxy=_boxes(masks, np.asarray(detections.xyxy))
    )


def _ultralytics(result: Any, image: Any, options: dict[str, Any]) -> Any:
    if result.masks is None or result.boxes is None:
        raise ValueError("`detections`: have no masks (of a net that segments)")
    original = np.asarray(result.orig_img)
    masks = result.masks.data
    if tuple(masks.shape[1:]) != original.shape[:2]:
        raise ValueError(
            f"`detections`: masks of {tuple(masks.shape[1:])} for a picture of "
            f"{original.shape[:2]} (call the model with retina_masks=True)"
        )
    # OpenCV's order of channels
    picture = np.ascontiguousarray(original[..., ::-1]) if image is None else image
    refined = refine_masks(picture, masks, **options)
    boxes = result.boxes.data
    # x0, y0, x1, y1 and what is known of each object; x1 and y1 here are one behind the last pixel
    drawn = _boxes(refined, boxes[:, :4], behind=1)
    new = copy.copy(result)
    new.masks = type(result.masks)(refined, result.masks.orig_shape)
    whole = torch.cat if isinstance(boxes, torch.Tensor) else np.concatenate
    new.boxes = type(result.boxes)(whole([drawn, boxes[:, 4:]], 1), result.boxes.orig_shape)
    return new


def _boxes(masks: Any, before: Any, behind: int = 0) -> Any:
    """(N, 4) in the dtype of `before`, whose boxes those of empty masks keep."""
    drawn, array = boxes_of(masks), isinstance(before, np.ndarray)
    drawn[:, 2:] += behind
    kept = ~masks.any(2).any(1) if array else ~masks.bool().any(2).any(1)
    drawn = np.asarray(drawn).astype(before.dtype) if array else drawn.to(before)
    drawn[kept] = before[kept]
    return drawn
