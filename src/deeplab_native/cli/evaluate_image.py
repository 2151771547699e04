"""One image of `deeplab-native evaluate`: from its files to counts of pixels."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import dense_crf, metrics
from ..crf import CRFParams
from ..data import Entry, Reader, Sample
from ..models import DeepLab, create_model, predict
from ..models.multi_scale import PAPER_SCALES
from ..ops._mean_field_checks import check_iterations, check_normalization, check_scale
from ..weights import Metadata, check_file, read_metadata
from . import inputs, options
from .crf_image import energies

SINGLE, MULTI, SCORES = "single scale", "multi-scale", "scores"
AFTER = " + CRF"


@dataclass(frozen=True)
class CRF:
    """The CRF and how it is computed; raises ValueError where it cannot be."""

    params: CRFParams
    iterations: int
    normalization: str
    scale: float

    def __post_init__(self) -> None:
        check_iterations(self.iterations)
        check_normalization(self.normalization)
        check_scale(self.scale)

    def describe(self) -> str:
        how = f"{self.iterations} iterations, {self.normalization}"
        return f"{options.describe(self.params)}, {how}{options.describe_scale(self.scale)}"

    def how(self) -> dict[str, Any]:
        """Keywords of `dense_crf` and `predict`."""
        return {
            "iterations": self.iterations,
            "normalization": self.normalization,
            "scale": self.scale,
        }


@dataclass(frozen=True)
class Net:
    """Weights of ours, at the input's own size, at the paper's three scales, or both in turn."""

    weights: Path
    single: bool
    multi: bool
    device: str

    def scales(self) -> dict[str, tuple[float, ...]]:
        return {
            **({SINGLE: (1.0,)} if self.single else {}),
            **({MULTI: PAPER_SCALES} if self.multi else {}),
        }

    def load(self) -> DeepLab:
        return _load(self.weights, self.device)

    def labels(self, sample: Sample, crf: CRF | None) -> Iterator[tuple[str, torch.Tensor]]:
        model = self.load()
        for name, scales in self.scales().items():
            model.scales = scales
            params = None if crf is None else crf.params
            found = predict(model, sample.image, crf=params, **(crf.how() if crf else {}))
            yield name, found.scores.max(0).indices.cpu()
            if crf is not None:
                yield name + AFTER, found.labels.cpu()


@dataclass(frozen=True)
class ScoreMaps:
    """A folder of NAME.npy or NAME.npz; the other attributes are `deeplab-native crf`'s."""

    folder: Path
    kind: str
    layout: str
    key: str | None
    resize: bool

    def __post_init__(self) -> None:
        inputs.check_kind(self.kind)
        inputs.check_layout(self.layout)

    def path(self, name: str) -> Path:
        """The scores of an image; of .npy and .npz the first, and .npy where there are none."""
        paths = [self.folder / f"{name}{suffix}" for suffix in (".npy", ".npz")]
        return next((path for path in paths if path.is_file()), paths[0])

    def labels(
        self, sample: Sample, crf: CRF | None, num_classes: int
    ) -> Iterator[tuple[str, torch.Tensor]]:
        path = self.path(sample.name)
        try:
            raw = inputs.read_scores(path, self.key)
            height, width = sample.labels.shape
            values = inputs.to_chw(raw, (height, width), self.layout, self.resize)
            if len(values) != num_classes:
                raise ValueError(
                    f"scores of {len(values)} labels for {num_classes} classes "
                    "(if that is the height, give --layout)"
                )
            unary = energies(values, (height, width), inputs.kind_of(values, self.kind))
        except ValueError as error:
            text = str(error)
            raise ValueError(text if str(path) in text else f"{path}: {text}") from None
        yield SCORES, unary[0].argmin(0)
        if crf is not None:
            q = dense_crf(unary, sample.image[None], crf.params, **crf.how())
            yield SCORES + AFTER, q[0].max(0).indices


@dataclass(frozen=True)
class Settings:
    """What decides the counts, the same for every image.

    `around` is None for no trimaps, and `widths` is then 0.
    """

    source: Net | ScoreMaps
    crf: CRF | None
    around: str | None
    widths: int

    def variants(self) -> list[str]:
        """The names of what is compared, in order."""
        source = self.source
        names = list(source.scales()) if isinstance(source, Net) else [SCORES]
        return [name + end for name in names for end in (["", AFTER] if self.crf else [""])]

    def as_record(self) -> dict[str, Any]:
        source: dict[str, Any]
        if isinstance(self.source, Net):
            # not the device, which decides nothing but the rounding
            source = {
                "weights": self.source.weights,
                "sha256": _sha256(self.source.weights),
                SINGLE: self.source.single,
                MULTI: self.source.multi,
            }
        else:
            scores = asdict(self.source)
            source = {"scores": scores.pop("folder"), **scores}
        return {
            **source,
            "crf": None if self.crf is None else asdict(self.crf),
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

    def files(self) -> str:
        """Where, how large and how old the files are that decide the counts of this image."""
        paths = [self.entry.image, self.entry.labels]
        source = self.settings.source
        if isinstance(source, ScoreMaps):
            paths.append(source.path(self.entry.name))
        return json.dumps([_state(path) for path in paths])


def _state(path: Path) -> list[str | int]:
    try:
        about = path.stat()
    except OSError:  # gone: reading it will say so
        return [str(path.absolute())]
    return [str(path.absolute()), about.st_size, about.st_mtime_ns]


def count_image(job: Job) -> dict[str, bytes]:
    """In a worker: `pack`ed trimap counts of every variant."""
    torch.set_num_threads(job.threads)
    settings, classes = job.settings, job.reader.num_classes
    sample = job.reader.read(job.entry)
    source = settings.source
    if isinstance(source, Net):
        found = source.labels(sample, settings.crf)
    else:
        found = source.labels(sample, settings.crf, classes)
    return {
        name: pack(_count(sample.labels, predicted, classes, settings)) for name, predicted in found
    }


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


def check_weights(net: Net, num_classes: int) -> Metadata:
    """What the file says; raises what `create_model` does, ValueError where classes are others."""
    check_file(net.weights)
    if net.weights.suffix != ".safetensors":
        raise ValueError(
            f"--weights {net.weights}: expected our .safetensors, which say which net they are of "
            "(write them with deeplab_native.weights.save)"
        )
    about = read_metadata(net.weights)
    if about.num_classes != num_classes:
        raise ValueError(
            f"--weights {net.weights}: a net of {about.num_classes} classes for a data set of "
            f"{num_classes} (give weights that were trained for it)"
        )
    replace(net, device="cpu").load()
    _load.cache_clear()  # the workers have their own
    return about


@lru_cache(maxsize=1)
def _load(path: Path, device: str) -> DeepLab:
    """Once in each worker."""
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
