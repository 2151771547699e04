"""Features of an image's pixels for the pairwise kernels of the CRF (DeepLab, equation 3).

Of images (B, C, H, W), and of volumes (B, C, D, H, W). Sigmas of the axes are in the order of the
tensor, (y, x) or (z, y, x). Features of an image are in pydensecrf's order, x, y and the channels;
those of a volume z, y, x and the channels, as its `utils.create_pairwise_bilateral` has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from .. import _C
from .._native import (
    call_cuda,
    check_has_memory,
    check_same_device,
    check_tensor,
    in_memory,
    num_threads,
    on_cuda,
)
from ._dense_crf_inputs import warn_of_image

_R = TypeVar("_R")

Sigma = float | Sequence[float]

# What errors call the kernels' features and compatibilities.
KERNEL_NAMES = (
    ("pixels / sigma_gamma", "params.w2"),
    ("image / (sigma_alpha, sigma_beta)", "params.w1"),
)


IMAGE_DTYPES = (torch.uint8, torch.float32, torch.float64)


def check_image(image: object, unary: torch.Tensor) -> torch.Tensor:
    """The image; raises where it is not (B, C, H, W) for a unary of (B, L, H, W), or both 3-D."""
    layout = "(B, C, H, W)" if unary.ndim == 4 else "(B, C, D, H, W)"
    image = check_tensor("image", image, ndim=unary.ndim, dtypes=IMAGE_DTYPES, layout=layout)
    batch, space = unary.shape[0], unary.shape[2:]
    if image.shape[0] != batch or image.shape[2:] != space:
        expected = ", ".join(map(str, (batch, "C", *space)))
        raise ValueError(
            f"image: expected shape ({expected}) for a unary of {tuple(unary.shape)}, got "
            f"{tuple(image.shape)}"
        )
    check_channels("image", image.shape[1], len(space))
    check_same_device(unary=unary, image=image)
    return image


def check_channels(name: str, channels: int, axes: int) -> None:
    """Raises where a lattice has no dimensions for them."""
    most = _C.max_feature_dim - axes
    if not 1 <= channels <= most:
        kind = "an image" if axes == 2 else "a volume"
        raise ValueError(f"{name}: expected 1 to {most} channels of {kind}, got {channels}")


def check_no_gradient(name: str, image: torch.Tensor) -> None:
    """Raises ValueError, naming the image, where autograd would ask for a gradient there is not."""
    if image.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{name}: no gradient with respect to the image; pass image.detach()")


def position_features(
    height: int, width: int, sigma: Sigma, *, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """(x / sigma, y / sigma) of each pixel: (H W, 2) float32, pixel i at x = i mod W.

    `sigma` in pixels, or one for y and one for x.
    """
    image = torch.empty((1, 0, height, width), dtype=torch.uint8, device=device)
    check_has_memory("device", image)
    return PixelFeatures(image, sigma).tensor()


def image_features(image: torch.Tensor, sigma_yx: Sigma, sigma_channels: Sigma) -> torch.Tensor:
    """(x / sigma, y / sigma, channels / sigma) of each pixel: (B, H W, 2 + C) float32.

    image: (B, C, H, W), uint8, float32 or float64, any strides. The sigmas may be given for y and
    x, and for each channel. On the CPU, ValueError for an image with NaN or infinite values, and a
    warning where they cannot be what sigma_channels was made for, as of `dense_crf`.
    Of a volume (B, C, D, H, W): (z, y, x, channels), (B, D H W, 3 + C).
    """
    check_tensor("image", image, dtypes=IMAGE_DTYPES)
    check_no_gradient("image", image)
    check_has_memory("image", image)
    warn_of_image("image", image, "sigma_channels", sigma_channels)
    return PixelFeatures(in_memory(image), sigma_yx, sigma_channels).tensor()


def check_finite_image(name: str, image: torch.Tensor) -> None:
    """On the CPU; on CUDA it would be to wait for the device."""
    if not on_cuda(image) and image.is_floating_point() and not image.isfinite().all():
        raise ValueError(f"{name}: expected finite values 0..255, got NaN or infinite ones")


class PixelFeatures:
    """The features of a batch's pixels, not yet made: lattices on the CPU need no memory for them.

    image: (B, C, H, W) or (B, C, D, H, W) for those of `image_features`; with C = 0 those of
    positions alone, which are the same for every image. The sigmas: one, or one for each axis in
    the tensor's order, and for each channel. ndim: 3, or 2 where all images share them. positions:
    then what they depend on, sizes and sigmas; else None.
    """

    def __init__(self, image: torch.Tensor, sigma_axes: Sigma, sigma_channels: Sigma = ()) -> None:
        check_finite_image("image", image)
        self._image = image.detach()
        batch, channels, *space = image.shape
        self._sigmas = _each(sigma_axes, len(space)), _each(sigma_channels, channels)
        points, d = math.prod(space), len(space) + channels
        self.shape = (batch, points, d) if channels else (points, d)
        self.ndim, self.width = len(self.shape), space[-1]
        self.positions = None if channels else (*space, *map(float, self._sigmas[0]))

    def __getitem__(self, images: slice) -> PixelFeatures:
        """Those of some of the images."""
        return PixelFeatures(self._image[images], *self._sigmas)

    def tensor(self) -> torch.Tensor:
        """(N, axes) or (B, N, axes + C) float32, N pixels row by row."""
        if self.ndim == 2:
            return _features(self._image[:1], *self._sigmas)[0].T
        return _features(self._image, *self._sigmas).transpose(1, 2)

    def lattice(self, b: int, name: str, *, bridged: bool = False) -> _C.Lattice:
        """Of image b, like pydensecrf's or bridged; ValueError where its range is too large."""
        return self._native(_C.build_image_lattice_cpu, b, name, bridged)

    def check(self, b: int, name: str, *, bridged: bool = False) -> None:
        """Raises what `lattice` would."""
        self._native(_C.check_image_features_cpu, b, name, bridged)

    def _native(self, native: Callable[..., _R], b: int, name: str, bridged: bool) -> _R:
        image = self._image[b]
        dtype = str(image.dtype).removeprefix("torch.")
        where = image.data_ptr(), dtype, image.stride(), image.shape[1:]
        try:
            return native(*where, *self._sigmas, num_threads(), bridged)
        except ValueError as error:
            raise ValueError(str(error).replace("features", name, 1)) from None


Features = Sequence[torch.Tensor | PixelFeatures]  # of each kernel


def _features(
    image: torch.Tensor, sigmas: Sequence[float], channel_sigmas: Sequence[float]
) -> torch.Tensor:
    """Planes (B, axes + C, N) float32."""
    batch, channels, *space = image.shape
    shape = batch, len(space) + channels, math.prod(space)
    features = torch.empty(shape, dtype=torch.float32, device=image.device)
    dtype = str(image.dtype).removeprefix("torch.")
    how = space, sigmas, channel_sigmas
    if on_cuda(image):
        of_batch = image.data_ptr(), dtype, image.stride(), batch
        call_cuda("pairwise_features_cuda", image, *of_batch, *how, features.data_ptr())
        return features
    for one, planes in zip(image, features, strict=True):
        pixels, out = one.data_ptr(), planes.data_ptr()
        _C.pairwise_features_cpu(pixels, dtype, one.stride(), *how, out, num_threads())
    return features


def _each(sigma: Sigma, count: int) -> Sequence[float]:
    return sigma if isinstance(sigma, Sequence) else [sigma] * count
