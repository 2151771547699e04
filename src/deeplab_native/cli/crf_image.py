"""One image of `deeplab-native crf`: reading, the CRF, writing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from .. import dense_crf, viz
from .._files import atomic_path
from ..crf import CRFParams
from ..ops._mean_field_checks import check_iterations, check_normalization, check_scale
from . import inputs, options

_MOST_LABELS = 256  # of a palette PNG


@dataclass(frozen=True)
class Settings:
    """What decides the result, the same for every image; raises ValueError where it cannot be."""

    params: CRFParams
    iterations: int
    normalization: str
    scale: float
    kind: str
    layout: str
    key: str | None
    resize: bool
    palette: str

    def __post_init__(self) -> None:
        check_iterations(self.iterations)
        check_normalization(self.normalization)
        check_scale(self.scale)
        inputs.check_kind(self.kind)
        inputs.check_layout(self.layout)
        viz.named_palette(self.palette)

    def describe(self) -> str:
        how = f"{self.iterations} iterations, {self.normalization}"
        return f"{options.describe(self.params)}, {how}{options.describe_scale(self.scale)}"

    def as_record(self) -> dict[str, Any]:
        record = asdict(self)
        return {**record.pop("params"), **record}


class Outputs(NamedTuple):
    """Where the results of one image go; None for what is not wanted."""

    labels: Path
    overlay: Path | None
    probabilities: Path | None

    def paths(self) -> list[Path]:
        return [path for path in self if path is not None]


class Loaded(NamedTuple):
    photo: np.ndarray  # (H, W, 3) uint8
    scores: np.ndarray  # (L, h, w) float32
    kind: str


class Refined(NamedTuple):
    q: torch.Tensor  # (L, H, W)
    before: np.ndarray  # labels, (H, W)
    after: np.ndarray
    seconds: float  # of the CRF alone


def load(image: Path, scores: Path, settings: Settings) -> Loaded:
    photo = inputs.read_image(image)
    raw = inputs.read_scores(scores, settings.key)
    values = inputs.to_chw(raw, photo.shape[:2], settings.layout, settings.resize)
    kind = inputs.kind_of(values, settings.kind)
    if not 2 <= len(values) <= _MOST_LABELS:
        raise ValueError(
            f"scores with {len(values)} labels (expected 2 to {_MOST_LABELS}; "
            "if that is the height, give --layout)"
        )
    return Loaded(photo, values, kind)


def refine(loaded: Loaded, settings: Settings) -> Refined:
    unary = energies(loaded.scores, loaded.photo.shape[:2], loaded.kind)
    start = perf_counter()
    q = dense_crf(
        unary,
        torch.from_numpy(loaded.photo).permute(2, 0, 1)[None],
        settings.params,
        iterations=settings.iterations,
        normalization=settings.normalization,
        scale=settings.scale,
    )[0]
    seconds = perf_counter() - start
    return Refined(q, unary[0].min(0).indices.numpy(), q.max(0).indices.numpy(), seconds)


def write(outputs: Outputs, loaded: Loaded, refined: Refined, settings: Settings) -> None:
    colours = viz.named_palette(settings.palette)
    viz.save_label_png(outputs.labels, refined.after, colours)
    if outputs.overlay is not None:
        viz.save_png(outputs.overlay, viz.overlay(loaded.photo, refined.after, colours))
    if outputs.probabilities is not None:
        # an open file: to a name that does not end in .npz, as .NPZ, NumPy would append it
        with atomic_path(outputs.probabilities) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, probabilities=refined.q.numpy())


def energies(scores: np.ndarray, size: tuple[int, int], kind: str) -> torch.Tensor:
    """The unary -log P(label) of (L, h, w) scores: (1, L, *size) float32.

    Scaled bilinearly with aligned corners, as DeepLab's Interp layer does. Probabilities are
    clipped at 1e-5 (as pydensecrf's unary_from_softmax does): a zero would be beyond recall.
    """
    values = torch.from_numpy(scores)[None]
    if tuple(values.shape[2:]) != tuple(size):
        values = functional.interpolate(values, size=size, mode="bilinear", align_corners=True)
    if kind == "logits":
        return -values.log_softmax(1)
    return -values.clamp(min=1e-5).log()
