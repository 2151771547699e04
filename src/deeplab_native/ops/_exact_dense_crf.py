"""The CRF of the DeepLab paper with its exact kernels, `dense_crf(..., algorithm="exact")`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._native import has_values
from ._differentiable_features import axis_sigmas, bilateral_features
from ._exact_mean_field import Term, exact_mean_field, grid_filter, points_filter
from .crf_params import CRFParams, Spacing
from .pairwise_features import KERNEL_NAMES, check_finite_image


def exact_of_batch(
    unary: torch.Tensor,
    image: torch.Tensor,
    weights: Sequence[torch.Tensor],
    params: CRFParams,
    spacing: Spacing | None,
    normalization: int,
    iterations: int,
    scale: float,
    half: bool,
    bridged: bool = False,
) -> torch.Tensor:
    """Q (B, L, H, W) as `dense_crf_of_batch` of _dense_crf_batch.py has it; scale is 1.

    The kernel of positions alone is a product of one for each axis, that of positions and channels
    a sum over all pairs of pixels.
    """
    if has_values(image):
        check_finite_image("image", image)
    return _checked(unary, image, weights, params, spacing, normalization, iterations, half)


def exact_of_list(
    unaries: Sequence[torch.Tensor],
    images: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    params: CRFParams,
    shape: Sequence[int],
    spacing: Spacing | None,
    normalization: int,
    iterations: int,
    scale: float,
    half: bool,
    bridged: bool = False,
) -> list[torch.Tensor]:
    """Q (L, H, W) of each unary (L, H, W) and image (C, H, W), or of volumes."""
    for i, image in enumerate(images):
        if has_values(image):
            check_finite_image(f"image[{i}]", image)
    how = weights, params, spacing, normalization, iterations, half
    return [
        _checked(unary[None], image[None], *how, unary_name=f"unary[{i}]")[0]
        for i, (unary, image) in enumerate(zip(unaries, images, strict=True))
    ]


def _checked(
    unary: torch.Tensor,
    image: torch.Tensor,
    weights: Sequence[torch.Tensor],
    params: CRFParams,
    spacing: Spacing | None,
    normalization: int,
    iterations: int,
    half: bool,
    unary_name: str = "unary",
) -> torch.Tensor:
    flat = unary.flatten(2)
    of_image = image, spacing, unary.dtype
    gamma = axis_sigmas(params.sigma_gamma, "params.sigma_gamma", *of_image)
    features = bilateral_features(params, *of_image)
    (_, of_gamma), (name, of_alpha) = KERNEL_NAMES
    terms = [
        Term(grid_filter(image.shape[2:], gamma, flat), weights[0], normalization, of_gamma),
        Term(points_filter(features, flat, name, half=half), weights[1], normalization, of_alpha),
    ]
    return exact_mean_field(flat, terms, iterations, unary_name).view(unary.shape)
