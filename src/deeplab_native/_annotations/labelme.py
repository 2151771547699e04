"""LabelMe's JSON files: shapes of a photograph, in and out.

https://github.com/wkentaro/labelme (labelme/_label_file.py, labelme/utils/shape.py of version 5 and
6). LabelMe's coordinates are drawn by Pillow's ImageDraw, for which a pixel is a point.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .._images import picture_of_bytes, read_picture
from .._masks import UNSURE
from .documents import entry, read_document
from .polygons import outlines
from .rle import MOST_PIXELS, check_size, plane, short

BACKGROUND, IGNORED = "_background_", "__ignore__"
"""Names that LabelMe's own converters give label 0 and the unsure one."""
_LINE_WIDTH, _POINT_RADIUS = 10, 5  # pixels, as LabelMe draws lines and points
# How many points each kind has: at least, at most
_POINTS = {
    "polygon": (3, math.inf),
    "rectangle": (2, 2),
    "oriented_rectangle": (4, 4),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (1, math.inf),
    "point": (1, 1),
    "mask": (2, 2),
}
_FAR = 100  # times the picture's longer side


@dataclass(frozen=True)
class Shape:
    """One shape of a LabelMe file.

    Attributes:
        label: its name.
        kind: "polygon", "rectangle", "oriented_rectangle", "circle", "line", "linestrip", "point"
            or "mask".
        points: (N, 2) float64, x and y.
        mask: of kind "mask" (h, w) bool, whose upper left corner is at the first point.
        source: the shape as it is in the file: group, flags and what else is there.
    """

    label: str
    kind: str
    points: np.ndarray = field(repr=False)
    mask: np.ndarray | None = field(repr=False, default=None)
    source: Mapping[str, Any] = field(repr=False, default_factory=dict)


@dataclass(frozen=True)
class LabelMe:
    """A LabelMe file.

    Attributes:
        shapes: in the order in which they are drawn.
        height, width: of the photograph.
        document: the file's JSON.
        path: the file; None where its content was given.
    """

    shapes: tuple[Shape, ...]
    height: int
    width: int
    document: Mapping[str, Any] = field(repr=False)
    path: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that occur, but the background and the unsure one, sorted."""
        return tuple(sorted({shape.label for shape in self.shapes} - {BACKGROUND, IGNORED}))

    def image(self) -> np.ndarray:
        """The photograph, (H, W, 3) uint8: `imageData`, else the file of `imagePath`."""
        pixels = _picture(self.document, self.path)
        if pixels.shape[:2] != (self.height, self.width):
            raise ValueError(
                f"{self.path or 'the document'}: imageHeight x imageWidth {self.height} x "
                f"{self.width}, but the picture has {pixels.shape[0]} x {pixels.shape[1]}"
            )
        return pixels

    def label_map(self, numbers: Mapping[str, int]) -> np.ndarray:
        """(H, W) uint8, each shape over those before it; 0 where there is none.

        Args:
            numbers: the label of each name, 0..255; "_background_" is 0 and "__ignore__" 255 where
                they are not among them.

        Raises:
            ValueError: a name that has no number.
        """
        of = {BACKGROUND: 0, IGNORED: UNSURE} | dict(numbers)
        unknown = sorted({shape.label for shape in self.shapes} - set(of))
        if unknown:
            raise ValueError(
                f"{self.path or 'the document'}: labels that are no classes: {', '.join(unknown)} "
                f"(the classes are {', '.join(numbers)})"
            )
        labels = np.zeros((self.height, self.width), np.uint8)
        for shape in self.shapes:
            labels[shape_mask(shape, (self.height, self.width))] = of[shape.label]
        return labels


def read_labelme(source: object, *, name: str = "document") -> LabelMe:
    """A LabelMe file, or its content as `json.load` gives it.

    Raises:
        TypeError: something else.
        FileNotFoundError, ValueError: the file is not there, or is no LabelMe file; what is wrong
            is named. A picture is only opened where the file does not say its size.
    """
    document, path = read_document(source, name)
    where = str(path or f"`{name}`")
    shapes = tuple(
        _shape(shape, f"{where}: shapes[{i}]")
        for i, shape in enumerate(entry(document, "shapes", list, where))
    )
    if document.get("imageHeight") is None or document.get("imageWidth") is None:
        height, width = _picture(document, path).shape[:2]
    else:
        size = [entry(document, key, int, where) for key in ("imageHeight", "imageWidth")]
        height, width = check_size(size, f"{where} imageHeight, imageWidth")
    for i, shape in enumerate(shapes):
        if np.abs(shape.points).max() > _FAR * max(height, width):
            raise ValueError(
                f"{where}: shapes[{i}]: a point at {np.abs(shape.points).max():g} for a picture of "
                f"{height} x {width} (points are in pixels)"
            )
    return LabelMe(shapes, height, width, document, path)


def shape_mask(shape: Shape, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels that LabelMe draws for a shape.

    Lines are 10 pixels wide and points have a radius of 5, as with LabelMe.
    """
    from PIL import Image, ImageDraw

    height, width = size
    if shape.kind == "mask":
        assert shape.mask is not None
        return _placed(shape.mask, shape.points[0], size)
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    points = [(float(x), float(y)) for x, y in shape.points]
    if shape.kind in ("circle", "point"):
        (x, y), radius = points[0], float(_POINT_RADIUS)
        if shape.kind == "circle":
            radius = math.dist(*points)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif shape.kind == "rectangle":
        draw.rectangle((*shape.points.min(0), *shape.points.max(0)), outline=1, fill=1)
    elif shape.kind in ("line", "linestrip"):
        joint = "curve" if shape.kind == "linestrip" else None
        draw.line(points, fill=1, width=_LINE_WIDTH, joint=joint)
    else:
        draw.polygon(points, outline=1, fill=1)
    drawn: np.ndarray = np.asarray(canvas, bool)
    return drawn


