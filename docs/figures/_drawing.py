"""What the figures have in common: their numbers, which the file keeps, the scene, the style."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin

from deeplab_native import viz
from deeplab_native.demo.photo import photograph
from deeplab_native.models import DeepLab, predict
from deeplab_native.weights import EMBEDDED, EMBEDDED_SIDE, load_model

BLUE, RED, GREEN, GREY = "#2a6fbb", "#c8442f", "#2f8f5b", "#9aa0a6"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "svg.hashsalt": "deeplab_native",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_KEY = "Description"
_DPI = 110


@dataclass(frozen=True)
class Drawing:
    """A figure that was computed, and is drawn where it is wanted.

    numbers: what the figure shows, as JSON has it; kept in the file. said: what the page that shows
    it must say, word by word.
    """

    draw: Callable[[], Figure]
    numbers: dict[str, Any]
    said: tuple[str, ...] = field(default=())

    def kept(self) -> dict[str, Any]:
        """What the file keeps, as it is read again."""
        return json.loads(json.dumps({"numbers": self.numbers, "said": self.said}))


def save(drawing: Drawing, path: Path) -> None:
    """Writes an SVG, or a PNG of 256 colours, with the numbers in its metadata."""
    numbers = json.dumps(drawing.kept())
    with rc_context(STYLE):
        figure = drawing.draw()
        if path.suffix == ".svg":
            figure.savefig(path, metadata={_KEY: numbers, "Date": None, "Creator": None})
            return
        pixels = io.BytesIO()
        figure.savefig(pixels, format="png", dpi=_DPI)
    told = PngImagePlugin.PngInfo()
    told.add_text(_KEY, numbers)
    picture = Image.open(pixels).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(path, pnginfo=told, optimize=True)


def kept(path: Path) -> dict[str, Any]:
    """`Drawing.kept` of a file that `save` wrote."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return json.loads(picture.info[_KEY])
    found = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(), re.S)
    assert found is not None, path
    return json.loads(html.unescape(found[1]))


def percent(share: float, digits: int = 0) -> str:
    """As the pages write it."""
    return f"{100 * share:.{digits}f} %"


@cache
def network() -> DeepLab:
    """The small network that comes with the package."""
    return load_model(EMBEDDED)


@dataclass(frozen=True)
class Scene:
    """The package's photograph at a quarter of its pixels, and what the network says of it."""

    photo: np.ndarray  # (300, 256, 3) uint8
    image: torch.Tensor  # (1, 3, 300, 256) uint8
    unary: torch.Tensor  # (1, 7, 300, 256) energies
    person: int


@cache
def scene() -> Scene:
    """Photograph: Commodore Grace M. Hopper, by the US Navy, in the public domain."""
    photo = np.array(Image.fromarray(photograph()).resize((256, 300), Image.Resampling.LANCZOS))
    net = network()
    scores = predict(net, photo, longest_side=EMBEDDED_SIDE).scores[None]
    image = torch.from_numpy(photo).permute(2, 0, 1)[None].contiguous()
    person = (net.class_names or ()).index("person")
    return Scene(photo, image, -scores.log_softmax(1), person)


def row_of_pictures(pictures: dict[str, np.ndarray], width: float = 9, **how: Any) -> Figure:
    """Pictures of one size beside each other, with their titles."""
    height, wide = next(iter(pictures.values())).shape[:2]
    tall = width / len(pictures) * height / wide + 0.35
    figure = Figure(figsize=(width, tall), layout="constrained")
    for axes, (title, picture) in zip(
        figure.subplots(1, len(pictures), squeeze=False)[0], pictures.items(), strict=True
    ):
        axes.imshow(picture, **({} if picture.ndim == 3 else how))
        axes.set_title(title)
        axes.set_axis_off()
    return figure


def cut_out(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The photograph where the mask is, the rest nearly white; its boundary in red."""
    out = np.where(mask[..., None], photo, 255 - (255 - photo) // 6).astype(np.uint8)
    out[viz.boundaries(mask.astype(np.uint8))] = (200, 68, 47)
    return out
