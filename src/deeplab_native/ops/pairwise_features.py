"""Features of an image's pixels for the pairwise kernels of the CRF (DeepLab, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .. import _C
from .._native import check_same_device, check_tensor, num_threads

Sigma = float | Sequence[float]

# What errors call the kernels' features and compatibilities.
KERNEL_NAMES = (
    ("pixels / sigma_gamma", "params.w2"),
    ("image / (sigma_alpha, sigma_beta)", "params.w1"),
)


def check_image(image: torch.Tensor, unary: torch.Tensor) -> None:
    """Raises where the image is not (B, 3, H, W) for a unary of (B, L, H, W)."""
    check_tensor(
        "image",
        image,
        ndim=4,
        dtypes=(torch.uint8, torch.float32, torch.float64),
        layout="(B, 3, H, W)",
    )
    batch, _, height, width = unary.shape
    if tuple(image.shape) != (batch, 3, height, width):
        raise ValueError(
            f"image: expected shape {(batch, 3, height, width)} for a unary of "
            f"{tuple(unary.shape)}, got {tuple(image.shape)}"
        )
    check_same_device(unary=unary, image=image)
    if image.requires_grad and torch.is_grad_enabled():
        raise ValueError("image: no gradient with respect to the image; pass image.detach()")


def position_features(height: int, width: int, sigma: Sigma) -> torch.Tensor:
    """(x / sigma, y / sigma) of each pixel: (H W, 2) float32, pixel i at x = i mod W.

    `sigma` in pixels, or one for x and one for y.
    """
    features = _planes(2, height * width)
    _fill(features, 0, "uint8", (0, 0, 0), (height, width), sigma, ())
    return features.T


def image_features(image: torch.Tensor, sigma_xy: Sigma, sigma_colour: Sigma) -> torch.Tensor:
    """(x / sigma_xy, y / sigma_xy, channels / sigma_colour) of each pixel: (B, H W, 2 + C) float32.

    image: (B, C, H, W), uint8, float32 or float64, any strides. The sigmas may be given for x and
    y, and for each channel. Raises ValueError for an image with NaN or infinite values.
    """
    if image.is_floating_point() and not image.isfinite().all():
        raise ValueError("image: expected finite values 0..255, got NaN or infinite ones")
    batch, channels, height, width = image.shape
    features = _planes(batch, 2 + channels, height * width)
    dtype = str(image.dtype).removeprefix("torch.")
    sigmas = _each(sigma_colour, channels)
    for one, planes in zip(image.detach(), features, strict=True):
        _fill(planes, one.data_ptr(), dtype, one.stride(), (height, width), sigma_xy, sigmas)
    return features.transpose(1, 2)


def _planes(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _fill(features, address, dtype, strides, size, sigma_xy, sigma_colour) -> None:
    _C.pairwise_features_cpu(
        address,
        dtype,
        strides,
        *size,
        *_each(sigma_xy, 2),
        sigma_colour,
        features.data_ptr(),
        num_threads(),
    )


def _each(sigma: Sigma, count: int) -> Sequence[float]:
    return sigma if isinstance(sigma, Sequence) else [sigma] * count
