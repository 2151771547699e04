"""The bilateral filter of a batch's pixels, the lattice of each image built once for many filters.

It is that of `dense_crf`: features, order of the pixels and vertices are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .._memory import check_memory, least_bytes_of_crf, least_bytes_of_rows
from .._native import check_same_device, check_tensor, on_cuda
from ._dense_crf_inputs import (
    ImageRange,
    as_image_dtype,
    as_levels,
    check_channels_first,
    check_image_range,
)
from ._mean_field_cpu import CpuMeanField
from ._mean_field_cuda import CudaMeanField, cuda_mean_fields
from .crf_params import positive_numbers
from .pairwise_features import (
    IMAGE_DTYPES,
    PixelFeatures,
    Sigma,
    check_channels,
    check_no_gradient,
)

_FEATURES = "image / (sigma_xy, sigma_rgb)"  # for errors


def pixel_filters(
    values: torch.Tensor, image: torch.Tensor, sigmas: Sequence[float], normalization: int
) -> Iterator[tuple[slice, CpuMeanField | CudaMeanField]]:
    """The images of a batch in groups, each with what filters (b, L, N) of them as its kernel 0.

    values: (B, L, N), whose dtype and device the filter is for. image: (B, C, H, W), or volumes.
    sigmas: of each axis, then of each channel. normalization: a number of `NORMALIZATIONS`. On the
    CPU ValueError for an image that the lattice cannot hold, before the first filter.
    """
    axes = image.ndim - 2
    features = PixelFeatures(image, sigmas[:axes], sigmas[axes:])
    how = [values.new_zeros(())], [normalization]
    if on_cuda(values):
        yield from cuda_mean_fields(values, [features], *how, [(_FEATURES, "")])
        return
    batch, labels, points = values.shape
    size = least_bytes_of_crf(labels, points, [features.shape[-1]], values.element_size())
    check_memory(f"image: a bilateral filter of {labels} labels and {points} pixels", size)
    for b in range(1, batch):  # the first one's is checked as it is built
        features.check(b, _FEATURES)
    values = values.detach().contiguous()
    for b in range(batch):
        lattice, own = features.lattice(b, _FEATURES), slice(b, b + 1)
        what = f"{_FEATURES}: a lattice of {lattice.num_vertices} vertices for {points} points"
        check_memory(what, least_bytes_of_rows(labels, lattice.num_vertices, values.element_size()))
        yield own, CpuMeanField(values[own], [lattice], *how, features.width)


def check_map(name: str, map_: object, image: object) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, L, H, W) of float32 or float64 and its image (B, C, H, W), or of volumes; else raises."""
    floats = torch.float32, torch.float64
    layout = "(B, L, H, W), or of volumes (B, L, D, H, W)"
    map_ = check_tensor(name, map_, ndim=(4, 5), dtypes=floats, layout=layout)
    if map_.shape[1] < 1:
        raise ValueError(f"{name}: expected at least one label, got shape {tuple(map_.shape)}")
    image = check_tensor("image", image, dtypes=IMAGE_DTYPES)
    check_channels_first("image", image, name, map_)
    batch, space = map_.shape[0], map_.shape[2:]
    if image.ndim != map_.ndim or image.shape[0] != batch or image.shape[2:] != space:
        expected = ", ".join(map(str, (batch, "C", *space)))
        raise ValueError(
            f"image: expected shape ({expected}) for {name} of shape {tuple(map_.shape)}, got "
            f"{tuple(image.shape)}"
        )
    check_channels("image", image.shape[1], len(space))
    check_same_device(**{name: map_, "image": image})
    check_no_gradient("image", image)
    return map_, image


def check_sigmas(
    sigma_xy: Sigma, sigma_rgb: Sigma, image_shape: Sequence[int]
) -> tuple[list[float], list[float]]:
    """Of each axis, and of each channel, of an image (B, C, H, W) or (B, C, D, H, W)."""
    _, channels, *space = image_shape
    along = "(y, x)" if len(space) == 2 else "(z, y, x)"
    return (
        positive_numbers("sigma_xy", sigma_xy, len(space), f"axes {along}"),
        positive_numbers("sigma_rgb", sigma_rgb, channels, "channels of the image"),
    )


def image_in_range(
    image: object, image_range: ImageRange | None
) -> tuple[object, list[tuple[float, float]] | None]:
    """An image of a dtype that features are made of, where it is one, and the checked range."""
    pairs = check_image_range(image_range)
    return as_image_dtype("image", image, pairs, sigma="sigma_rgb"), pairs


def levels_of(
    image: torch.Tensor, pairs: list[tuple[float, float]] | None, sigma_rgb: Sequence[float]
) -> torch.Tensor:
    """Its values mapped to 0..255; warns as `dense_crf` does."""
    return as_levels("image", image, pairs, sigma_rgb, sigma_name="sigma_rgb")