def labelme_shapes(mask: np.ndarray, label: str, /, **entries: Any) -> list[dict[str, Any]]:
    """A mask as LabelMe's polygons, one for each connected part.

    `shape_mask` makes the mask again of them, pixel by pixel, holes included: the polygon's path
    goes to a hole and back along one line.

    Args:
        mask: (H, W) booleans, or 0 and another value.
        label: the shapes' name.
        **entries: in place of LabelMe's defaults: `group_id`, `flags`, `description` and others.
    """
    shapes = []
    for path in outlines(plane("mask", mask), 1 - 1e-3):  # through the points inside
        points = path.tolist()
        points += points[:1] * (3 - len(points))  # as many as LabelMe demands of a polygon
        shape = {"label": label, "points": points, "group_id": None, "description": ""}
        shapes.append(shape | {"shape_type": "polygon", "flags": {}, "mask": None} | entries)
    return shapes


def _shape(source: object, where: str) -> Shape:
    label = entry(source, "label", str, where)
    assert isinstance(source, Mapping)
    kind = source.get("shape_type") or "polygon"  # old versions had nothing else
    if not isinstance(kind, str) or kind not in _POINTS:
        raise ValueError(
            f"{where}: expected one of {', '.join(_POINTS)} as 'shape_type', got {short(kind)}"
        )
    listed = entry(source, "points", list, where)
    try:
        points = np.array(listed, np.float64).reshape(len(listed), 2)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: expected points [[x, y], ...], got {short(listed)}") from None
    if not np.isfinite(points).all():
        raise ValueError(f"{where}: points that are not finite: {short(listed)}")
    least, most = _POINTS[kind]
    if not least <= len(points) <= most:
        wanted = str(least) if least == most else f"{least} or more"
        raise ValueError(f"{where}: a {kind} has {wanted} points, this {len(points)}")
    mask = None
    if kind == "mask":
        mask = _decoded(entry(source, "mask", str, where), f"{where} mask")[..., 0] != 0
    return Shape(label, kind, points, mask, source)


def _placed(mask: np.ndarray, corner: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A part of a picture in its place; what is outside of the picture is cut off."""
    placed = np.zeros(size, bool)
    x, y = (int(n) for n in corner.round())
    rows = slice(max(y, 0), max(0, min(y + mask.shape[0], size[0])))
    columns = slice(max(x, 0), max(0, min(x + mask.shape[1], size[1])))
    inside = mask[max(-y, 0) :, max(-x, 0) :]
    target = placed[rows, columns]
    target[...] = inside[: target.shape[0], : target.shape[1]]
    return placed


def _picture(document: Mapping[str, Any], path: Path | None) -> np.ndarray:
    where = str(path or "the document")
    if document.get("imageData") is not None:
        return _decoded(entry(document, "imageData", str, where), f"{where} imageData")
    named = entry(document, "imagePath", str, where)
    if path is None:
        raise ValueError(f"{where}: no imageData (give the file, so that {named!r} is found by it)")
    file = PurePosixPath(named.replace("\\", "/"))  # as LabelMe on Windows writes it, too
    if file.is_absolute():
        raise ValueError(
            f"{where}: imagePath {named[:80]!r} is absolute (give it relative to the file)"
        )
    try:
        return read_picture(path.parent / file).pixels
    except (OSError, ValueError) as error:
        raise type(error)(f"{where}: imagePath: {error}") from None


def _decoded(text: str, where: str) -> np.ndarray:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{where}: expected a picture in base64, got {short(text)}") from None
    pixels = picture_of_bytes(io.BytesIO(data), where).pixels
    assert pixels.size < 3 * MOST_PIXELS  # Pillow refuses pictures of that size
    return pixels
