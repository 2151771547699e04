"""One image of `evaluate`: from its files to counts of pixels."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import metrics
from .._images import header_notes, image_size, opened
from .._memory import least_bytes_of_crf
from ..data import Entry, Reader, Sample
from ..models import DeepLab, create_model, predict
from ..models.multi_scale import PAPER_SCALES
from ..weights import Metadata, check_file, read_metadata
from ._record import state_of
from ._score_files import SUFFIXES
from .scores import ScoreFormat
from .settings import CRFSettings

SINGLE, MULTI, SCORES = "single scale", "multi-scale", "scores"
AFTER = " + CRF"
ABOUT = "about"  # beside the variants
SMALL = "small: "  # in front of a variant's name: its labels as a picture
SMALL_SIDE = 320  # pixels
# of a net without tiles, at the least: two maps of 64 channels at full size, as VGG's first layer
BYTES_A_PIXEL = 2 * 64 * 4


@dataclass(frozen=True)
class Net:
    """Weights of ours, at the input's own size, at the paper's three scales, or both in turn."""

    weights: Path
    single: bool = True
    multi: bool = False
    device: str = "cpu"

    def scales(self) -> dict[str, tuple[float, ...]]:
        """Of the input, by the name of the variant."""
        return {
            **({SINGLE: (1.0,)} if self.single else {}),
            **({MULTI: PAPER_SCALES} if self.multi else {}),
        }

    def load(self) -> DeepLab:
        """On its device; once in each process."""
        return _load(self.weights, self.device)

    def labels(
        self, sample: Sample, crf: CRFSettings | None, num_classes: int, about: dict[str, Any]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """(variant, labels (H, W)) of each, before and after the CRF; `about` stays as it is."""
        model = self.load()
        for name, scales in self.scales().items():
            model.scales = scales
            # figures of the weights as they are, the same but for rounding on every device
            if crf is None:
                found = predict(model, sample.image, precision="model", graph=True)
            else:
                found = predict(
                    model, sample.image, crf=crf.params, **crf.how(), precision="model", graph=True
                )
            yield name, found.scores.max(0).indices.cpu()
            if crf is not None:
                yield name + AFTER, found.labels.cpu()

    def as_record(self) -> dict[str, Any]:
        """Not the device, which decides nothing but the rounding."""
        return {
            "weights": self.weights,
            "sha256": _sha256(self.weights),
            SINGLE: self.single,
            MULTI: self.multi,
        }


@dataclass(frozen=True)
class ScoreMaps:
    """A folder of NAME.npy, NAME.npz, NAME.pt or NAME.pth."""

    folder: Path
    format: ScoreFormat
    device: str = "cpu"

    def path(self, name: str) -> Path:
        """The scores of an image: the first of the suffixes that is there, or .npy."""
        paths = [self.folder / f"{name}{suffix}" for suffix in SUFFIXES]
        return next((path for path in paths if path.is_file()), paths[0])

    def labels(
        self, sample: Sample, crf: CRFSettings | None, num_classes: int, about: dict[str, Any]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """(variant, labels (H, W)), before and after the CRF; `about` gets the scores' kind."""
        height, width = sample.labels.shape
        scores = self.format.read(self.path(sample.name), (height, width), num_classes)
        about["kind"] = scores.kind
        about["notes"] += [f"scores: {note}" for note in scores.notes]
        unary = scores.energies((height, width))
        yield SCORES, unary[0].argmin(0)
        if crf is not None:
            q = crf.refine(unary.to(self.device), sample.image[None].to(self.device))
            yield SCORES + AFTER, q[0].max(0).indices.cpu()

    def as_record(self) -> dict[str, Any]:
        """What of it decides the counts."""
        return {"scores": self.folder, **self.format.as_record()}


@dataclass(frozen=True)
class Settings:
    """What decides the counts, the same for every image.

    `around` is None for no trimaps, and `widths` is then 0.
    """

    source: Net | ScoreMaps
    crf: CRFSettings | None
    around: str | None
    widths: int

    def variants(self) -> list[str]:
        """The names of what is compared, in order."""
        source = self.source
        names = list(source.scales()) if isinstance(source, Net) else [SCORES]
        return [name + end for name in names for end in (["", AFTER] if self.crf else [""])]

    def as_record(self) -> dict[str, Any]:
        return {
            **self.source.as_record(),
            "crf": None if self.crf is None else self.crf.as_record(),
            "trimap around": self.around,
            "trimap widths": self.widths,
        }


