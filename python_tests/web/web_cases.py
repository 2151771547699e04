"""Photographs, files and a network for the tests of the page; nothing here needs Gradio."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image

from deeplab_native import viz
from deeplab_native.jobs.scores import Scores
from deeplab_native.web.given import Labelling
from deeplab_native.web.limits import Limits
from deeplab_native.web.view import Asked
from deeplab_native.web.workspace import Workspace

HEIGHT, WIDTH = 40, 60
LIMITS = Limits(upload=1 << 20, pixels=1_000_000, worked_on=10_000, values=100_000)
VALUES = (4.0, 20.0, 13.0, 3.0, 3.0)
# two strokes, left and right, as the page sends them
DRAWN = {
    "labels": [
        {"name": "left", "colour": "#0000ff"},
        {"name": "right", "colour": "#ff0000"},
    ],
    "strokes": [
        {"label": 0, "width": 4.0, "points": [8.0, 5.0, 8.0, 35.0]},
        {"label": 1, "width": 4.0, "points": [52.0, 5.0, 50.0, 35.0]},
    ],
}


def photo(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A dark left and a light right part."""
    pixels = np.random.default_rng(0).integers(0, 40, (height, width, 3), dtype=np.uint8)
    pixels[:, width // 2 :] += 180
    return pixels


def photo_file(folder, name="photo.png", **size) -> object:
    path = folder / name
    Image.fromarray(photo(**size)).save(path)
    return path


def scores(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(3, H, W) logits of a network that is unsure where the right part begins."""
    values = np.random.default_rng(1).normal(size=(3, height, width)).astype(np.float32)
    values[0, :, : width // 2] += 1.5
    values[1, :, width // 2 :] += 1.5
    return values


class Net:
    """Counts how often it is run."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, name: str, pixels: np.ndarray) -> Labelling:
        self.calls.append(name)
        if name == "none":
            raise ValueError("network 'none': expected one of a, b")
        given = Scores(scores(*pixels.shape[:2]), "logits", said=True)
        return Labelling("network", given, ("left", "right"), viz.voc_palette(), None)


def workspace(limits: Limits = LIMITS) -> Workspace:
    return Workspace(limits, Net())


def asked(mode: str = "network", **changes) -> Asked:
    usual = Asked(mode, "a", DRAWN if mode == "scribbles" else None, 0.9, VALUES, 5)
    return usual._replace(**changes)


def empty_png(width: int, height: int, bits: int = 1) -> bytes:
    """A whole PNG of one colour, made without its pixels in memory: some kB for any size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    packer = zlib.compressobj(9)
    row = bytes(1 + (width * bits + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
