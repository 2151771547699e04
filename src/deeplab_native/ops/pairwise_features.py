"""Features of an image's pixels for the pairwise kernels of the CRF (DeepLab, equation 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from .. import _C
from .._native import call_cuda, check_same_device, check_tensor, num_threads, on_cuda

_R = TypeVar("_R")

Sigma = float | Sequence[float]

# What errors call the kernels' features and compatibilities.
KERNEL_NAMES = (
    ("pixels / sigma_gamma", "params.w2"),
    ("image / (sigma_alpha, sigma_beta)", "params.w1"),
)


IMAGE_DTYPES = (torch.uint8, torch.float32, torch.float64)


def check_image(image: object, unary: torch.Tensor) -> torch.Tensor:
    """The image; raises where it is not (B, 3, H, W) for a unary of (B, L, H, W)."""
    image = check_tensor("image", image, ndim=4, dtypes=IMAGE_DTYPES, layout="(B, 3, H, W)")
    batch, _, height, width = unary.shape
    if tuple(image.shape) != (batch, 3, height, width):
        raise ValueError(
            f"image: expected shape {(batch, 3, height, width)} for a unary of "
            f"{tuple(unary.shape)}, got {tuple(image.shape)}"
        )
    check_same_device(unary=unary, image=image)
    check_no_gradient("image", image)
    return image


def check_no_gradient(name: str, image: torch.Tensor) -> None:
    """Raises ValueError, naming the image, where autograd would ask for its gradient."""
    if image.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{name}: no gradient with respect to the image; pass image.detach()")


def position_features(
    height: int, width: int, sigma: Sigma, *, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """(x / sigma, y / sigma) of each pixel: (H W, 2) float32, pixel i at x = i mod W.

    `sigma` in pixels, or one for x and one for y.
    """
    image = torch.empty((1, 0, height, width), dtype=torch.uint8, device=device)
    return _features(image, sigma, ())[0].T


def image_features(image: torch.Tensor, sigma_xy: Sigma, sigma_colour: Sigma) -> torch.Tensor:
    """(x / sigma_xy, y / sigma_xy, channels / sigma_colour) of each pixel: (B, H W, 2 + C) float32.

    image: (B, C, H, W), uint8, float32 or float64, any strides. The sigmas may be given for x and
    y, and for each channel. On the CPU, ValueError for an image with NaN or infinite values.
    """
    check_finite_image("image", image)
    sigmas = _each(sigma_colour, image.shape[1])
    return _features(image.detach(), sigma_xy, sigmas).transpose(1, 2)


def check_finite_image(name: str, image: torch.Tensor) -> None:
    """On the CPU; on CUDA it would be to wait for the device."""
    if not on_cuda(image) and image.is_floating_point() and not image.isfinite().all():
        raise ValueError(f"{name}: expected finite values 0..255, got NaN or infinite ones")


class PixelFeatures:
    """The features of a batch's pixels, not yet made: lattices on the CPU need no memory for them.

    image: (B, C, H, W) for those of `image_features`; with C = 0 those of `position_features`,
    which are the same for every image. ndim: 3, or 2 where all images share them. positions: then
    what they depend on, height, width and sigmas; else None.
    """

    def __init__(self, image: torch.Tensor, sigma_xy: Sigma, sigma_colour: Sigma = ()) -> None:
        check_finite_image("image", image)
        self._image = image.detach()
        self._sigmas = _each(sigma_xy, 2), _each(sigma_colour, image.shape[1])
        batch, channels, height, width = image.shape
        self.shape = (batch, height * width, 2 + channels) if channels else (height * width, 2)
        self.ndim, self.width = len(self.shape), width
        self.positions = None if channels else (height, width, *map(float, self._sigmas[0]))

    def __getitem__(self, images: slice) -> PixelFeatures:
        """Those of some of the images."""
        return PixelFeatures(self._image[images], *self._sigmas)

    def tensor(self) -> torch.Tensor:
        """(H W, 2) or (B, H W, 2 + C) float32."""
        if self.ndim == 2:
            return _features(self._image[:1], *self._sigmas)[0].T
        return _features(self._image, *self._sigmas).transpose(1, 2)

    def lattice(self, b: int, name: str) -> _C.Lattice:
        """Of image b, like pydensecrf's; ValueError where its range is too large."""
        return self._native(_C.build_image_lattice_cpu, b, name)

    def check(self, b: int, name: str) -> None:
        """Raises what `lattice` would."""
        self._native(_C.check_image_features_cpu, b, name)

    def _native(self, native: Callable[..., _R], b: int, name: str) -> _R:
        image = self._image[b]
        (sigma_x, sigma_y), sigmas = self._sigmas
        dtype = str(image.dtype).removeprefix("torch.")
        where = image.data_ptr(), dtype, image.stride()
        try:
            return native(*where, *image.shape[1:], sigma_x, sigma_y, sigmas, num_threads())
        except ValueError as error:
            raise ValueError(str(error).replace("features", name, 1)) from None


Features = Sequence[torch.Tensor | PixelFeatures]  # of each kernel


def _features(image: torch.Tensor, sigma_xy: Sigma, sigmas: Sequence[float]) -> torch.Tensor:
    """Planes (B, 2 + C, H W) float32."""
    batch, channels, height, width = image.shape
    shape = batch, 2 + channels, height * width
    features = torch.empty(shape, dtype=torch.float32, device=image.device)
    dtype = str(image.dtype).removeprefix("torch.")
    sigma_x, sigma_y = _each(sigma_xy, 2)
    how = height, width, sigma_x, sigma_y, sigmas
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
