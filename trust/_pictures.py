"""Photographs as they come in life, of many sizes and contents, all made of the package's own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from deeplab_native.demo.photo import photograph

# most photographs of a collection have one of a few sizes; the others come from anywhere between
USUAL = ((96, 128), (128, 96), (120, 160), (112, 112))
LEAST, MOST = 64, 176
LABELS = (2, 3, 7, 21)


class Picture(NamedTuple):
    """A photograph (H, W, 3) uint8, and scores (L, H, W) float32 of labels that it could have."""

    photo: np.ndarray
    scores: np.ndarray


class Pictures:
    """The picture of a number is always the same; shrink: of both sides."""

    def __init__(self, seed: int = 0, shrink: int = 1) -> None:
        self._seed, self._shrink = seed, shrink
        self._whole = Image.fromarray(photograph())

    def photo(self, number: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """(H, W, 3) uint8: a part of the photograph at another scale and brightness, with noise.

        size: height and width; None: one of its own.
        """
        return self._photo(np.random.default_rng([self._seed, number]), size)

    def __getitem__(self, number: int) -> Picture:
        random = np.random.default_rng([self._seed, number])
        photo = self._photo(random)
        labels = int(random.choice(LABELS))
        height, width = photo.shape[:2]
        # a label is what is like the colour of one of the pixels
        seeds = random.integers((height, width), size=(labels, 2))
        colours = photo[seeds[:, 0], seeds[:, 1]].astype(np.float32)
        far = np.abs(photo.astype(np.float32)[None] - colours[:, None, None]).mean(-1)
        noise = random.standard_normal(far.shape, dtype=np.float32)
        return Picture(photo, noise - far / 20)

    def _photo(
        self, random: np.random.Generator, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        if size is not None:
            height, width = size
        elif random.random() < 0.6:
            height, width = USUAL[random.integers(len(USUAL))]
        else:
            height, width = random.integers(LEAST, MOST + 1, 2).tolist()
        if size is None:
            height, width = height // self._shrink, width // self._shrink
        most = min(self._whole.width / width, self._whole.height / height)
        scale = random.uniform(1, most)
        left = random.uniform(0, self._whole.width - scale * width)
        top = random.uniform(0, self._whole.height - scale * height)
        box = (left, top, left + scale * width, top + scale * height)
        part = self._whole.resize((width, height), Image.Resampling.BILINEAR, box)
        values = np.asarray(part, np.float32) * random.uniform(0.6, 1.3)
        values += random.normal(0, random.uniform(0, 12), values.shape)
        return values.clip(0, 255).astype(np.uint8)
