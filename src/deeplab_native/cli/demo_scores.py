"""The demo's input: a photograph that matplotlib ships, and coarse scores drawn by hand.

The photograph is Commodore Grace M. Hopper, taken by the US Navy and in the public domain. The
scores stand in for a network's: DeepLab's come at 1/8 of the resolution and miss what is smaller,
and so do these. No network ran and nothing here was learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import viz

if TYPE_CHECKING:
    import torch

STRIDE = 8
NUM_LABELS = len(viz.VOC_CLASSES)
BACKGROUND, PERSON = 0, viz.VOC_CLASSES.index("person")
CREDIT = "Photo: US Navy, public domain (Commodore Grace M. Hopper)"

# Corners (x, y) on the 1/8 grid, drawn by eye in few strokes: the cap's corners are cut, hair and
# shoulders are off by up to two cells (16 pixels)
_HEAD = [
    (20, 11), (26, 6), (30, 2), (37, 2), (46, 10), (45, 20), (48, 30), (41, 40), (26, 40),
    (20, 34), (21, 21),
]  # fmt: skip
_BODY = [
    (0, 76), (4, 54), (9, 46), (25, 41), (28, 37), (39, 37), (46, 44), (58, 44), (62, 53), (66, 58),
    (66, 76),
]  # fmt: skip
_SCORE = 3.0  # of person or background inside its drawing; outside it is 0
_OTHER_SCORE = -2.0  # of the other 19 labels, everywhere
_SMOOTHING = 3  # passes of a 3x3 mean: a network's score maps have no steps


def photograph() -> np.ndarray:
    """(600, 512, 3) uint8 RGB, from the sample data of the installed matplotlib."""
    from matplotlib.cbook import get_sample_data
    from PIL import Image

    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        return np.array(image.convert("RGB"))


def coarse_scores(height: int, width: int) -> np.ndarray:
    """(21, h, w) float32 scores on the grid whose point (i, j) is the pixel (8i, 8j).

    h and w are the fewest that reach beyond the last pixel, as in DeepLab.
    """
    from PIL import Image, ImageDraw

    h, w = -(-height // STRIDE) + 1, -(-width // STRIDE) + 1
    drawing = Image.new("L", (w, h))
    for corners in (_HEAD, _BODY):
        ImageDraw.Draw(drawing).polygon(corners, fill=1)
    person = np.asarray(drawing, np.float32)
    for _ in range(_SMOOTHING):
        padded = np.pad(person, 1, mode="edge")
        person = sum(padded[i : i + h, j : j + w] for i in range(3) for j in range(3)) / 9
    scores = np.full((NUM_LABELS, h, w), _OTHER_SCORE, np.float32)
    scores[PERSON] = _SCORE * person
    scores[BACKGROUND] = _SCORE * (1 - person)
    return scores


def full_size(scores: np.ndarray, height: int, width: int) -> torch.Tensor:
    """(1, 21, height, width): the scores upsampled x8 with aligned corners, and cut to size."""
    import torch
    from torch.nn import functional

    size = [STRIDE * (n - 1) + 1 for n in scores.shape[1:]]
    large = functional.interpolate(
        torch.from_numpy(scores)[None], size=size, mode="bilinear", align_corners=True
    )
    return large[..., :height, :width].contiguous()
