"""What is done to images: the functions of `segment` and `refine`, several of a size at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ... import viz
from ..._images import read_picture
from ..._memory import least_bytes_of_crf
from ...models import DeepLab
from .. import _refine_image, _segment_image
from ._samples import Sample, as_file


class Item(NamedTuple):
    """An image that has been read.

    Attributes:
        loaded: what `Work.run` takes.
        alike: those for which it is the same may be one batch.
        need: bytes of memory for each of a batch.
    """

    loaded: Any
    alike: Hashable
    need: int


class Labelled(NamedTuple):
    """(H, W) uint8 labels, and how many pixels the CRF changed, where that is known."""

    labels: np.ndarray
    changed: int | None


class Work(Protocol):
    """What a worker needs to know to label images; it is sent there once."""

    @property
    def refine(self) -> bool:
        """Whether images have scores."""

    def palette(self) -> np.ndarray:
        """(256, 3) uint8."""

    def ready(self, device: str) -> None:
        """Called once in a worker, before all else."""

    def load(self, sample: Sample) -> Item:
        """Raises ValueError or OSError for what cannot be used."""

    def run(self, loaded: Sequence[Any], device: str) -> list[Labelled]:
        """Labels of images that are alike."""


@dataclass
class Segment:
    """Net and CRF on photographs."""

    network: DeepLab
    settings: _segment_image.Settings
    refine: bool = False

    def palette(self) -> np.ndarray:
        return self.settings.palette()

    def ready(self, device: str) -> None:
        self.network = self.network.to(device)

    def load(self, sample: Sample) -> Item:
        with as_file(sample.image) as path:
            photo = read_picture(path, exif=self.settings.exif).pixels
        size = photo.shape[0], photo.shape[1]
        labels = self.network.num_classes
        return Item(photo, size, _segment_image.least_bytes(size, labels, self.settings))

    def run(self, loaded: Sequence[np.ndarray], device: str) -> list[Labelled]:
        found, _ = _segment_image.label_alike(self.network, loaded, self.settings)
        return [Labelled(one.labels.astype(np.uint8), None) for one in found]


@dataclass
class Refine:
    """The CRF on photographs and scores."""

    settings: _refine_image.Settings
    refine: bool = True

    def palette(self) -> np.ndarray:
        return viz.named_palette(self.settings.palette)

    def ready(self, device: str) -> None:
        pass

    def load(self, sample: Sample) -> Item:
        assert sample.scores is not None
        with as_file(sample.image) as image, as_file(sample.scores) as scores:
            loaded = _refine_image.load(image, scores, self.settings)
        height, width, labels = alike = _refine_image.alike(loaded)
        pixels = height * width
        # the scores as read, and as energies, beside what the CRF itself takes
        need = least_bytes_of_crf(labels, pixels, [2, 5]) + 8 * labels * pixels
        return Item(loaded, alike, need)

    def run(self, loaded: Sequence[_refine_image.Loaded], device: str) -> list[Labelled]:
        found = _refine_image.refine_alike(loaded, self.settings, device, probabilities=False)
        return [Labelled(one.after.astype(np.uint8), one.changed) for one in found]
