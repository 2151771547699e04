"""Colours of labels."""

from __future__ import annotations

import numpy as np

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
"""PASCAL VOC's 21, by label."""

# The 19 evaluated classes of Cityscapes in the order of their train ids
_CITYSCAPES = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
    (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
    (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
    (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip

# Okabe and Ito's, told apart with every kind of colour blindness (https://jfly.uni-koeln.de/color/)
_OKABE_ITO = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
    (213, 94, 0), (204, 121, 167),
)  # fmt: skip

PALETTES = ("voc", "cityscapes", "okabe-ito")
"""Names that `named_palette` knows."""


def voc_palette(n: int = 256) -> np.ndarray:
    """The PASCAL VOC colour map: (n, 3) uint8, n at most 256.

    The bits of a label are dealt out to red, green and blue in turn, from the colours' highest bit
    down (VOCdevkit, VOClabelcolormap.m): labels that are close get colours that are far apart.
    """
    if not 1 <= n <= 256:
        raise ValueError(f"n: expected 1 to 256 colours, got {n}")
    labels = np.arange(n)
    colours = np.zeros((n, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((labels >> (3 * bit + channel) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return colours


def named_palette(name: str) -> np.ndarray:
    """(256, 3) uint8 colours of a name, VOC's above those that a set has.

    "voc"; "cityscapes", 19 train ids; "okabe-ito", 8 that every eye tells apart.
    """
    sets = {"voc": (), "cityscapes": _CITYSCAPES, "okabe-ito": _OKABE_ITO}
    if name not in sets:
        raise ValueError(f"unknown palette {name!r} (choose from {', '.join(PALETTES)})")
    colours = voc_palette()
    if sets[name]:
        colours[: len(sets[name])] = sets[name]
    return colours


def check_palette(palette: np.ndarray | None) -> np.ndarray:
    """(n, 3) uint8 colours, VOC's for None; raises ValueError for others."""
    palette = voc_palette() if palette is None else np.asarray(palette)
    if palette.dtype != np.uint8 or palette.ndim != 2 or palette.shape[1:] != (3,):
        raise ValueError(f"palette: expected (n, 3) uint8, got {palette.shape} {palette.dtype}")
    if not 1 <= len(palette) <= 256:
        raise ValueError(f"palette: expected 1 to 256 colours, got {len(palette)}")
    return palette
