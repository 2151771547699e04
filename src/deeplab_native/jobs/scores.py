"""Score maps of any network, as users have them in files: every fault is named."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from .._memory import least_bytes_of_crf

SUFFIXES = (".npy", ".npz")
LAYOUTS = ("auto", "chw", "hwc")
KINDS = ("auto", "logits", "probabilities")
# How far from 1 the probabilities of a pixel may sum: float16 files are off by this much
_SUM_TOLERANCE = 1e-3
_MOST_LABELS = 256  # of a palette PNG
_LEAST_PROBABILITY = 1e-5  # as pydensecrf's unary_from_softmax: a zero would be beyond recall


class Scores(NamedTuple):
    """What a file holds: values (L, h, w) float32, "logits" or "probabilities"."""

    values: np.ndarray
    kind: str

    def energies(self, size: tuple[int, int]) -> torch.Tensor:
        """The unary -log P(label), (1, L, *size) float32.

        Scaled bilinearly with aligned corners, as DeepLab's Interp layer does. Probabilities are
        clipped at 1e-5.
        """
        values = torch.from_numpy(self.values)[None]
        if tuple(values.shape[2:]) != tuple(size):
            values = functional.interpolate(values, size=size, mode="bilinear", align_corners=True)
        if self.kind == "logits":
            return -values.log_softmax(1)
        return -values.clamp(min=_LEAST_PROBABILITY).log()


@dataclass(frozen=True)
class ScoreFormat:
    """How score files are read; raises ValueError for what is unknown.

    Attributes:
        kind: "logits", "probabilities", or "auto": probabilities where all values are in 0..1 and
            every pixel sums to 1 within 1e-3.
        layout: "chw", "hwc", or "auto": the label axis is the one left over when the other two
            match the image's height and width.
        key: the array of .npz files; None: the only one.
        resize: whether scores of another size are scaled to the image's.
    """

    kind: str = "auto"
    layout: str = "auto"
    key: str | None = None
    resize: bool = False

    def __post_init__(self) -> None:
        check_kind(self.kind)
        check_layout(self.layout)

    def read(self, path: Path, size: tuple[int, int], labels: int | None = None) -> Scores:
        """Scores of an image of this (height, width); `labels` of them, or 2 to 256.

        Raises ValueError or OSError where the file cannot be used.
        """
        values = to_chw(read_scores(path, self.key), size, self.layout, self.resize)
        if labels is not None and len(values) != labels:
            raise ValueError(
                f"scores of {len(values)} labels for {labels} classes "
                "(if that is the height, give `layout`)"
            )
        if not 2 <= len(values) <= _MOST_LABELS:
            raise ValueError(
                f"scores with {len(values)} labels (expected 2 to {_MOST_LABELS}; "
                "if that is the height, give `layout`)"
            )
        return Scores(values, kind_of(values, self.kind))


def least_bytes(image: Path, scores: Path) -> int:
    """Of memory, what a CRF of these files takes at the least; 0 where they do not say."""
    points: int
    labels: int
    try:
        with Image.open(image) as picture:
            points = picture.width * picture.height
        labels = max(2, scores.stat().st_size // (4 * points))  # as if of uncompressed float32
    except Exception:  # whatever it is, reading the files will say so
        return 0
    # the scores as read, and as energies, beside what the CRF itself takes
    return least_bytes_of_crf(labels, points, [2, 5]) + 8 * labels * points


def read_scores(path: Path, key: str | None = None) -> np.ndarray:
    """The array of a .npy file, or the one named `key` (or the only one) of a .npz, as float32.

    Files with pickled Python objects are refused: reading them can run any code. Raises
    FileNotFoundError; ValueError for other files, keys, dtypes, and for NaN or infinity.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such scores file (check the path)")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder (give one scores file)")
    with path.open("rb") as file:  # opened here: np.load leaves damaged archives open
        scores = _load(path, file, key)
    if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f":
        raise ValueError(
            f"{path}: expected floating point scores, got {getattr(scores, 'dtype', 'raw bytes')} "
            "(scale quantised scores back to logits first)"
        )
    with np.errstate(over="ignore"):  # float64 beyond float32's range is reported below
        scores = scores.astype(np.float32)
    bad = scores.size - np.count_nonzero(np.isfinite(scores))
    if bad:
        raise ValueError(f"{path}: {bad} of {scores.size} scores are NaN or infinite (mend them)")
    return scores