class Job(NamedTuple):
    entry: Entry
    reader: Reader
    settings: Settings
    threads: int

    def __str__(self) -> str:
        return self.entry.name

    def state(self) -> str:
        """Of the files that decide the counts of this image."""
        paths = [self.entry.image, self.entry.labels]
        source = self.settings.source
        if isinstance(source, ScoreMaps):
            paths.append(source.path(self.entry.name))
        return state_of(*paths)

    def need(self) -> int:
        """Bytes of memory that it takes at the least; 0 where the files do not say."""
        try:
            width, height = image_size(self.entry.image)
            points = width * height
        except Exception:  # whatever it is, reading the image will say so
            return 0
        need = least_bytes_of_crf(self.reader.num_classes, points, [2, 5])
        if isinstance(self.settings.source, Net):
            need += BYTES_A_PIXEL * points + self.settings.source.weights.stat().st_size
        return need


def count_image(job: Job) -> dict[str, bytes]:
    """In a worker, of one image.

    `pack`ed trimap counts and a small picture of the labels of every variant, and ABOUT, how the
    files were read.
    """
    torch.set_num_threads(job.threads)
    settings, classes = job.settings, job.reader.num_classes
    sample = job.reader.read(job.entry)
    with opened(job.entry.image) as file:
        notes = [f"photograph: {note}" for note in header_notes(file, exif=job.reader.exif)]
    about: dict[str, Any] = {"notes": notes}
    found = settings.source.labels(sample, settings.crf, classes, about)
    parts: dict[str, bytes] = {}
    for name, predicted in found:
        parts[name] = pack(_count(sample.labels, predicted, classes, settings))
        parts[SMALL + name] = pack_small(small(predicted.numpy()))
    return {**parts, ABOUT: json.dumps(about).encode()}


def _count(
    labels: torch.Tensor, predicted: torch.Tensor, classes: int, settings: Settings
) -> torch.Tensor:
    if settings.around is None:
        return metrics.confusion_matrix(labels, predicted, classes)[None]
    return metrics.trimap_counts(
        labels, predicted, classes, widths=settings.widths, around=settings.around
    )


def pack(counts: torch.Tensor) -> bytes:
    """The places and values that are not 0: of 21 classes and 40 widths, a few kilobytes."""
    flat = counts.numpy().ravel()
    places = np.flatnonzero(flat)
    return zlib.compress(np.stack([places, flat[places]]).astype("<i8").tobytes(), 6)


def unpack(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Raises ValueError for what `pack` did not make of counts of this shape."""
    try:
        places, values = np.frombuffer(zlib.decompress(content), "<i8").reshape(2, -1)
    except zlib.error as error:
        raise ValueError(f"damaged counts: {error}") from None
    flat = np.zeros(int(np.prod(shape)), np.int64)
    if len(places) and not 0 <= places.min() <= places.max() < len(flat):
        raise ValueError("damaged counts: a place outside the classes")
    flat[places] = values
    return flat.reshape(shape)


def small(values: np.ndarray) -> np.ndarray:
    """Every so many rows and columns of (H, W): what a report shows."""
    step = -(-max(values.shape) // SMALL_SIDE)
    return values[::step, ::step]


def pack_small(labels: np.ndarray) -> bytes:
    """(h, w) labels of at most SMALL_SIDE, below 256: one or two kilobytes."""
    shape = np.array(labels.shape, "<u2").tobytes()
    return shape + zlib.compress(np.ascontiguousarray(labels, np.uint8).tobytes(), 6)


def unpack_small(content: bytes) -> np.ndarray:
    """Raises ValueError for what `pack_small` did not make."""
    try:
        height, width = np.frombuffer(content[:4], "<u2").tolist()
        return np.frombuffer(zlib.decompress(content[4:]), np.uint8).reshape(height, width)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"damaged labels: {error}") from None


def check_weights(net: Net, num_classes: int) -> Metadata:
    """What the file says; raises what `create_model` does, ValueError where classes are others."""
    check_file(net.weights)
    if net.weights.suffix != ".safetensors":
        raise ValueError(
            f"`weights` {net.weights}: expected our .safetensors, which say which net they are of "
            "(write them with deeplab_native.weights.save)"
        )
    about = read_metadata(net.weights)
    if about.num_classes != num_classes:
        raise ValueError(
            f"`weights` {net.weights}: a net of {about.num_classes} classes for a data set of "
            f"{num_classes} (give weights that were trained for it)"
        )
    replace(net, device="cpu").load()
    _load.cache_clear()  # the workers have their own
    return about


@lru_cache(maxsize=1)
def _load(path: Path, device: str) -> DeepLab:
    about = read_metadata(path)
    switches: dict[str, Any] = dict(about.options)
    model = create_model(about.model, about.num_classes, weights=path, **switches)
    return model.to(device)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
