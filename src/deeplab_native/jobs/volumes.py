"""The dense CRF on a volume of CT or MR and a network's scores, from files to a file.

Axes stand in nibabel's order, (X, Y, Z), which SimpleITK and others turn round: scores of NumPy are
(labels, X, Y, Z) or (X, Y, Z, labels), those of a NIfTI file (X, Y, Z, labels). Standard deviations
are in millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

from .._files import atomic_path
from .._masks import UNSURE
from ..crf import CRFParams, unary
from ..ops.dense_crf import dense_crf
from ._nifti import Volume, is_volume, read_volume, write_labels
from ._score_files import read_array
from ._score_layout import MOST_LABELS
from .scores import CONFIDENCE, ScoreFormat
from .settings import CRFSettings

PARAMS = CRFParams(w1=3, sigma_alpha=5, sigma_beta=5, w2=2, sigma_gamma=5)
"""Of volumes, where nothing else is said: those of SimpleCRF's example, in mm. Not validated."""

PERCENTILES = (0.5, 99.5)  # of the voxels, which the window begins and ends at


@dataclass(frozen=True)
class VolumeSettings:
    """What decides the labels; raises ValueError where it cannot be.

    Attributes:
        crf: with sigma_alpha and sigma_gamma in mm, sigma_beta in 255ths of the window; its scale
            "auto" is 1.
        scores: how they are read; `resize` is not for volumes.
        window: the values that become 0 and 255, what lies outside is clipped; None: of each
            channel the 0.5th and 99.5th percentile of the voxels.
        confidence: of labels in place of scores, the probability that one is right.
    """

    crf: CRFSettings
    scores: ScoreFormat
    window: tuple[float, float] | None = None
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        unary.check_confidence(self.confidence)
        if self.scores.resize:
            raise ValueError("`resize` is for pictures (resample scores to the volume's voxels)")
        if self.window is not None:
            low, high = self.window
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise ValueError(
                    f"`window` {low:g} {high:g}: expected two finite values, the lower one first"
                )


class Loaded(NamedTuple):
    """A volume, and what is known of its labels.

    Attributes:
        volume: as in the file.
        image: (1, C, X, Y, Z) float32, 0..255.
        windows: (low, high) of each channel.
        energies: (1, L, X, Y, Z) float32.
        labels: (L,) that rows of the energies belong to.
        before: (X, Y, Z) uint8, labels without a CRF; 255 where unsure.
        kind: of the scores.
    """

    volume: Volume
    image: torch.Tensor
    windows: list[tuple[float, float]]
    energies: torch.Tensor
    labels: np.ndarray
    before: np.ndarray
    kind: str


class Refined(NamedTuple):
    """Labels (X, Y, Z) uint8 before and after, Q (L, X, Y, Z) on the CPU, the CRF's seconds."""

    q: torch.Tensor
    before: np.ndarray
    after: np.ndarray
    seconds: float

    @property
    def changed(self) -> int:
        """Voxels whose label the CRF changed."""
        return int(np.count_nonzero(self.before != self.after))


def load(image: Path, scores: Path, settings: VolumeSettings) -> Loaded:
    """Raises ImportError, ValueError or OSError, naming the file, where it cannot be used."""
    volume = read_volume(image)
    if volume.values.dtype.kind == "f":
        bad = volume.values.size - np.count_nonzero(np.isfinite(volume.values))
        if bad:
            raise ValueError(f"{image}: {bad} voxels are NaN or infinite (mend them)")
    values = volume.values if volume.values.ndim == 4 else volume.values[..., None]
    scaled, windows = [], []
    for c in range(values.shape[3]):
        window = settings.window or _percentiles(image, values[..., c])
        windows.append(window)
        scaled.append(windowed(values[..., c], window))
    size = values.shape[:3]
    given, alone = _read_scores(scores, size, settings.scores)
    try:
        energies, labels, kind = _energies(given, alone, settings)
    except ValueError as error:
        raise ValueError(f"{scores}: {error}") from None
    planes = torch.from_numpy(np.stack(scaled))[None]
    if kind == "labels":
        before = given.astype(np.uint8)
    else:
        before = labels.astype(np.uint8)[energies.min(0).indices.numpy()]
    return Loaded(volume, planes, windows, energies[None], labels, before, kind)


