"""One image of `segment`: reading, the net and the CRF, writing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import viz
from .._files import nothing_left
from .._images import image_size, read_picture, reduced_size
from .._memory import least_bytes_in_bands, least_bytes_of_crf
from ..models import DeepLab, create_model
from ..models._small_scores import small_scores
from ..models.multi_scale import PAPER_SCALES
from ..models.predict import predict
from ..models.tiles import Progress as TileProgress
from ..ops._large_image import in_bands, label_large_image
from ..ops._small_scores import SmallScores
from ..weights import EMBEDDED
from ..weights.building import load_named
from ._evaluate_image import BYTES_A_PIXEL
from ._record import state_of
from ._saved_scores import map_size, save_scores
from .settings import CRFSettings

_LEAST_SHARE = 0.01  # of an image, that a label must cover to be named


@dataclass(frozen=True)
class Net:
    """Which net: its name in the registry, its weights, or both; neither is that of the package.

    Without weights, those of a named net are random, the same every time.
    """

    model: str | None = None
    weights: Path | None = None
    num_classes: int | None = None
    multi_scale: bool = False
    device: str = "cpu"

    @property
    def random(self) -> bool:
        """Whether its labels mean nothing."""
        return self.weights is None and self.model is not None

    @property
    def embedded(self) -> bool:
        """Whether it is the package's own."""
        return self.weights is None and self.model is None

    def load(self) -> DeepLab:
        """Once in each process; raises what `create_model` and `weights.load_model` do."""
        return _load(self)

    def as_record(self) -> dict[str, Any]:
        """What decides its labels: not the device, which is for the rounding."""
        weights = state_of(EMBEDDED if self.embedded else self.weights or Path())
        record = asdict(self)
        del record["device"]
        return {**record, "weights": "random" if self.random else weights}


@lru_cache(maxsize=1)
def _load(net: Net) -> DeepLab:
    if net.random:
        assert net.model is not None
        made = create_model(net.model, net.num_classes or 21, seed=0)
    else:
        made = load_named(net.weights or EMBEDDED, net.model, net.num_classes)
    if net.multi_scale:
        made.scales = PAPER_SCALES
    return made.to(net.device)


@dataclass(frozen=True)
class Settings:
    """How an image is labelled, arguments of `predict`; and the colours, (256, 3) as bytes."""

    crf: CRFSettings | None
    tile: int | None
    overlap: int | None
    longest_side: int | None
    colours: bytes
    exif: bool = True
    full_scores: bool = False

    def palette(self) -> np.ndarray:
        return np.frombuffer(self.colours, np.uint8).reshape(-1, 3)

    def as_record(self) -> dict[str, Any]:
        record = asdict(self)
        # as records of earlier versions, where it is what they did
        for name, value in (("exif", True), ("full_scores", False)):
            if record[name] is value:
                del record[name]
        return {**record, "colours": record["colours"].hex()}


class Outputs(NamedTuple):
    """Where the results of one image go; None for what is not wanted."""

    labels: Path
    overlay: Path | None
    scores: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path in self if path is not None)


class Job(NamedTuple):
    image: Path
    outputs: Outputs
    net: Net
    settings: Settings
    threads: int

    def need(self) -> int:
        """Bytes of memory that it takes at the least; 0 where the file does not say."""
        try:
            width, height = image_size(self.image)
        except Exception:  # whatever it is, reading the image will say so
            return 0
        on_cpu = self.net.device == "cpu"
        size = height, width
        return least_bytes(size, self.net.num_classes or 21, self.settings, on_cpu=on_cpu)


def least_bytes(
    size: tuple[int, int], labels: int, settings: Settings, *, on_cpu: bool = True
) -> int:
    """Of memory, what net and CRF take for an image of this (height, width)."""
    height, width = size
    pixels, crf = height * width, settings.crf
    like = torch.empty(0)
    scale = None if crf is None else crf.scale_of(pixels, like)
    if on_cpu and in_bands(scale, pixels, like):
        need = least_bytes_in_bands(labels, pixels, scale or 0)
    else:
        need = 4 * 2 * labels * pixels  # scores and probabilities
        if crf is not None:
            need += least_bytes_of_crf(labels, pixels, [2, 5])
    if settings.full_scores:
        need += 6 * labels * pixels
    side = settings.tile or settings.longest_side
    seen = min(side, height) * min(side, width) if side else pixels
    return need + BYTES_A_PIXEL * seen


def segment_image(job: Job) -> dict[str, bytes]:
    """In a worker: from file to files; what was found, for the record."""
    return segment_with(job.net.load(), job)


