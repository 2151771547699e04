"""Labels that a file holds, for the CRF."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from .._masks import UNSURE
from ..crf import unary
from ..ops._small_scores import SmallScores
from ._score_layout import nearest


class LabelMap(NamedTuple):
    """Labels that a file holds.

    Attributes:
        values: (H, W) uint8, 255 where unsure.
        form: in words, as "palette label picture".
        confidence: the probability that a label is right.
        said, notes: as of `Scores`.
    """

    values: np.ndarray
    form: str
    confidence: float
    said: bool = False
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """As of `Scores`."""
        return "labels"

    @property
    def labels(self) -> np.ndarray:
        """(L,) the labels that occur, of which the CRF chooses: no other can win."""
        there = np.unique(self.values)
        found: np.ndarray = there[there != UNSURE].astype(np.int64)
        return found

    @property
    def what(self) -> str:
        """In words, as "binary mask of 0 and 255 (recognised)"."""
        unsure = np.count_nonzero(self.values == UNSURE) / self.values.size
        some = f", {unsure:.2%} of the pixels unsure" if unsure else ""
        how = "as given" if self.said else "recognised"
        return f"{self.form} ({how}), right with probability {self.confidence:g}{some}"

    def energies(self, size: tuple[int, int]) -> torch.Tensor:
        """The unary (1, L, *size) float32, a row for each of `labels`."""
        labels = self.labels
        place = np.full(256, UNSURE, np.uint8)
        place[labels] = np.arange(len(labels))
        index = torch.from_numpy(place[nearest(self.values, size)])
        return unary.energies_from_labels(index, len(labels), self.confidence)[None]

    def before(self, energies: torch.Tensor) -> np.ndarray:
        """(H, W) the labels themselves, 255 where unsure."""
        return self.whole((energies.shape[2], energies.shape[3])).astype(np.int64)

    def whole(self, size: tuple[int, int]) -> np.ndarray:
        """(H, W) uint8, at the size of the image."""
        return nearest(self.values, size)

    def small(self, size: tuple[int, int]) -> SmallScores:
        """As of `Scores`; few labels occur."""
        return SmallScores(-self.energies(size)[0], size, True)
