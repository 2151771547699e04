"""Strokes of a brush on a photograph, as the page sends them, and the labels that they say."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._masks import UNSURE

MOST_LABELS = 12
ERASER = -1
_MOST_STROKES, _MOST_POINTS, _MOST_NAME, _WIDEST = 2_000, 100_000, 40, 400
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class Label:
    """One that a visitor has named: its colour is (r, g, b), 0..255."""

    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Stroke:
    """A line of a round brush: label (or `ERASER`), its width, and x, y, x, y, ..., in pixels."""

    label: int
    width: float
    points: tuple[float, ...]


@dataclass(frozen=True)
class Scribbles:
    """All that was drawn, in its order; `photo` counts the photographs, None: on any."""

    labels: tuple[Label, ...] = ()
    strokes: tuple[Stroke, ...] = ()
    photo: int | None = None

    @classmethod
    def read(cls, value: Any) -> Scribbles:
        """Of the page's JSON: {"labels": [{"name", "colour"}], "strokes": [{"label", ...}]}.

        Raises ValueError for anything else: it comes from outside.
        """
        try:
            labels, strokes = value.get("labels", []), value.get("strokes", [])
            if not len(labels) <= MOST_LABELS:
                raise ValueError(f"labels: expected at most {MOST_LABELS}, got {len(labels)}")
            if not len(strokes) <= _MOST_STROKES:
                raise ValueError(f"strokes: expected at most {_MOST_STROKES}, got {len(strokes)}")
            if sum(len(stroke["points"]) for stroke in strokes) > 2 * _MOST_POINTS:
                raise ValueError(f"strokes: expected at most {_MOST_POINTS} points")
            read = cls(
                tuple(_label(label, i) for i, label in enumerate(labels)),
                tuple(_stroke(stroke, len(labels)) for stroke in strokes),
                None if value.get("photo") is None else int(value["photo"]),
            )
        except (AttributeError, KeyError, TypeError, OverflowError) as error:
            raise ValueError(
                f"scribbles: not what the page sends: {type(error).__name__}"
            ) from None
        return read

    def draw(self, height: int, width: int) -> np.ndarray:
        """(H, W) uint8: the label of each pixel that was painted last, 255 of the others."""
        from PIL import Image, ImageDraw

        image = Image.new("L", (width, height), UNSURE)
        draw = ImageDraw.Draw(image)
        for stroke in self.strokes:
            value = UNSURE if stroke.label == ERASER else stroke.label
            points = list(zip(stroke.points[::2], stroke.points[1::2], strict=True))
            if len(points) > 1:
                draw.line(points, fill=value, width=max(1, round(stroke.width)), joint="curve")
            radius = stroke.width / 2
            for x, y in (points[0], points[-1]):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value)
        painted: np.ndarray = np.array(image)
        return painted

    def names(self) -> tuple[str, ...]:
        """By label."""
        return tuple(label.name for label in self.labels)

    def palette(self, other: np.ndarray) -> np.ndarray:
        """(256, 3) uint8, those of `other` after the visitor's own."""
        colours: np.ndarray = other.copy()
        for i, label in enumerate(self.labels):
            colours[i] = label.colour
        return colours


def _label(value: Any, place: int) -> Label:
    name, colour = str(value["name"]), str(value["colour"])
    shown = "".join(c if c.isprintable() else " " for c in name).strip()[:_MOST_NAME]
    if not _COLOUR.fullmatch(colour):
        raise ValueError(f"colour of label {place}: expected #rrggbb")
    red, green, blue = bytes.fromhex(colour[1:])
    return Label(shown or f"label {place}", (red, green, blue))


def _stroke(value: Any, labels: int) -> Stroke:
    label, width = value["label"], float(value["width"])
    if not isinstance(value["points"], list):
        raise ValueError("points of a stroke: expected a list")
    points = tuple(float(number) for number in value["points"])
    if type(label) is not int or not (label == ERASER or 0 <= label < labels):
        raise ValueError(f"label of a stroke: expected {ERASER} to {labels - 1}")
    if not 0 < width <= _WIDEST:
        raise ValueError(f"width of a stroke: expected above 0 and at most {_WIDEST}")
    if len(points) < 2 or len(points) % 2 or not all(map(math.isfinite, points)):
        raise ValueError("points of a stroke: expected pairs of finite numbers")
    if max(map(abs, points)) > 1e5:
        raise ValueError("points of a stroke: far outside of the photograph")
    return Stroke(label, width, points)
