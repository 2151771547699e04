"""Energies from labels and probabilities, features from grids and images.

The values are those of pydensecrf.utils, bit by bit; docs/migrating_from_pydensecrf.md says where
these functions accept more, or refuse what went wrong silently. Lists are taken as arrays.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from numbers import Number, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._image_range import LARGEST_ORDINARY, warn_of_values
from ._checks import LARGEST_INT, Floats, array_like, integer, sigmas

__all__ = [
    "compute_unary",
    "create_pairwise_bilateral",
    "create_pairwise_gaussian",
    "softmax_to_unary",
    "unary_from_labels",
    "unary_from_softmax",
]


def unary_from_labels(
    labels: ArrayLike, n_labels: int, gt_prob: float, zero_unsure: bool = True
) -> Floats:
    """Energies of an annotation that is right with probability `gt_prob`.

    Args:
        labels: integers of any shape, N in all. With zero_unsure, 0 is "unknown" and labels are
            1..n_labels; without, they are 0..n_labels - 1.
        n_labels: the number of labels L, without "unknown".
        gt_prob: between 0 and 1, both excluded; the other labels share what is left.
        zero_unsure: whether 0 means that every label is as likely.

    Returns:
        (L, N) float32: -log of each label's probability.

    Raises:
        AssertionError: gt_prob is not within (0, 1).
        TypeError: it is no number.
        IndexError: a label is outside its range, or labels are no integers.
    """
    if not 0 < _real("gt_prob", gt_prob) < 1:
        raise AssertionError(f"gt_prob: expected between 0 and 1, got {gt_prob!r}")
    n_labels = integer("n_labels", n_labels, least=1)
    flat = array_like("labels", labels).ravel()
    if flat.dtype.kind not in "iub":
        raise IndexError(f"labels: expected integers, got {flat.dtype}")
    largest = n_labels if zero_unsure else n_labels - 1
    if flat.size and not 0 <= int(flat.min()) <= int(flat.max()) <= largest:
        wrong = flat.min() if flat.min() < 0 else flat.max()
        raise IndexError(
            f"labels: expected 0..{largest} for {n_labels} labels and zero_unsure={zero_unsure}, "
            f"got {int(wrong)}"
        )
    # intp, because 0 - 1 of an unsigned label would be another label
    flat = flat.astype(np.intp, copy=False)
    others = max(1, n_labels - 1)
    U = np.full((n_labels, flat.size), -np.log((1.0 - gt_prob) / others), np.float32)
    U[flat - 1 if zero_unsure else flat, np.arange(flat.size)] = -np.log(gt_prob)
    if zero_unsure:
        U[:, flat == 0] = -np.log(1.0 / n_labels)
    return U


def _real(name: str, value: object) -> float:
    """Raises TypeError where it is no real number."""
    if not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    return float(value)


def compute_unary(labels: ArrayLike, M: int, GT_PROB: float = 0.5) -> Floats:
    """Deprecated by pydensecrf, a DeprecationWarning: `unary_from_labels(labels, M, GT_PROB)`."""
    _deprecated("compute_unary", "unary_from_labels")
    return unary_from_labels(labels, M, GT_PROB)


def _deprecated(name: str, successor: str) -> None:
    warnings.warn(f"{name} is deprecated: use {successor}", DeprecationWarning, stacklevel=3)


def unary_from_softmax(
    sm: ArrayLike, scale: float | None = None, clip: float | None = 1e-5
) -> Floats:
    """Energies -log p of a network's probabilities.

    Args:
        sm: probabilities (L, ...), N points in all.
        scale: within (0, 1]: the network's share, scale * sm + (1 - scale) / L.
        clip: probabilities below it are taken for it; None clips nothing, and a probability of 0
            becomes the energy inf.

    Returns:
        (L, N) float32.

    Raises:
        AssertionError: scale is not within (0, 1].
        TypeError: sm, scale or clip are no real numbers.
        ValueError: sm is a single number, or of no label.
    """
    p = array_like("sm", sm)
    if p.dtype.kind not in "fiub":
        raise TypeError(f"sm: expected probabilities, got {p.dtype}")
    if p.ndim == 0:
        raise ValueError("sm: expected probabilities (L, ...), got a single number")
    labels = p.shape[0]
    if labels == 0:
        raise ValueError(f"sm: expected at least one label, got shape {p.shape}")
    if clip is not None:
        _real("clip", clip)
    if scale is not None:
        if not 0 < _real("scale", scale) <= 1:
            raise AssertionError(f"scale: expected within (0, 1], got {scale!r}")
        # the uniform part is float64, and so is the sum
        p = np.add(scale * p, (1 - scale) * (1.0 / labels), dtype=np.float64)
    if clip is not None:
        p = np.clip(p, clip, 1.0)
    u: NDArray[Any] = -np.log(p)
    return u.reshape(labels, -1).astype(np.float32, order="C", copy=False)


def softmax_to_unary(sm: ArrayLike, GT_PROB: float = 1) -> Floats:
    """Deprecated by pydensecrf, too: `unary_from_softmax(sm, GT_PROB, clip=None)`."""
    _deprecated("softmax_to_unary", "unary_from_softmax")
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> Floats:
    """Positions of a grid's points over their standard deviations, for `addPairwiseEnergy`.

    Args:
        sdims: one positive number for each dimension of the grid.
        shape: of the grid, N points in all.

    Returns:
        (len(shape), N) float32 in the order of `shape`: (y, x) for an image, where
        `addPairwiseGaussian` has (x, y), which is another lattice.

    Raises:
        TypeError: sdims is no sequence of numbers.
        ValueError: it has another length than shape, or numbers that are not positive.
    """
    if not isinstance(shape, Iterable):
        raise TypeError(f"shape: expected the sizes of a grid, got {shape!r}")
    sizes = [integer("shape", size, least=0) for size in shape]
    _check_sdims(sdims, len(sizes))
    return _grid(sdims, sizes, 0)


def create_pairwise_bilateral(
    sdims: Sequence[float],
    schan: float | Sequence[float],
    img: ArrayLike,
    chdim: int = -1,
) -> Floats:
    """Positions and colours of an image's points over their standard deviations.

    Args:
        sdims: one positive number for each dimension of the image but that of the channels.
        schan: one positive number for each channel, or a single one for all.
        img: numbers, N points in all, in the units of schan.
        chdim: which dimension has the channels; -1 says that there is none, and one channel.

    Returns:
        (dimensions + channels, N) float32: (y, x, channels) for an image, where
        `addPairwiseBilateral` has (x, y, channels), which is another lattice.

    Warns (UserWarning, once in a process) where the values of the image cannot be what schan was
    made for: floats without one above 1 and a schan of 1 or more (0..1), or with negative ones
    within +-16 (normalised), or a schan of less than a 255th of a range beyond +-510 (16 bits).

    Raises:
        TypeError: sdims or schan are no numbers.
        ValueError: they have another length, or numbers that are not positive.
        numpy.exceptions.AxisError: the image has no dimension chdim.
    """
    pixels = array_like("img", img)
    if pixels.dtype.kind not in "iubf":
        raise TypeError(f"img: expected numbers, got {pixels.dtype}")
    chdim = integer("chdim", chdim, least=-LARGEST_INT)
    planes = pixels[np.newaxis] if chdim == -1 else np.moveaxis(pixels, _axis(chdim, pixels), 0)
    channels, *sizes = planes.shape
    hint = _about_channels(chdim, pixels, channels)
    _check_sdims(sdims, len(sizes), hint)
    _warn_of_image(pixels, sigmas("schan", schan, channels, "one for each channel", hint))
    features = _grid(sdims, sizes, channels)
    deviations: Any = [schan] * channels if isinstance(schan, Number) else schan
    first = len(sizes)
    for out, plane, deviation in zip(features[first:], planes, deviations, strict=True):
        out[:] = plane.ravel()
        out /= deviation
    return features


def _warn_of_image(pixels: NDArray[Any], schan: list[float]) -> None:
    if pixels.size == 0 or pixels.dtype.itemsize == 1:
        return
    found = float(pixels.min()), float(pixels.max())
    # small integers, also negative ones, are classes and no colours in 0..1
    if pixels.dtype.kind == "f" or max(map(abs, found)) > LARGEST_ORDINARY:
        warn_of_values("img", found, "schan", schan)


def _axis(chdim: int, pixels: NDArray[Any]) -> int:
    if not -pixels.ndim <= chdim < pixels.ndim:
        raise np.exceptions.AxisError(
            f"chdim: expected a dimension of img of shape {pixels.shape}, or -1 where it has none "
            f"of channels, got {chdim}"
        )
    return chdim


def _about_channels(chdim: int, pixels: NDArray[Any], channels: int) -> str:
    shape = f"img of shape {pixels.shape}"
    if chdim == -1:  # which is not the last one, as elsewhere
        return (
            f"; chdim=-1 says that {shape} has no dimension of channels, chdim={pixels.ndim - 1} "
            "that its last one is that"
        )
    return f"; chdim={chdim} says that {shape} has {channels} channels"


def _check_sdims(sdims: object, count: int, hint: str = "") -> None:
    if isinstance(sdims, Number):
        raise TypeError(f"sdims: expected {count} numbers, got {sdims!r}")
    sigmas("sdims", sdims, count, "one for each dimension", hint)


def _grid(sdims: Sequence[float], sizes: Sequence[int], channels: int) -> Floats:
    """Positions over sdims, and room for channels: (len(sizes) + channels, N)."""
    dimensions = len(sizes)
    features: NDArray[np.float32]
    features = np.empty((dimensions + channels, *sizes), np.float32)
    for axis, (size, deviation) in enumerate(zip(sizes, sdims, strict=True)):
        position = np.arange(size, dtype=np.float32)
        position /= deviation  # in the precision that NumPy chooses for it, as in pydensecrf
        features[axis] = position.reshape(-1, *[1] * (dimensions - 1 - axis))
    return features.reshape(dimensions + channels, math.prod(sizes))
