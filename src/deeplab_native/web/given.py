"""A photograph and what is known of its labels, before the CRF."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from ..jobs.scores import Given

MODES = ("network", "scribbles", "file")


class Photo(NamedTuple):
    """A photograph that a visitor gave.

    Attributes:
        name: of its file, or of the example.
        pixels: (H, W, 3) uint8, the copy that is worked on.
        size: (height, width) of the photograph itself, turned upright.
        notes: on how it was read.
        example: whether it is not the visitor's own.
    """

    name: str
    pixels: np.ndarray
    size: tuple[int, int]
    notes: tuple[str, ...] = ()
    example: bool = False

    @property
    def is_copy(self) -> bool:
        """Whether the visitor has no file of these pixels."""
        return self.example or self.pixels.shape[:2] != self.size


class Labelling(NamedTuple):
    """What is known of the labels of a photograph before the CRF.

    Attributes:
        mode: of `MODES`.
        given: the scores or labels.
        names: by label; labels beyond have their number.
        colours: (256, 3) uint8.
        file: the name of the file of the labels, or of the network's weights; None: the embedded.
    """

    mode: str
    given: Given
    names: tuple[str, ...]
    colours: np.ndarray
    file: str | None = None

    def name(self, label: int) -> str:
        """In words."""
        return self.names[label] if label < len(self.names) else f"label {label}"


LabelsPhoto: TypeAlias = "Callable[[str, np.ndarray], Labelling]"
