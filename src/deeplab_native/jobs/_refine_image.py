"""One image of `refine`: reading, the CRF, writing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import viz
from .._files import atomic_path, nothing_left
from .._images import TURNED, read_picture
from ..ops._large_image import in_bands, label_large_image, marginals_of_large_images
from ._label_map import LabelMap
from .scores import CONFIDENCE, Given, Masks, ScoreFormat, least_bytes
from .settings import CRFSettings


@dataclass(frozen=True)
class Settings:
    """What decides the result, the same for every image; raises ValueError where it cannot be."""

    crf: CRFSettings
    scores: ScoreFormat
    palette: str = "voc"
    confidence: float = CONFIDENCE
    exif: bool = True

    def __post_init__(self) -> None:
        self.masks()

    def masks(self) -> Masks:
        """How label maps are read."""
        return Masks(self.confidence, self.palette, self.exif)

    def as_record(self) -> dict[str, Any]:
        crf = self.crf.as_record()
        return {
            **crf.pop("params"), **crf, **self.scores.as_record(),
            "palette": self.palette, "confidence": self.confidence, "exif": self.exif,
        }  # fmt: skip


class Outputs(NamedTuple):
    """Where the results of one image go; None for what is not wanted."""

    labels: Path
    overlay: Path | None
    probabilities: Path | None

    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path in self if path is not None)


class Loaded(NamedTuple):
    photo: np.ndarray  # (H, W, 3) uint8
    scores: Given
    notes: tuple[str, ...]  # of both


class Refined(NamedTuple):
    # (L, H, W) on the CPU, of the labels of the scores; None where nobody wants it of a large image
    q: torch.Tensor | None
    before: np.ndarray  # labels, (H, W)
    after: np.ndarray
    seconds: float  # of the CRF alone
    scale: float = 1.0  # of the CRF

    @property
    def changed(self) -> int:
        """Pixels whose label the CRF changed."""
        return int(np.count_nonzero(self.before != self.after))


class Job(NamedTuple):
    image: Path
    scores: Path
    outputs: Outputs
    settings: Settings
    device: str
    threads: int

    def need(self) -> int:
        """Bytes of memory that it takes at the least; 0 where the files do not say."""
        return least_bytes(self.image, self.scores, self.settings.crf, self.device)


def refine_image(job: Job) -> dict[str, bytes]:
    """In a worker: one image from files to files; what was done, for the record."""
    torch.set_num_threads(job.threads)
    loaded = load(job.image, job.scores, job.settings)
    wanted = job.outputs.probabilities is not None
    refined = refine(loaded, job.settings, job.device, probabilities=wanted)
    write(job.outputs, loaded, refined, job.settings)
    summary = {
        "pixels": refined.after.size,
        "changed": refined.changed,
        "kind": loaded.scores.kind,
        "notes": loaded.notes,
        "crf_scale": refined.scale,
    }
    return {"summary": json.dumps(summary).encode()}


def load(image: Path, scores: Path, settings: Settings) -> Loaded:
    """Raises ValueError or OSError where a file cannot be used."""
    photo = read_picture(image, exif=settings.exif)
    height, width, _ = photo.pixels.shape
    try:
        given = settings.scores.read_any(scores, (height, width), settings.masks())
    except ValueError as error:
        if TURNED in photo.notes and "no match for the image" in str(error):
            raise ValueError(
                f"{error}; the photograph was turned upright by its EXIF orientation (give "
                "`exif=False` for scores of the picture as it is stored)"
            ) from None
        raise
    notes = [f"photograph: {note}" for note in photo.notes]
    notes += [f"scores: {note}" for note in given.notes]
    return Loaded(photo.pixels, given, tuple(notes))


def refine(
    loaded: Loaded, settings: Settings, device: str = "cpu", *, probabilities: bool = True
) -> Refined:
    """The CRF on scores and a photograph; of a large one without `probabilities` labels alone."""
    (found,) = refine_alike([loaded], settings, device, probabilities=probabilities)
    return found


def alike(loaded: Loaded) -> tuple[int, int, int]:
    """(H, W, L): `refine_alike` takes those together that have the same."""
    height, width, _ = loaded.photo.shape
    return height, width, len(loaded.scores.labels)


def refine_alike(
    loaded: Sequence[Loaded],
    settings: Settings,
    device: str = "cpu",
    *,
    probabilities: bool = True,
) -> list[Refined]:
    """`refine` of several with as many labels and pixels, as one batch: the same bits as alone.

    Large images go one by one. `seconds` are those of the batch, shared equally.
    """
    height, width, _ = loaded[0].photo.shape
    like = torch.empty(0, device=device)
    scale = settings.crf.scale_of(height * width, like)
    if in_bands(scale, height * width, like):
        return [_in_bands(one, settings, scale, probabilities=probabilities) for one in loaded]
    unaries = [one.scores.energies((height, width)) for one in loaded]
    images = [torch.from_numpy(one.photo).permute(2, 0, 1)[None] for one in loaded]
    start = perf_counter()
    unary, image = (many[0] if len(many) == 1 else torch.cat(many) for many in (unaries, images))
    q = settings.crf.refine(unary.to(device), image.to(device)).cpu()
    seconds = (perf_counter() - start) / len(loaded)
    found = []
    for one, energies, own in zip(loaded, unaries, q, strict=True):
        after = one.scores.labels[own.max(0).indices.numpy()]
        found.append(Refined(own, one.scores.before(energies), after, seconds, scale))
    return found


def _in_bands(loaded: Loaded, settings: Settings, scale: float, *, probabilities: bool) -> Refined:
    height, width, _ = loaded.photo.shape
    image = torch.from_numpy(loaded.photo).permute(2, 0, 1)
    start = perf_counter()
    if settings.crf.lattice != "standard":
        raise ValueError(
            f"lattice: expected 'standard' for a picture of {height} x {width} at scale "
            f"{scale}, got {settings.crf.lattice!r} (give scale 1, or less of the picture)"
        )
    how = {**settings.crf.how(), "scale": scale}
    given, scores = loaded.scores, loaded.scores.small((height, width))
    q = None
    if probabilities:
        q = marginals_of_large_images([scores], image[None], settings.crf.params, **how)[0]
    found = label_large_image(scores, image, settings.crf.params, **how)
    labels = given.labels.astype(np.uint8)
    before = labels[found.before.numpy()]
    if isinstance(given, LabelMap):
        before = given.whole((height, width))
    seconds = perf_counter() - start
    return Refined(q, before, labels[found.after.numpy()], seconds, scale)


def write(outputs: Outputs, loaded: Loaded, refined: Refined, settings: Settings) -> None:
    """Each file whole or not at all, and none that is new without the others."""
    with nothing_left((), outputs.paths()) as keep:
        _write(outputs, loaded, refined, settings)
        keep()


def _write(outputs: Outputs, loaded: Loaded, refined: Refined, settings: Settings) -> None:
    colours = viz.named_palette(settings.palette)
    viz.save_label_png(outputs.labels, refined.after, colours)
    if outputs.overlay is not None:
        viz.save_png(outputs.overlay, viz.overlay(loaded.photo, refined.after, colours))
    if outputs.probabilities is not None and refined.q is not None:
        # an open file: to a name that does not end in .npz, as .NPZ, NumPy would append it
        with atomic_path(outputs.probabilities) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, probabilities=_by_label(refined.q, loaded.scores.labels))


def _by_label(q: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """(L, H, W) float32 whose index is the label, up to the largest; 0 of those that are not."""
    found: np.ndarray = q.numpy()
    if len(labels) == labels[-1] + 1:
        return found
    whole = np.zeros((labels[-1] + 1, *found.shape[1:]), found.dtype)
    whole[labels] = found
    return whole
