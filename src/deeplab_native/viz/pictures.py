"""Label maps as pixels: label PNGs, overlays, outlines."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from io import BytesIO

import numpy as np

from .._files import atomic_path
from .palettes import check_palette

_LARGE = 3 << 21  # bytes of a picture above which zlib's default takes seconds
_ROWS_BYTES = 1 << 20  # of a picture that are worked on at once


def save_png(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Writes (H, W, 3) or (H, W) uint8 pixels as a PNG, whole or not at all."""
    from PIL import Image

    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"pixels: expected (H, W, 3) or (H, W) uint8, got {pixels.shape} {pixels.dtype}"
        )
    # zlib's runs alone: a file of the same size, of photographs, in a fifth of the time
    how = {"compress_level": 1, "compress_type": zlib.Z_RLE} if pixels.size > _LARGE else {}
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", **how)


def save_label_png(
    path: str | os.PathLike[str], labels: np.ndarray, palette: np.ndarray | None = None
) -> None:
    """Writes (H, W) integer labels 0..255 as a palette PNG, whole or not at all.

    The pixel values of the file are the labels themselves; `palette` (n, 3) uint8 only colours
    them (VOC's colours when None). Raises ValueError for labels outside 0..255, which a palette
    cannot hold.
    """
    content = label_png(labels, palette)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def label_png(labels: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """The bytes of the file that `save_label_png` writes; raises what it does."""
    from PIL import Image

    image = Image.fromarray(_check_labels(labels, 256).astype(np.uint8))
    image.putpalette(check_palette(palette).tobytes())  # turns the image into mode "P"
    content = BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    palette: np.ndarray | None = None,
    alpha: float = 0.5,
    *,
    void: int | None = None,
) -> np.ndarray:
    """The photograph with the labels' colours over it: (H, W, 3) uint8.

    image (H, W, 3) uint8; labels (H, W) integers below the number of colours. Label 0, the
    background, keeps the photograph's own colours; a light line runs along every change of label.
    `alpha` is the share of the label's colour, 0..1. Pixels of the label `void`, which may be
    beyond the colours, are white.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected 0 to 1, got {alpha}")
    palette = check_palette(palette)
    unknown = None if void is None else np.asarray(labels) == void
    if unknown is not None:
        labels = np.where(unknown, 0, labels)
    labels = _check_labels(labels, len(palette))
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels: expected the image's size {image.shape[:2]}, got {labels.shape}")
    share = np.float32(alpha)
    pixels: np.ndarray = image.copy()
    for rows in _parts(labels):
        inside = labels[rows] != 0
        mixed = image[rows][inside] * (1 - share) + palette[labels[rows][inside]] * share
        pixels[rows][inside] = np.rint(mixed)
    pixels[boundaries(labels)] = 255
    if unknown is not None:
        pixels[unknown] = 255
    return pixels


def count_labels(labels: np.ndarray) -> np.ndarray:
    """How often every label from 0 to the largest occurs in (H, W) integers."""
    most = int(labels.max()) + 1 if labels.size else 0
    counts = np.zeros(most, np.int64)
    for rows in _parts(labels):
        counts += np.bincount(labels[rows].ravel(), minlength=most)
    return counts


def _parts(labels: np.ndarray) -> Iterator[slice]:
    """Rows that are worked on together: what is made of them is small."""
    height, width = labels.shape
    rows = max(1, _ROWS_BYTES // max(1, width))
    return (slice(first, first + rows) for first in range(0, height, rows))


def boundaries(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose left or upper neighbour has another label."""
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return edge


def _check_labels(labels: np.ndarray, number: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels: expected (H, W) integers, got {labels.shape} {labels.dtype}")
    if labels.size and not 0 <= labels.min() <= labels.max() < number:
        raise ValueError(
            f"labels: expected 0 to {number - 1}, got {labels.min()} to {labels.max()}"
        )
    return labels