def _load(path: Path, file: BinaryIO, key: str | None) -> Any:
    start = file.read(6)
    file.seek(0)
    if start == b"\x93NUMPY":
        if key is not None:
            raise ValueError(f"{path}: `key` is for .npz files, this is one array (leave it out)")
        return _whole(path, lambda: np.load(file, allow_pickle=False))
    if not start.startswith(b"PK"):
        raise ValueError(f"{path}: not a NumPy file (np.save the scores as .npy or .npz)")
    with _whole(path, lambda: np.load(file, allow_pickle=False)) as arrays:
        names = arrays.files
        if key is not None and key not in names:
            raise ValueError(f"{path}: no array {key!r} (`key` is one of: {', '.join(names)})")
        if key is None and len(names) != 1:
            raise ValueError(f"{path}: {len(names)} arrays (choose by `key`: {', '.join(names)})")
        return _whole(path, lambda: arrays[names[0] if key is None else key])


def _whole(path: Path, read: Callable[[], Any]) -> Any:
    """read(), with NumPy's and zipfile's own errors for bad data in our words."""
    try:
        return read()
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: holds pickled Python objects, which could run any code, and is not "
                "loaded (np.save a plain float array)"
            ) from None
        raise ValueError(f"{path}: damaged or cut off (save it again)") from None


def check_layout(layout: str) -> None:
    """Raises ValueError unless it is one of `LAYOUTS`."""
    if layout not in LAYOUTS:
        raise ValueError(f"`layout` {layout} is unknown (use {', '.join(LAYOUTS)})")


def check_kind(kind: str) -> None:
    """Raises ValueError unless it is one of `KINDS`."""
    if kind not in KINDS:
        raise ValueError(f"`kind` {kind} is unknown (use {', '.join(KINDS)})")


def to_chw(scores: np.ndarray, size: tuple[int, int], layout: str, resize: bool) -> np.ndarray:
    """Scores as (L, h, w), where (h, w) is the image's `size` unless `resize`.

    With layout "auto" the label axis is the one left over when the other two match the image's
    height and width. A leading axis of length 1, a batch, is dropped. Raises ValueError where the
    size is another, or where both layouts (or, with `resize`, neither) fit.
    """
    check_layout(layout)
    if scores.ndim == 4 and scores.shape[0] == 1:
        scores = scores[0]
    if scores.ndim != 3 or 0 in scores.shape:
        raise ValueError(
            f"scores: expected (labels, height, width) or (height, width, labels), "
            f"got {scores.shape}"
        )
    fits = {"chw": scores.shape[1:] == size, "hwc": scores.shape[:2] == size}
    if layout == "auto":
        if all(fits.values()):
            raise ValueError(
                f"scores {scores.shape}: either end could be the labels (give `layout` chw or hwc)"
            )
        if not any(fits.values()) and resize:
            raise ValueError(
                f"scores {scores.shape}: no axes match the image's {size}, so the label axis is "
                "unknown (give `layout` chw or hwc)"
            )
        layout = "hwc" if fits["hwc"] else "chw"
    if not fits[layout] and not resize:
        raise ValueError(
            f"scores {scores.shape}: no match for the image's height and width {size} "
            f"({_size_advice(scores.shape, size)})"
        )
    return np.ascontiguousarray(np.moveaxis(scores, -1, 0) if layout == "hwc" else scores)


def _size_advice(shape: tuple[int, ...], size: tuple[int, int]) -> str:
    if size[::-1] in (shape[1:], shape[:2]):
        return "height and width look swapped: transpose the array or turn the image"
    return "give scores of this image; `resize` scales smaller ones up"


def kind_of(scores: np.ndarray, kind: str) -> str:
    """What the scores (L, h, w) are, "logits" or "probabilities".

    "auto" means probabilities where all values are in 0..1 and every pixel sums to 1 within 1e-3.
    Raises ValueError where the caller says probabilities and they are not.
    """
    check_kind(kind)
    if kind == "logits":
        return kind
    off = float(np.abs(scores.sum(axis=0, dtype=np.float64) - 1).max())
    fits = scores.min() >= 0 and scores.max() <= 1 + _SUM_TOLERANCE and off <= _SUM_TOLERANCE
    if kind == "probabilities" and not fits:
        raise ValueError(
            f"scores from {scores.min():.4g} to {scores.max():.4g} whose sums are up to {off:.4g} "
            "away from 1 are no probabilities (use `kind` logits)"
        )
    return "probabilities" if fits else "logits"
