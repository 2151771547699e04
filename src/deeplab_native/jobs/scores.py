"""What a network or a person says of an image, as users have it in files: every fault is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.nn import functional

from .. import viz
from .._images import image_size
from .._masks import UNSURE, Mask, labels_of, read_mask
from .._memory import least_bytes_in_bands, least_bytes_of_crf
from ..crf import unary
from ..ops._large_image import in_bands
from ..ops._small_scores import SmallScores
from ._label_map import LabelMap
from ._score_files import read_array
from ._score_layout import MOST_LABELS, check_layout, to_chw, to_label_map
from .settings import CRFSettings

KINDS = (*unary.KINDS, "labels")
CONFIDENCE = 0.7  # as in pydensecrf's example


class Scores(NamedTuple):
    """Scores that a file holds.

    Attributes:
        values: (L, h, w) float32; one channel is the foreground, of two labels.
        kind: of `crf.unary.KINDS`, but "auto".
        said: whether somebody said so; else it was recognised.
        notes: what else should be known of them.
    """

    values: np.ndarray
    kind: str
    said: bool = False
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> np.ndarray:
        """(L,) the label that each row of the energies belongs to."""
        return np.arange(max(2, len(self.values)))

    @property
    def what(self) -> str:
        """In words, as "logits (recognised)"."""
        how = "as given" if self.said else "recognised"
        words = unary.WORDS[self.kind]
        if len(self.values) == 1:
            words = f"{'logits' if self.kind == 'logits' else 'probabilities'} of a foreground"
        return f"{words} ({how})"

    def energies(self, size: tuple[int, int]) -> torch.Tensor:
        """The unary -log P(label), (1, L, *size) float32; `crf.unary` says of which kind what.

        Scaled bilinearly with aligned corners, as DeepLab's Interp layer does; an excluded label
        is then as one of probability 1e-5.
        """
        values = torch.from_numpy(self.values)[None]
        if tuple(values.shape[2:]) != tuple(size):
            values = self._finite()[None]
            values = functional.interpolate(values, size=size, mode="bilinear", align_corners=True)
        return unary.energies_from(values, self.kind, dim=1)

    def small(self, size: tuple[int, int]) -> SmallScores:
        """For a large image, which has no room for its `energies`."""

        def energies(band: torch.Tensor) -> torch.Tensor:
            return unary.energies_from(band[None], self.kind, dim=1)[0]

        plain = self.kind == "logits" and len(self.values) > 1
        return SmallScores(self._finite(), size, True, None if plain else energies)

    def _finite(self) -> torch.Tensor:
        """(L, h, w) as they can be interpolated."""
        values = torch.from_numpy(self.values)
        if self.kind not in ("logits", "energies") or values.isfinite().all():
            return values
        sign = 1 if self.kind == "logits" else -1
        return sign * (sign * values).log_softmax(0).clamp(min=_LEAST_LOG)

    def before(self, energies: torch.Tensor) -> np.ndarray:
        """(H, W) labels of energies (1, L, H, W), without a CRF."""
        found: np.ndarray = energies[0].min(0).indices.numpy()
        return found


Given: TypeAlias = "Scores | LabelMap"
_LEAST_LOG = float(np.log(unary.LEAST_PROBABILITY))


@dataclass(frozen=True)
class ScoreFormat:
    """How score files are read; raises ValueError for what is unknown.

    Attributes:
        kind: of `KINDS`; "auto" recognises it as `crf.unary.kind_of` does, and integers as labels;
            what could mean several things is an error that asks for the kind.
        layout: "chw", "hwc", or "auto": the label axis is the one left over when the other two
            match the image's height and width, or their shape at a lower resolution.
        key: the array of .npz files and of dicts that `torch.save` wrote; None: the only one.
        resize: whether scores of any other size are scaled to the image's, and label maps by the
            nearest pixel. Scores of the image's shape at a lower resolution are in any case.
    """

    kind: str = "auto"
    layout: str = "auto"
    key: str | None = None
    resize: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"`kind` {self.kind} is unknown (use {', '.join(KINDS)})")
        check_layout(self.layout)

    def read(self, path: Path, size: tuple[int, int], labels: int | None = None) -> Scores:
        """Scores of an image of this (height, width); `labels` of them, or 1 to 256.

        Raises ValueError or OSError, naming the file, where it cannot be used, as a label map.
        """
        found = self.read_any(path, size, None, labels)
        if not isinstance(found, Scores):
            raise ValueError(f"{path}: {_A_LABEL_MAP}")
        return found

    def read_any(
        self, path: Path, size: tuple[int, int], masks: Masks | None, labels: int | None = None
    ) -> Given:
        """`read`, where masks and label maps may be, too; None refuses them."""
        try:
            array = read_array(path, self.key)
            if array is None:
                if masks is None:
                    raise ValueError(_A_LABEL_MAP)
                return self._of_picture(path, size, masks)
            if array.dtype.kind != "f" or self.kind == "labels":
                return self._of_integers(array, size, masks)
            values = to_chw(array, size, self.layout, self.resize, labels)
            if masks is not None and self.kind == "auto" and _whole_numbers(values):
                return self._of_integers(array.astype(np.int64), size, masks)
            return self._scores(values, labels)
        except ValueError as error:
            text = str(error)
            raise ValueError(text if str(path) in text else f"{path}: {text}") from None

    def _scores(self, values: np.ndarray, labels: int | None) -> Scores:
        number = len(values) if len(values) > 1 else 2  # a foreground, and the rest
        if labels is not None and number != labels:
            raise ValueError(
                f"scores of {number} labels for {labels} classes "
                "(if that is the height, give `layout`)"
            )
        if not 2 <= number <= MOST_LABELS:
            raise ValueError(
                f"scores with {number} labels (expected 2 to {MOST_LABELS}; "
                "if that is the height, give `layout`)"
            )
        kind = unary.kind_of(torch.from_numpy(values), self.kind)
        notes: tuple[str, ...] = ()
        if len(values) > 1 and kind == "probabilities" and ((values == 0) | (values == 1)).all():
            notes = (ONE_HOT,)
        return Scores(values, kind, self.kind != "auto", notes)

    def _of_integers(self, array: np.ndarray, size: tuple[int, int], masks: Masks | None) -> Given:
        if array.dtype.kind == "f":
            if not np.array_equal(array, np.rint(array)):
                raise ValueError("labels: expected whole numbers (`kind` says what scores are)")
            array = array.astype(np.int64)
        if self.kind not in ("auto", "labels"):
            if self.kind in ("probabilities", "sigmoid") and array.dtype.kind == "u":
                share = array.astype(np.float32) / np.iinfo(array.dtype).max
                return self._scores(to_chw(share, size, self.layout, self.resize), None)
            raise ValueError(
                f"expected floating point {unary.WORDS[self.kind]}, got {array.dtype} (scale "
                "quantised scores back first; integer labels are `kind` labels)"
            )
        values = to_label_map(array, size, self.resize)
        if masks is None:
            raise ValueError(_A_LABEL_MAP)
        return self._mask(Mask(*labels_of(values, literal=self.kind == "labels")), size, masks)

    def _of_picture(self, path: Path, size: tuple[int, int], masks: Masks) -> Given:
        found = read_mask(path, masks.colours(), self.kind, exif=masks.exif)
        if not isinstance(found, Mask):
            values = to_chw(found.values, size, "auto", self.resize)
            return Scores(values, self.kind, True, found.notes)
        if self.kind not in ("auto", "labels"):
            raise ValueError(
                f"a picture has no {unary.WORDS[self.kind]} (give `kind` labels, or probabilities "
                "for the foreground's share of white)"
            )
        labels = to_label_map(found.labels, size, self.resize)
        return self._mask(found._replace(labels=labels), size, masks)

    def _mask(self, mask: Mask, size: tuple[int, int], masks: Masks) -> LabelMap:
        found = LabelMap(mask.labels, mask.what, masks.confidence, self.kind != "auto", mask.notes)
        number = len(found.labels)
        if not number:
            raise ValueError("labels: all pixels are unsure (label some)")
        if number > 1:
            unary.check_confidence(masks.confidence, number)
        return found

    def as_record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


ONE_HOT = (
    "probabilities of 0 and 1 alone, so certain that the CRF hardly changes them (as integer "
    "labels they have a confidence)"
)
_A_LABEL_MAP = "a label map, where scores are expected (give floating point scores, (L, H, W))"


@dataclass(frozen=True)
class Masks:
    """How masks and label maps are read; raises ValueError for what cannot be.

    Attributes:
        confidence: the probability that a label is right.
        palette: whose colours a coloured picture may have.
        exif: whether pictures are turned by their EXIF orientation.
    """

    confidence: float = CONFIDENCE
    palette: str = "voc"
    exif: bool = True

    def __post_init__(self) -> None:
        viz.named_palette(self.palette)
        unary.check_confidence(self.confidence)

    def colours(self) -> Mapping[str, np.ndarray]:
        """By name: those that the set has, and what it draws void in; (256, 3), else -1."""
        voc_void = (224, 224, 192)
        number, void = {
            "voc": (21, voc_void),
            "cityscapes": (19, (0, 0, 0)),
            "okabe-ito": (8, voc_void),
        }[self.palette]
        colours = np.full((256, 3), -1)
        colours[:number] = viz.named_palette(self.palette)[:number]
        colours[UNSURE] = void
        return {self.palette: colours}


def _whole_numbers(values: np.ndarray) -> bool:
    """Whether a single channel has labels, though in floating point."""
    if len(values) != 1 or not np.isfinite(values).all():
        return False
    return bool((values == np.rint(values)).all() and values.min() >= 0)


def least_bytes(
    image: Path, scores: Path, crf: CRFSettings | None = None, device: str = "cpu"
) -> int:
    """Of memory, what a CRF of these files takes at the least; 0 where they do not say."""
    points: int
    labels: int
    try:
        width, height = image_size(image)
        points = width * height
        labels = max(2, scores.stat().st_size // (4 * points))  # as if of uncompressed float32
    except Exception:  # whatever it is, reading the files will say so
        return 0
    like = torch.empty(0)
    scale = 1.0 if crf is None else crf.scale_of(points, like)
    if crf is not None and device == "cpu" and in_bands(scale, points, like):
        return least_bytes_in_bands(labels, points, scale) + scores.stat().st_size
    # the scores as read, and as energies, beside what the CRF itself takes
    return least_bytes_of_crf(labels, points, [2, 5]) + 8 * labels * points
