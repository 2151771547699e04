"""Features of an image's pixels that torch makes, so that sigmas and images have gradients.

`PixelFeatures` has the same numbers, in float32 to the bit, made by native code and not stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .crf_params import CRFParams, Sigma, Spacing, check_spacing, sigma_tensors


def axis_sigmas(
    sigma: Sigma, name: str, image: torch.Tensor, spacing: Spacing | None, dtype: torch.dtype
) -> list[torch.Tensor]:
    """One in pixels for each axis of an image (B, C, H, W), or a volume, in the tensor's order."""
    axes = image.ndim - 2
    of = "axes (y, x)" if axes == 2 else "axes (z, y, x)"
    steps = [1.0] * axes if spacing is None else check_spacing(spacing, axes)
    return _tensors(sigma_tensors(name, sigma, axes, of), steps, image, dtype)


def grid_features(
    sigma: Sigma, name: str, image: torch.Tensor, spacing: Spacing | None, dtype: torch.dtype
) -> torch.Tensor:
    """(N, axes) of an image (B, C, H, W), or a volume: x and y over their sigmas; or z, y and x."""
    return _positions(sigma, name, image, spacing, dtype).flatten(1).mT


def bilateral_features(
    params: CRFParams, image: torch.Tensor, spacing: Spacing | None, dtype: torch.dtype
) -> torch.Tensor:
    """(B, N, axes + C): positions over sigma_alpha, and the channels over sigma_beta."""
    positions = _positions(params.sigma_alpha, "params.sigma_alpha", image, spacing, dtype)
    batch, channels, *space = image.shape
    each = sigma_tensors("params.sigma_beta", params.sigma_beta, channels, "channels of the image")
    sigma = torch.stack(_tensors(each, [1.0] * channels, image, dtype))
    values = image.to(dtype) / sigma.view(-1, *[1] * len(space))
    planes = torch.cat([positions.expand(batch, *positions.shape), values], 1)
    return planes.flatten(2).mT


def _positions(
    sigma: Sigma, name: str, image: torch.Tensor, spacing: Spacing | None, dtype: torch.dtype
) -> torch.Tensor:
    """Planes of the image's size."""
    space = image.shape[2:]
    planes = []
    for axis, one in enumerate(axis_sigmas(sigma, name, image, spacing, dtype)):
        where = torch.arange(space[axis], dtype=dtype, device=image.device)
        along = [-1 if k == axis else 1 for k in range(len(space))]
        planes.append((where / one).view(along).expand(space))
    return torch.stack(planes[::-1] if len(space) == 2 else planes)


def _tensors(
    each: Sequence[float | torch.Tensor],
    steps: Sequence[float],
    image: torch.Tensor,
    dtype: torch.dtype,
) -> list[torch.Tensor]:
    """Of the dtype, over the steps: on the image's device, where to divide is to divide."""
    tensors = []
    for sigma, step in zip(each, steps, strict=True):
        if not isinstance(sigma, torch.Tensor):
            tensors.append(torch.full((), sigma / step, dtype=dtype, device=image.device))
        else:  # over a step in float64, as Python's numbers
            tensors.append((sigma if step == 1 else sigma.double() / step).to(dtype))
    return tensors
