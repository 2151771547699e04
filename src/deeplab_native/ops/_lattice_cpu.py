"""The permutohedral lattice of points on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from .. import _C
from .._memory import check_memory, least_bytes_of_lattice
from .._native import num_threads

_R = TypeVar("_R")


def build_lattice(
    features: torch.Tensor,
    name: str = "features",
    *,
    like_pydensecrf: bool = False,
    width: int = 0,
    bridged: bool = False,
) -> _C.Lattice:
    """The lattice of features (N, d), any strides; ValueError where not finite or too large.

    `like_pydensecrf`: with the vertices that its vectors of four points add, see permutohedral.h.
    width: of the image whose pixels the points are, 0 for others.
    """
    points, d = features.shape
    size = least_bytes_of_lattice(points, d)
    check_memory(f"{name}: a lattice of {points} points in {d} dimensions", size)
    return _with_features(_C.build_lattice_cpu, features, name, like_pydensecrf, width, bridged)


def check_lattice(
    features: torch.Tensor, name: str, *, like_pydensecrf: bool = False, bridged: bool = False
) -> None:
    """Raises what `build_lattice` would, at a small part of its cost."""
    _with_features(_C.check_features_cpu, features, name, like_pydensecrf, bridged)


def _with_features(
    native: Callable[..., _R], features: torch.Tensor, name: str, *how: bool | int
) -> _R:
    features = features.detach().to(torch.float32)
    (n, d), strides = features.shape, features.stride()
    try:
        return native(features.data_ptr(), n, d, *strides, num_threads(), *how)
    except ValueError as error:
        raise ValueError(str(error).replace("features", name, 1)) from None