def windowed(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """(X, Y, Z) float32, 0 at the lower and 255 at the upper end of the window and beyond."""
    low, high = window
    share = (values.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.ascontiguousarray(share.clip(0, 255))


def _percentiles(path: Path, values: np.ndarray) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    if not low < high:
        raise ValueError(
            f"{path}: nearly all voxels are {low:g}, which leaves no window (give `window`)"
        )
    return low, high


def _read_scores(path: Path, size: tuple[int, ...], how: ScoreFormat) -> tuple[np.ndarray, bool]:
    """(L, X, Y, Z) scores; or (X, Y, Z), and True, of one label or of labels."""
    if is_volume(path):
        if how.key is not None:
            raise ValueError(f"{path}: `key` is for .npz files, this is one array (leave it out)")
        array, layout = read_volume(path).values, "hwc"
    else:
        found = read_array(path, how.key)
        if found is None:
            raise ValueError(f"{path}: a picture, where scores of a volume are expected")
        array, layout = found, how.layout
        while array.ndim > 4 and array.shape[0] == 1:
            array = array[0]
    shape = array.shape
    if shape == size:
        return array, True
    first, last = shape[1:] == size, shape[:-1] == size
    if layout == "auto" and array.ndim == 4 and first and last:
        raise ValueError(
            f"{path}: scores {shape}: either end could be the labels (give `layout` chw or hwc)"
        )
    if array.ndim != 4 or not {"auto": first or last, "chw": first, "hwc": last}[layout]:
        turned = size[::-1] in (shape, shape[1:], shape[:-1])
        advice = (
            "their axes are reversed, as SimpleITK's arrays are: transpose them"
            if turned
            else "resample them to the volume's voxels"
        )
        expected = "x".join(map(str, size))
        raise ValueError(
            f"{path}: scores {shape}: expected (labels, X, Y, Z) or (X, Y, Z, labels) of the "
            f"volume's {expected} voxels ({advice})"
        )
    labels_last = layout == "hwc" or (layout == "auto" and last)
    return (np.moveaxis(array, -1, 0) if labels_last else array), False


def _energies(
    array: np.ndarray, alone: bool, settings: VolumeSettings
) -> tuple[torch.Tensor, np.ndarray, str]:
    """(L, X, Y, Z), the labels of its rows, and what they were recognised as."""
    said = settings.scores.kind
    whole = array.dtype.kind != "f" or bool((array == np.rint(array)).all() and array.min() >= 0)
    if alone and (said == "labels" or (said == "auto" and whole)):
        if not whole or array.min() < 0 or array.max() > UNSURE:
            raise ValueError(f"labels: expected whole numbers, 0..{UNSURE} ({UNSURE}: unsure)")
        there = np.unique(array).astype(np.int64)
        labels = there[there != UNSURE]
        if not len(labels):
            raise ValueError("labels: all voxels are unsure (label some)")
        place = np.full(256, UNSURE, np.uint8)
        place[labels] = np.arange(len(labels))
        index = torch.from_numpy(place[array.astype(np.uint8)])
        energies = unary.energies_from_labels(index, len(labels), settings.confidence)
        return energies, labels, "labels"
    if said == "labels":
        raise ValueError("`kind` labels: expected labels (X, Y, Z), got scores (leave it out)")
    if array.dtype.kind != "f":
        raise ValueError(
            f"expected floating point scores, got {array.dtype} (scale quantised ones back first)"
        )
    values = torch.from_numpy(np.ascontiguousarray(array, np.float32))
    values = values[None] if alone else values
    number = max(2, len(values))  # one channel is the foreground, of two labels
    if number > MOST_LABELS:
        raise ValueError(f"scores with {number} labels (expected 2 to {MOST_LABELS})")
    found = unary.kind_of(values, said)
    return unary.energies_from(values, found), np.arange(number), found


def refine(loaded: Loaded, settings: VolumeSettings, device: str = "cpu") -> Refined:
    """The CRF, its standard deviations in mm."""
    crf = settings.crf.exact()
    how: dict[str, Any] = {
        "iterations": crf.iterations,
        "normalization": crf.normalization,
        "scale": crf.scale,
        "lattice": crf.lattice,
        "spacing": loaded.volume.spacing,
        "image_range": (0, 255),
    }
    energies, image = loaded.energies.to(device), loaded.image.to(device)
    start = perf_counter()
    q = dense_crf(energies, image, crf.params, **how)[0].cpu()
    seconds = perf_counter() - start
    after = loaded.labels.astype(np.uint8)[q.max(0).indices.numpy()]
    return Refined(q, loaded.before, after, seconds)


def write(output: Path, probabilities: Path | None, loaded: Loaded, refined: Refined) -> None:
    """Labels as NIfTI where the volume lies; Q as `probabilities` (L, X, Y, Z) of a .npz."""
    write_labels(output, refined.after, loaded.volume.image)
    if probabilities is not None:
        with atomic_path(probabilities) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, probabilities=refined.q.numpy())
