"""The mean fields of a batch of images, on whichever device it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .._native import on_cuda
from ._mean_field_cpu import CpuMeanField, cpu_mean_fields
from ._mean_field_cuda import CudaMeanField, cuda_mean_fields
from .pairwise_features import Features


def mean_fields(
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    names: Sequence[tuple[str, str]] | None = None,
    *,
    half: bool = False,
    width: int = 0,
    bridged: bool = False,
) -> Iterator[tuple[slice, CpuMeanField | CudaMeanField]]:
    """The images of a batch (B, L, N) in groups, each with its mean field.

    Features (N, d) build one lattice for all images. `names` is what errors call the features and
    the compatibility of each kernel. half: updates in float32 on CUDA store rows as float16. width:
    of the image whose pixels the points of features are that are tensors, 0 for other points.
    bridged: the lattices.
    """
    names = names or [
        (f"kernels[{m}].features", f"kernels[{m}].compatibility") for m in range(len(features))
    ]
    how = compatibilities, normalizations, names
    if on_cuda(unary):
        return cuda_mean_fields(unary, features, *how, half=half, width=width, bridged=bridged)
    return cpu_mean_fields(unary, features, *how, width=width, bridged=bridged)
