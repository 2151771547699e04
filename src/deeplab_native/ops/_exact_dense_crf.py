"""The CRF of the DeepLab paper with its exact kernels, `dense_crf(..., algorithm="exact")`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ._exact_mean_field import Term, exact_mean_field, grid_filter, has_values, points_filter
from .crf_params import CRFParams, Spacing, check_spacing, sigma_tensors, sigmas_of
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
    sigmas = _sigmas(params, image.shape, spacing)
    return _checked(unary, image, weights, sigmas, normalization, iterations, half)


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
    """Q (L, H, W) of each unary (L, H, W) and image (C, H, W), or of volumes.

    shape: of a batch of such images.
    """
    sigmas = _sigmas(params, shape, spacing)
    for i, image in enumerate(images):
        if has_values(image):
            check_finite_image(f"image[{i}]", image)
    how = weights, sigmas, normalization, iterations, half
    return [
        _checked(unary[None], image[None], *how, unary_name=f"unary[{i}]")[0]
        for i, (unary, image) in enumerate(zip(unaries, images, strict=True))
    ]


def _checked(
    unary: torch.Tensor,
    image: torch.Tensor,
    weights: Sequence[torch.Tensor],
    sigmas: Sequence[float | torch.Tensor],
    normalization: int,
    iterations: int,
    half: bool,
    unary_name: str = "unary",
) -> torch.Tensor:
    size = image.shape[2:]
    gamma, alpha, beta = (
        sigmas[: len(size)],
        sigmas[len(size) : 2 * len(size)],
        sigmas[2 * len(size) :],
    )
    flat = unary.flatten(2)
    features = _features(image.to(unary.dtype), alpha, beta)
    (_, of_gamma), (name, of_alpha) = KERNEL_NAMES
    terms = [
        Term(grid_filter(size, gamma, flat), weights[0], normalization, of_gamma),
        Term(points_filter(features, flat, name, half=half), weights[1], normalization, of_alpha),
    ]
    return exact_mean_field(flat, terms, iterations, unary_name).view(unary.shape)


def _sigmas(
    params: CRFParams, image_shape: Sequence[int], spacing: Spacing | None
) -> Sequence[float | torch.Tensor]:
    """As `sigmas_of`, of tensors with their gradients."""
    given = (params.sigma_gamma, params.sigma_alpha, params.sigma_beta)
    if not any(isinstance(sigma, torch.Tensor) for sigma in given):
        return sigmas_of(params, image_shape, spacing)
    _, channels, *space = image_shape
    axes = len(space)
    steps = [1.0] * axes if spacing is None else check_spacing(spacing, axes)
    along = "(y, x)" if axes == 2 else "(z, y, x)"
    gamma, alpha = (
        sigma_tensors(f"params.{name}", sigma, axes, f"{axes} axes {along}")
        for name, sigma in (("sigma_gamma", given[0]), ("sigma_alpha", given[1]))
    )
    of = f"{channels} channels of the image"
    beta = sigma_tensors("params.sigma_beta", given[2], channels, of)
    in_pixels = [sigma / step for sigma, step in zip([*gamma, *alpha], steps * 2, strict=True)]
    return in_pixels + beta


def _features(
    image: torch.Tensor,
    sigma_axes: Sequence[float | torch.Tensor],
    sigma_channels: Sequence[float | torch.Tensor],
) -> torch.Tensor:
    """(B, N, axes + C), differentiable with respect to the image and the sigmas."""
    batch, _, *size = image.shape
    planes = []
    for axis, (n, sigma) in enumerate(zip(size, sigma_axes, strict=True)):
        along = [-1 if k == axis else 1 for k in range(len(size))]
        x = torch.arange(n, dtype=image.dtype, device=image.device) / sigma
        planes.append(x.view(1, *along).expand(batch, *size))
    planes += [plane / sigma for plane, sigma in zip(image.unbind(1), sigma_channels, strict=True)]
    return torch.stack(planes, -1).flatten(1, -2)
