"""The CRF of the DeepLab paper on a batch of images of one size, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ._dense_crf_scaled import scaled_backward_of_batch, scaled_of_batch
from ._mean_field_gradient import mean_field_backward_of_batch
from .mean_field import mean_field_of_batch
from .pairwise_features import KERNEL_NAMES, PixelFeatures


def features_of(image: torch.Tensor, sigmas: list[float]) -> list[PixelFeatures]:
    """Of the Gaussian kernel, (N, axes), and of the bilateral one, (B, N, axes + C).

    sigmas: those of `sigmas_of`.
    """
    axes = image.ndim - 2
    gamma, alpha, beta = sigmas[:axes], sigmas[axes : 2 * axes], sigmas[2 * axes :]
    return [PixelFeatures(image[:, :0], gamma), PixelFeatures(image, alpha, beta)]


def dense_crf_of_batch(
    unary: torch.Tensor,
    image: torch.Tensor,
    weights: Sequence[torch.Tensor],
    sigmas: list[float],
    normalization: int,
    iterations: int,
    scale: float,
    half: bool,
    bridged: bool = False,
) -> torch.Tensor:
    """Q (B, L, H, W) of unary (B, L, H, W) and image (B, C, H, W); weights of both kernels.

    Or of volumes, (B, L, D, H, W) and (B, C, D, H, W).
    """
    features = features_of(image, sigmas)
    if scale == 1 or iterations == 0 or unary.numel() == 0:
        q = mean_field_of_batch(
            unary.flatten(2),
            features,
            weights,
            [normalization] * 2,
            iterations,
            half,
            bridged=bridged,
            names=KERNEL_NAMES,
        )
        return q.view(unary.shape)
    kinds = half, bridged
    return scaled_of_batch(unary, features, weights, normalization, iterations, scale, *kinds)


def dense_crf_backward_of_batch(
    grad: torch.Tensor,
    unary: torch.Tensor,
    image: torch.Tensor,
    weights: Sequence[torch.Tensor],
    sigmas: list[float],
    normalization: int,
    iterations: int,
    needs_weights: bool,
    scale: float,
    bridged: bool = False,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Gradients with respect to the unary and the weights."""
    features = features_of(image, sigmas)
    if scale == 1 or iterations == 0 or unary.numel() == 0:
        grad_unary, grad_weights, _ = mean_field_backward_of_batch(
            grad.flatten(2),
            unary.flatten(2),
            features,
            weights,
            [normalization] * 2,
            iterations,
            needs_weights,
            bridged=bridged,
        )
        return grad_unary.view(unary.shape), grad_weights
    return scaled_backward_of_batch(
        grad, unary, features, weights, normalization, iterations, needs_weights, scale, bridged
    )
