"""What may be given to the mean field, checked by name before anything is computed."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch

from .._integers import LARGEST_INT, is_too_large
from .._native import check_same_device, check_tensor
from .permutohedral import check_features

NORMALIZATIONS = {"none": 0, "before": 1, "after": 2, "symmetric": 3}
"""K, K / (K 1) before filtering, after it, or its square root on both sides."""


PRECISIONS = ("single", "half")
"""How wide the rows on the vertices of a lattice are."""


ALGORITHMS = ("lattice", "exact")
"""The permutohedral lattice, or the sum over all pairs of points."""


UNARY_DTYPES = (torch.float32, torch.float64)


class PairwiseKernel(NamedTuple):
    """One term of the pairwise energy.

    features: (N, d) or (B, N, d), divided by their standard deviations.
    compatibility: with F = K Q, a number or 0-dimensional tensor w adds the energy -w F (Potts), a
        vector v (L,) adds v F label by label, a matrix M (L, L) adds 1/2 (M + M^T) F. So 3, the
        vector -3 and the matrix -3 I are the same. Tensors may require gradients.
    normalization: a key of `NORMALIZATIONS`.
    """

    features: torch.Tensor
    compatibility: float | torch.Tensor
    normalization: str = "symmetric"


class CheckedKernel(NamedTuple):
    """A `PairwiseKernel` that was checked, its compatibility a tensor like the unary."""

    features: torch.Tensor
    compatibility: torch.Tensor
    normalization: str


# what takes NumPy arrays, for errors
TAKES_IMAGES = "deeplab_native.refine takes"
TAKES_POINTS = "deeplab_native.pydensecrf.densecrf.DenseCRF takes"


def check_unary(unary: torch.Tensor, *, ndim: int | tuple[int, ...], layout: str) -> None:
    of_points = ndim == 3
    arrays = TAKES_POINTS if of_points else TAKES_IMAGES
    check_tensor("unary", unary, ndim=ndim, layout=layout, arrays=arrays)
    if of_points:
        check_tensor("unary", unary, dtypes=UNARY_DTYPES)
    check_energies("unary", unary)
    if unary.shape[1] < 1:
        raise ValueError(f"unary: expected at least one label, got shape {tuple(unary.shape)}")


def check_energies(name: str, unary: torch.Tensor) -> None:
    """Raises TypeError for a dtype that an image's energies cannot have, such as that of labels."""
    if unary.dtype not in UNARY_DTYPES:
        floats = " or ".join(map(str, UNARY_DTYPES))
        raise TypeError(
            f"{name}: expected dtype {floats}, got {unary.dtype} "
            "(deeplab_native.refine takes labels)"
        )


def check_iterations(iterations: int, name: str = "iterations") -> int:
    try:
        if isinstance(iterations, bool):
            raise TypeError
        iterations = operator.index(iterations)
    except TypeError:
        kind = type(iterations).__name__
        raise TypeError(f"{name}: expected an integer, got {kind}") from None
    if iterations < 0:
        raise ValueError(f"{name}: expected 0 or more, got {iterations}")
    if is_too_large(iterations):
        raise ValueError(f"{name}: expected at most {LARGEST_INT}, got {iterations}")
    return iterations


def check_scale(scale: float) -> float:
    if isinstance(scale, bool) or not isinstance(scale, numbers.Real):
        raise TypeError(f"scale: expected a number, got {type(scale).__name__}")
    if not 0 < scale <= 1:  # also for NaN
        raise ValueError(f"scale: expected more than 0 and at most 1, got {scale}")
    return float(scale)


def check_precision(precision: str) -> bool:
    """Whether rows of lattices may be float16."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}; got {precision!r}")
    return precision == "half"


def check_algorithm(algorithm: str, scale: float = 1.0) -> bool:
    """Whether it is the exact one, which has no cells; `scale` is checked."""
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm: expected one of {', '.join(ALGORITHMS)}; got {algorithm!r}")
    if algorithm == "exact" and scale != 1:
        raise ValueError(f"scale: expected 1 with algorithm='exact', got {scale}")
    return algorithm == "exact"


def check_normalization(normalization: str, name: str = "normalization") -> int:
    if not isinstance(normalization, str) or normalization not in NORMALIZATIONS:
        raise ValueError(
            f"{name}: expected one of {', '.join(NORMALIZATIONS)}; got {normalization!r}"
        )
    return NORMALIZATIONS[normalization]


def check_kernels(unary: torch.Tensor, kernels: Sequence[PairwiseKernel]) -> list[CheckedKernel]:
    """The kernels with their compatibilities as tensors of the unary's dtype and device."""
    batch, _, points = unary.shape
    if not isinstance(kernels, Sequence):
        raise TypeError(f"kernels: expected a list of them, got {type(kernels).__name__}")
    checked = []
    for m, kernel in enumerate(kernels):
        if not isinstance(kernel, tuple) or not 2 <= len(kernel) <= 3:
            raise TypeError(
                f"kernels[{m}]: expected (features, compatibility[, normalization]), "
                f"got {type(kernel).__name__}"
            )
        kernel = PairwiseKernel(*kernel)
        check_features(f"kernels[{m}].features", kernel.features, torch.Size((batch, points)))
        check_same_device(unary=unary, **{f"kernels[{m}].features": kernel.features})
        check_normalization(kernel.normalization, f"kernels[{m}].normalization")
        compatibility = check_compatibility(
            f"kernels[{m}].compatibility", kernel.compatibility, unary
        )
        # not _replace: Dynamo before torch 2.7 does not trace it
        checked.append(CheckedKernel(kernel.features, compatibility, kernel.normalization))
    return checked


def check_compatibility(
    name: str, value: float | torch.Tensor, unary: torch.Tensor
) -> torch.Tensor:
    """As a tensor (), (L,) or (L, L) like the unary; ValueError for another shape."""
    labels = unary.shape[1]
    if isinstance(value, torch.Tensor):
        compatibility = value.to(unary.dtype)  # keeps its gradient
        check_same_device(unary=unary, **{name: compatibility})
    else:
        try:
            host = torch.as_tensor(value, dtype=unary.dtype, device="cpu")
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{name}: expected numbers or a tensor, got {value!r}") from None
        if isinstance(value, (int, float)):
            # no copy from the host, which a CUDA graph could not capture
            compatibility = torch.full((), value, dtype=unary.dtype, device=unary.device)
        else:
            compatibility = host.to(unary.device)
    if tuple(compatibility.shape) not in ((), (labels,), (labels, labels)):
        raise ValueError(
            f"{name}: expected a number, a vector ({labels},) or a matrix ({labels}, {labels}), "
            f"got shape {tuple(compatibility.shape)}"
        )
    return compatibility
