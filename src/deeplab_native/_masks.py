"""Label maps as people have them: masks, palette and grey label PNGs, coloured ones, arrays.

255 is unsure, as void is in every data set here. What a file turns out to be is said in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ._images import ORIENTATION, header_notes, index_values, opened

if TYPE_CHECKING:
    from PIL.Image import Image

UNSURE = 255
# What PyTorch's and others' losses ignore, where labels are signed
SIGNED_UNSURE = (-1, -100)
# More values than a picture of 182 classes shows, or several that only shades have: no labels
_MOST_DISTINCT, _SHADES, _MOST_SHADES = 64, range(192, 255), 2
_LOSSY = ("JPEG", "MPO")
_SHADES_OR_LABELS = (
    "could be labels, or a mask with soft edges (save labels with a palette; or say it by `kind` "
    "labels, or probabilities for the foreground's share of white)"
)


class Mask(NamedTuple):
    """Labels of an image.

    Attributes:
        labels: (H, W) uint8, 255 where unsure.
        what: in words, as "palette label picture".
        notes: see `Picture`.
    """

    labels: np.ndarray
    what: str
    notes: tuple[str, ...] = ()


class Shades(NamedTuple):
    """A foreground's share, (H, W) float32 in 0..1, of a grey picture."""

    values: np.ndarray
    notes: tuple[str, ...] = ()


def read_mask(
    path: Path,
    colours: Mapping[str, np.ndarray],
    kind: str = "auto",
    *,
    exif: bool = True,
) -> Mask | Shades:
    """The labels in a picture.

    Args:
        path: of any format but lossy ones.
        colours: by the name of a palette, (256, 3) integers, the labels' colours, negative where
            there is none: a coloured picture that has no others is taken as labels of it.
        kind: "auto": black and white alone are background and foreground. "labels": the values
            are the labels, 0 and 255 alone, too. "probabilities" or "sigmoid": of a grey picture,
            also a lossy one, the share of white is the foreground's.
        exif: whether it is turned by its EXIF orientation, as its photograph.

    Raises FileNotFoundError; ValueError where it is no picture, or could mean several things: the
    message says how to choose.
    """
    with opened(path) as file:
        notes = tuple(header_notes(file, exif=exif))
        turn = _orientation(file) if exif else None
        soft = kind in ("probabilities", "sigmoid")
        if file.format in _LOSSY and not soft:
            raise ValueError(
                f"{path}: a mask in a {file.format} file, which changes labels (save it as PNG; or "
                "give `kind` probabilities for the foreground's share of white)"
            )
        if soft:
            values = _share_of_white(file, path)
            return Shades(_turned(values, turn), notes)
        labels, what = _labels(file, path, colours, literal=kind == "labels")
        return Mask(_turned(labels, turn), what, notes)


def may_be_shades(distinct: np.ndarray) -> bool:
    """Whether the values that occur may be those of a mask with soft edges, and not labels."""
    return len(distinct) > _MOST_DISTINCT or np.isin(distinct, _SHADES).sum() > _MOST_SHADES


def labels_of(values: np.ndarray, *, literal: bool = False) -> tuple[np.ndarray, str]:
    """(H, W) uint8 labels and what they are, of integers or booleans of any width.

    literal: whether 0 and 255 alone are label 0 and unsure, not a mask, and shades are labels.

    Raises ValueError where they could mean several things, or do not fit into 8 bits.
    """
    if values.dtype == bool:
        return values.astype(np.uint8), "binary mask"
    distinct = np.unique(values)
    if literal:
        pass
    elif len(distinct) == 1 and distinct[0] in (255, 65535):
        raise ValueError(
            f"all values are {distinct[0]}: a mask without background, or unsure everywhere (say "
            "it by `kind` labels, or write 1 for the foreground)"
        )
    elif len(distinct) == 2 and distinct[0] == 0 and distinct[1] in (255, 65535):
        return (values != 0).astype(np.uint8), f"binary mask of 0 and {distinct[1]}"
    elif may_be_shades(distinct):
        raise ValueError(
            f"{len(distinct)} values from {distinct[0]} to {distinct[-1]} {_SHADES_OR_LABELS}"
        )
    unsure = np.isin(values, SIGNED_UNSURE)
    wrong = distinct[((distinct < 0) & ~np.isin(distinct, SIGNED_UNSURE)) | (distinct > 255)]
    if len(wrong):
        raise ValueError(
            f"labels: expected 0 to 254, and 255, -1 or -100 for unsure, got {wrong[0]} (number "
            "the labels from 0)"
        )
    labels: np.ndarray = np.where(unsure, UNSURE, values).astype(np.uint8)
    binary = set(distinct.tolist()) == {0, 1}
    return labels, "binary mask of 0 and 1" if binary else "label map"


