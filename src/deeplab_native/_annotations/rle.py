"""COCO's run lengths of masks, with plain and with compressed counts.

The runs go down the columns and begin with one of zeros. The compressed form packs differences
into characters of 6 bits; it is what pycocotools writes, and is equal here, character by character.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

MOST_PIXELS = 1 << 28
"""Of a mask: a few bytes of JSON can claim any size."""
_MOST_GROUPS = 7  # of 5 bits: 35, more than any run of `MOST_PIXELS` takes
_FIRST = 48  # the character of a group of zeros


def encode_rle(mask: np.ndarray, *, compressed: bool = True) -> dict[str, Any]:
    """A mask as COCO's run lengths.

    Args:
        mask: (H, W) booleans, or 0 and another value.
        compressed: whether `counts` is a string, as pycocotools makes it, or a list of numbers.

    Returns:
        {"size": [H, W], "counts": str or list}, fit for JSON.

    Raises:
        TypeError, ValueError: it is no array (H, W).
    """
    mask = plane("mask", mask)
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    first = [0] if flat.size and flat[0] else []  # the first run is of zeros, be there any or not
    counts = np.diff(np.concatenate([first, [0], changes, [flat.size]]).astype(np.int64))
    if first:
        counts[0] = 0
    size = [int(n) for n in mask.shape]
    return {"size": size, "counts": _packed(counts) if compressed else counts.tolist()}


def decode_rle(
    rle: Mapping[str, Any], *, size: tuple[int, int] | None = None, name: str = "rle"
) -> np.ndarray:
    """The mask of COCO's run lengths: (H, W) bool.

    Args:
        rle: {"size": [H, W], "counts": ...}; `counts` a list of numbers, or a string or bytes.
        size: (H, W) that it must have; None: any.
        name: of the argument, for errors.

    Raises:
        ValueError: it is of another form, the runs do not add up to H * W, or the size is another.
    """
    height, width = _size(rle, name)
    if size is not None and (height, width) != tuple(size):
        raise ValueError(
            f"`{name}`: a mask of {height} x {width} for a picture of {size[0]} x {size[1]} "
            "(height x width)"
        )
    counts = _counts(rle.get("counts"), name)
    if counts.min(initial=0) < 0 or counts.max(initial=0) > MOST_PIXELS:
        raise ValueError(f"`{name}`: runs from {counts.min()} to {counts.max()} (it is damaged)")
    if counts.sum() != height * width:
        raise ValueError(
            f"`{name}`: runs of {counts.sum()} pixels together for a mask of {height} x {width}, "
            f"which has {height * width} (`size` is [height, width])"
        )
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def plane(name: str, mask: object) -> np.ndarray:
    """(H, W) bool of an array; TypeError or ValueError where it is none."""
    values = np.asarray(mask)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"`{name}`: expected booleans or numbers, got {values.dtype}")
    if values.ndim != 2:
        raise ValueError(f"`{name}`: expected (H, W), got {values.shape}")
    return values if values.dtype == bool else values != 0


def check_size(size: object, where: str) -> tuple[int, int]:
    """(H, W) where `size` is a pair of whole numbers that a mask may have, else ValueError."""
    pair = list(size) if isinstance(size, list | tuple) else []
    if len(pair) != 2 or not all(_is_whole(n) and n > 0 for n in pair):
        raise ValueError(f"{where}: expected a size [height, width], got {short(size)}")
    if pair[0] * pair[1] > MOST_PIXELS:
        raise ValueError(
            f"{where}: {pair[0]} x {pair[1]} are more than {MOST_PIXELS} pixels (is it damaged?)"
        )
    return int(pair[0]), int(pair[1])


def _is_whole(value: object) -> bool:
    """Whether it is an integer; JSON's true is none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def short(value: object, most: int = 60) -> str:
    """A value as Python writes it, cut."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _size(rle: object, name: str) -> tuple[int, int]:
    if not isinstance(rle, Mapping):
        raise ValueError(
            f'`{name}`: expected {{"size": [height, width], "counts": ...}}, got {short(rle)}'
        )
    size = rle.get("size")
    return check_size(size.tolist() if isinstance(size, np.ndarray) else size, f"`{name}` size")


def _counts(counts: object, name: str) -> np.ndarray:
    if isinstance(counts, bytes | str):
        return _unpacked(counts, name)
    if isinstance(counts, np.ndarray):
        counts = counts.tolist()
    if isinstance(counts, list | tuple) and all(map(_is_whole, counts)):
        try:
            return np.array(counts, np.int64)
        except OverflowError:
            raise ValueError(f"`{name}`: runs of more than 2^63 pixels (is it damaged?)") from None
    raise ValueError(
        f"`{name}`: expected `counts` of whole numbers or a string, got {short(counts)}"
    )


def _packed(counts: np.ndarray) -> str:
    """From the third on a run is stored as its difference to the one before the last."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    groups = np.zeros((len(values), _MOST_GROUPS), np.uint8)
    lengths = np.zeros(len(values), np.int64)
    going = np.ones(len(values), bool)
    for i in range(_MOST_GROUPS):
        group = values & 0x1F
        values >>= 5
        # what is left is only the sign, which the upper bit of this group shows
        more = np.where(group & 0x10, values != -1, values != 0) & going
        groups[:, i] = group + np.where(more, 0x20, 0) + _FIRST
        lengths += going
        going = more
    there = np.arange(_MOST_GROUPS) < lengths[:, None]
    return groups[there].tobytes().decode("ascii")


def _unpacked(text: bytes | str, name: str) -> np.ndarray:
    data = text.encode("ascii", "replace") if isinstance(text, str) else text
    groups = np.frombuffer(data, np.uint8).astype(np.int64) - _FIRST
    if not len(groups):
        return groups
    if groups.min() < 0 or groups.max() > 0x3F or groups[-1] & 0x20:
        raise ValueError(f"`{name}`: {short(text)} are no compressed counts (cut off or damaged)")
    last = (groups & 0x20) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    lengths = np.diff(np.append(starts, len(groups)))
    if lengths.max() > _MOST_GROUPS:
        raise ValueError(f"`{name}`: a run of more than {MOST_PIXELS} pixels (is it damaged?)")
    shifts = 5 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    values = np.add.reduceat((groups & 0x1F) << shifts, starts)
    negative = (groups[last] & 0x10) != 0
    values -= np.where(negative, np.int64(1) << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