def segment_with(
    network: DeepLab, job: Job, progress: TileProgress | None = None
) -> dict[str, bytes]:
    """Writes the files of one image.

    Returns:
        `summary`, in JSON: height and width in pixels; seconds of the net and the CRF;
        crf_scale, of the CRF, null without one; shares, label to part of the image, of all labels
        in it; notes on how the file was read.
    """
    torch.set_num_threads(job.threads)
    photo, notes = read_picture(job.image, exif=job.settings.exif)
    start = perf_counter()
    wanted = job.outputs.scores is not None
    (found,), scale = label_alike(network, [photo], job.settings, progress, scores=wanted)
    labels, scores = found
    seconds = perf_counter() - start
    colours = job.settings.palette()
    for path in job.outputs.paths():  # one that has failed meanwhile may have taken a folder away
        path.parent.mkdir(parents=True, exist_ok=True)
    with nothing_left((), job.outputs.paths()) as keep:  # all or none
        viz.save_label_png(job.outputs.labels, labels, colours)
        if job.outputs.overlay is not None:
            viz.save_png(job.outputs.overlay, viz.overlay(photo, labels, colours))
        if job.outputs.scores is not None and scores is not None:
            _save_scores(job.outputs.scores, network, scores, labels.shape, job.settings)
        keep()
    counts = viz.count_labels(labels)
    summary = {
        "height": labels.shape[0],
        "width": labels.shape[1],
        "seconds": seconds,
        "crf_scale": scale,
        "shares": {str(i): counts[i] / labels.size for i in np.flatnonzero(counts).tolist()},
        "notes": [f"photograph: {note}" for note in notes],
    }
    return {"summary": json.dumps(summary).encode()}


class Found(NamedTuple):
    """(H, W) integers, and the net's scores where they are wanted."""

    labels: np.ndarray
    scores: SmallScores | None


def label_alike(
    network: DeepLab,
    photos: Sequence[np.ndarray],
    settings: Settings,
    progress: TileProgress | None = None,
    *,
    scores: bool = False,
) -> tuple[list[Found], float | None]:
    """Labels of photographs (H, W, 3) of one size, and the scale of the CRF, if there is one.

    Net and CRF take them as one batch, but large images and tiles one by one. Each has the labels
    that it has alone.
    """
    crf = settings.crf
    weight = next(network.parameters())
    height, width, _ = photos[0].shape
    params = None if crf is None else crf.params
    scale = None if crf is None else crf.scale_of(height * width, weight)
    how = {} if crf is None else {**crf.how(), "scale": scale}
    seen: dict[str, Any] = {
        "tile": settings.tile,
        "overlap": settings.overlap,
        "progress": progress,
        "longest_side": settings.longest_side,
    }
    found = []
    if in_bands(scale, height * width, weight):
        for photo in photos:
            small = small_scores(network, photo, **seen)
            image = torch.from_numpy(photo).permute(2, 0, 1)
            labels = label_large_image(small, image, params, **how).after.numpy()
            found.append(Found(labels, small if scores else None))
        return found, scale
    together = 1 if settings.tile is not None else len(photos)
    for first in range(0, len(photos), together):
        batch = torch.from_numpy(np.stack(photos[first : first + together]))
        prediction = predict(
            network,
            batch.permute(0, 3, 1, 2),
            crf=params,
            **how,
            **seen,
            # photographs of a folder have few sizes
            graph=settings.tile is None,
        )
        of_each = prediction.scores.cpu() if scores else [None] * len(batch)
        for labels, full in zip(prediction.labels.cpu().numpy(), of_each, strict=True):
            own = None if full is None else SmallScores(full, (height, width), aligned=True)
            found.append(Found(labels, own))
    return found, scale


def _save_scores(
    path: Path, network: DeepLab, scores: SmallScores, size: tuple[int, int], settings: Settings
) -> None:
    seen = reduced_size(size, settings.longest_side)
    onto = map_size(size, seen, network.output_stride, network.num_classes)
    save_scores(path, scores, size, size if settings.full_scores else onto)


def colours_of(palette: str | None, network: DeepLab) -> bytes:
    """(256, 3) uint8 of the name, or of the weights, over VOC's."""
    colours = viz.named_palette(palette or "voc")
    if palette is None and network.palette is not None:
        colours[: len(network.palette)] = network.palette
    return colours.tobytes()


def describe(shares: dict[str, float], names: Sequence[str]) -> str:
    """The labels that cover at least 1 % of an image, the largest first."""
    order = sorted(shares, key=lambda i: -shares[i])
    return ", ".join(f"{names[int(i)]} {shares[i]:.0%}" for i in order if shares[i] >= _LEAST_SHARE)
