"""Which axis of an array has the labels, and whether it is of an image at all."""

from __future__ import annotations

import numpy as np

LAYOUTS = ("auto", "chw", "hwc")
MOST_LABELS = 256  # of a palette PNG


def check_layout(layout: str) -> None:
    """Raises ValueError unless it is one of `LAYOUTS`."""
    if layout not in LAYOUTS:
        raise ValueError(f"`layout` {layout} is unknown (use {', '.join(LAYOUTS)})")


def to_chw(
    scores: np.ndarray,
    size: tuple[int, int],
    layout: str = "auto",
    resize: bool = False,
    labels: int | None = None,
) -> np.ndarray:
    """Scores as (L, h, w) of an image of `size`, its height and width; L may be 1, a foreground.

    Taken are (L, h, w) and (h, w, L), (L, h w) and (h w, L) as pydensecrf has them, and (h, w) of a
    foreground. A leading axis of length 1, a batch, is dropped. With layout "auto" the label axis
    is the one left over when the other two match the image's height and width, or else have its
    shape at a lower resolution and are both longer than it. (h, w) is `size`; or smaller with the
    same shape to within one cell, as of a net's score map; or anything with `resize`.

    labels: how many there must be, where that is known.

    Raises ValueError where the size is another, or where both layouts (or neither) fit.
    """
    check_layout(layout)
    while scores.ndim > 3 and scores.shape[0] == 1:
        scores = scores[0]
    if scores.ndim == 2:
        scores = _of_two_axes(scores, size, layout, resize)
        layout = "chw"
    if scores.ndim != 3 or 0 in scores.shape:
        raise ValueError(
            f"scores: expected (labels, height, width) or (height, width, labels), "
            f"got {scores.shape}"
        )
    maps = {"chw": scores.shape[1:], "hwc": scores.shape[:2]}
    exact = [name for name, found in maps.items() if found == size]
    if layout == "auto":
        numbers = {"chw": scores.shape[0], "hwc": scores.shape[2]}
        smaller = [
            name
            for name, found in maps.items()
            if is_smaller(found, size)
            # 21 labels of 28 x 28 have the shape of a photo, too: as 21 x 28 of 28 labels
            and (numbers[name] < min(found) if labels is None else numbers[name] == labels)
        ]
        layout = _only(scores.shape, size, exact or smaller, resize)
    found = maps[layout]
    if found != size and not is_smaller(found, size) and not resize:
        raise ValueError(_no_match(scores.shape, size))
    return np.ascontiguousarray(np.moveaxis(scores, -1, 0) if layout == "hwc" else scores)


def is_smaller(found: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether it is the size of a map of the whole image, at a lower resolution.

    Height and width agree with the image's to within less than one cell of the map, since nets
    round up or down.
    """
    (h, w), (height, width) = found, size
    if not (2 <= h <= height and 2 <= w <= width):
        return False
    return abs(h - w * height / width) < 1 or abs(w - h * width / height) < 1


def _only(shape: tuple[int, ...], size: tuple[int, int], fitting: list[str], resize: bool) -> str:
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ValueError(
            f"scores {shape}: either end could be the labels (give `layout` chw or hwc)"
        )
    if resize:
        raise ValueError(
            f"scores {shape}: no axes match the image's {size}, so the label axis is "
            "unknown (give `layout` chw or hwc)"
        )
    raise ValueError(_no_match(shape, size))


def _no_match(shape: tuple[int, ...], size: tuple[int, int]) -> str:
    return (
        f"scores {shape}: no match for the image's height and width {size} "
        f"({_size_advice(shape, size)})"
    )


def _size_advice(shape: tuple[int, ...], size: tuple[int, int]) -> str:
    if size[::-1] in (shape[1:], shape[:2]):
        return "height and width look swapped: transpose the array or turn the image"
    return (
        "give scores of this image; `resize` scales others to it, and `layout` chw or hwc says "
        "which end has the labels"
    )


def _of_two_axes(
    scores: np.ndarray, size: tuple[int, int], layout: str, resize: bool
) -> np.ndarray:
    """(L, h, w), where L is 1 for the (h, w) of a foreground."""
    points = size[0] * size[1]
    shape = scores.shape
    if shape != size and points in shape and 0 not in shape:
        if shape[1] == points and layout != "hwc":
            return scores.reshape(-1, *size)
        if shape[0] == points and layout != "chw":
            return np.ascontiguousarray(scores.T).reshape(-1, *size)
    if shape == size or is_smaller(shape, size) or (resize and 0 not in shape):
        return scores[None]
    raise ValueError(_no_match(shape, size))


def to_label_map(values: np.ndarray, size: tuple[int, int], resize: bool = False) -> np.ndarray:
    """Integers as (H, W) labels of an image of `size`, with `resize` by the nearest pixel.

    Taken are (H, W), with axes of length 1 at either end, (H W,) in its order, and one-hot
    (L, H, W) or (H, W, L) of 0 and 1. Raises ValueError for others.
    """
    shape = values.shape
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 3 and values.size and 0 <= values.min() <= values.max() <= 1:
        planes = to_chw(values, size, "auto", resize)
        if (planes.sum(0) == 1).all():
            values = planes.argmax(0)
    if values.ndim == 1 and values.size == size[0] * size[1]:
        values = values.reshape(size)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(
            f"integers {values.dtype} of shape {shape} are no labels (height, width) of an image "
            f"of {size} (scale quantised scores back to floating point logits first; give labels "
            "as one integer a pixel)"
        )
    if values.shape != size and not resize:
        swapped = "height and width look swapped: transpose the labels or turn the image"
        other = "give labels of this image; `resize` scales these by the nearest pixel"
        raise ValueError(
            f"labels {values.shape}: no match for the image's height and width {size} "
            f"({swapped if values.shape == size[::-1] else other})"
        )
    labels: np.ndarray = nearest(values, size)
    return labels


def nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) scaled to `size`, each pixel from the one whose area has its centre."""
    if values.shape == size:
        return values
    rows, columns = (
        (2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(size, values.shape, strict=True)
    )
    scaled: np.ndarray = values[rows[:, None], columns]
    return scaled