def _labels(
    file: Image, path: Path, colours: Mapping[str, np.ndarray], *, literal: bool
) -> tuple[np.ndarray, str]:
    """As they are stored."""
    mode = file.mode
    try:
        if mode == "1":
            return np.array(file).astype(np.uint8), "binary mask of one bit"
        if mode == "P":
            return _of_palette(file, index_values(file, path), literal=literal)
        if mode == "L" or mode.startswith("I"):
            values = index_values(file, path) if mode == "L" else np.array(file)
            labels, what = labels_of(values, literal=literal)
            return labels, what.replace("label map", "grey label picture")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if mode in ("RGBA", "LA") and np.asarray(file.getchannel("A")).min() < 255:
        raise ValueError(
            f"{path}: transparency in a mask (save the labels alone, without an alpha channel)"
        )
    if mode not in ("RGB", "RGBA", "LA"):
        raise ValueError(f"{path}: a picture of mode {mode} is no mask (save the labels as PNG)")
    return _from_colours(np.array(file.convert("RGB")), path, colours, literal=literal)


def _of_palette(file: Image, values: np.ndarray, *, literal: bool) -> tuple[np.ndarray, str]:
    palette = np.zeros((256, 3), np.uint8)  # black where the file has no colour
    colours = np.array(file.getpalette() or [], np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    there = np.unique(values)
    red, green, blue = palette[there].T
    grey = np.array_equal(red, green) and np.array_equal(red, blue)
    if grey and sorted(red.tolist()) == [0, 255] and not literal:
        # which of them is 0 differs from program to program
        return (values == there[red == 255]).astype(np.uint8), "binary mask of black and white"
    if not (grey and np.array_equal(red, there)):  # VOC's 255 is not white
        return labels_of(values, literal=True)[0], "palette label picture"
    labels, what = labels_of(values, literal=literal)
    return labels, what.replace("label map", "grey label picture")


def _from_colours(
    pixels: np.ndarray, path: Path, colours: Mapping[str, np.ndarray], *, literal: bool
) -> tuple[np.ndarray, str]:
    grey = pixels[..., 0]
    if (pixels == grey[..., None]).all():
        try:
            labels, what = labels_of(grey, literal=literal)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return labels, what.replace("label map", "grey label picture")
    packed = _packed(pixels)
    there = np.unique(packed)
    for name, palette in colours.items():
        codes = _packed(palette)
        if np.isin(there, codes).all():
            order = np.argsort(codes, kind="stable")
            found = order[np.searchsorted(codes, packed, sorter=order)]
            return found.astype(np.uint8), f"picture in the colours of {name}"
    raise ValueError(
        f"{path}: a picture of {len(there)} colours, not all of them of {' or '.join(colours)} "
        "(save the labels as PNG with a palette or in grey, the pixel value being the label; or "
        "give the `palette` whose colours these are)"
    )


def _packed(pixels: np.ndarray) -> np.ndarray:
    """One number for each colour of (..., 3) uint8."""
    return pixels.astype(np.int32) @ np.array([65536, 256, 1], np.int32)


def _share_of_white(file: Image, path: Path) -> np.ndarray:
    """(H, W) float32."""
    values: np.ndarray = np.array(file)
    if file.mode.startswith("I;16"):
        return values.astype(np.float32) / 65535
    if file.mode == "1":
        return values.astype(np.float32)
    if file.mode == "RGB" and (values == values[..., :1]).all():
        values = values[..., 0]
    elif file.mode != "L":
        raise ValueError(
            f"{path}: the share of white in a picture of mode {file.mode} (save it in grey)"
        )
    return values.astype(np.float32) / 255


def _orientation(file: Image) -> int | None:
    value = file.getexif().get(ORIENTATION, 1)
    return value if value in range(2, 9) else None


def _turned(values: np.ndarray, orientation: int | None) -> np.ndarray:
    """An (H, W) array as it is to be seen; the orientations are those of the EXIF standard."""
    if orientation is None:
        return values
    if orientation >= 5:
        values = values.T  # 5: mirrored along the main diagonal
    up, left = {2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[
        orientation
    ]
    return np.ascontiguousarray(values[:: -1 if up else 1, :: -1 if left else 1])
