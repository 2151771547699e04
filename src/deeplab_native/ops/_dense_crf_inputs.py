"""From what users have to what `dense_crf` works on: one image or a batch, its values 0..255."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch

from .._image_range import LARGEST_ORDINARY, REMEDIES, warn_of_values, warn_once
from .._native import check_tensor, has_values
from ._mean_field_checks import TAKES_IMAGES
from .crf_params import Sigma, values_of

Pair: TypeAlias = tuple[float, float]
ImageRange: TypeAlias = Pair | Sequence[Pair]

_INTEGERS = tuple(
    getattr(torch, name)
    for name in ("int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")
)
_CONVERTED = (torch.float16, torch.bfloat16, *_INTEGERS)


def check_image_range(image_range: object) -> list[Pair] | None:
    """As (low, high) pairs, a single one for all channels; None stays."""
    if image_range is None:
        return None
    expected = "expected (low, high), what stands for 0 and 255, or such a pair for each channel"
    if not isinstance(image_range, Sequence) or isinstance(image_range, str) or not image_range:
        raise TypeError(f"image_range: {expected}, got {image_range!r}")
    pairs = image_range if isinstance(image_range[0], Sequence) else [image_range]
    checked = []
    for one in pairs:
        if not isinstance(one, Sequence) or len(one) != 2:
            raise TypeError(f"image_range: {expected}, got {image_range!r}")
        if not all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in one):
            raise TypeError(f"image_range: {expected}, got {image_range!r}")
        low, high = float(one[0]), float(one[1])
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"image_range: expected low below high, finite, got {one!r}")
        checked.append((low, high))
    return checked


def as_batch(unary: object, image: object) -> tuple[torch.Tensor, torch.Tensor]:
    """An image without a batch dimension as a batch of one; raises where channels come last."""
    unary = check_tensor("unary", unary, arrays=TAKES_IMAGES)
    image = check_tensor("image", image, arrays=TAKES_IMAGES)
    check_channels_first("image", image, "unary", unary)
    if unary.ndim == 3 and image.ndim not in (3, 4):
        raise ValueError(
            f"image: expected 3 dimensions (C, H, W) for a unary of {tuple(unary.shape)}, got "
            f"shape {tuple(image.shape)}"
        )
    if unary.ndim == 3:
        if _size(image, 2) != _size(unary, 2):
            raise ValueError(
                f"image: expected shape (C, {unary.shape[1]}, {unary.shape[2]}) for a unary of "
                f"{tuple(unary.shape)}, got {tuple(image.shape)}"
            )
        unary = unary[None]
    if image.ndim == unary.ndim - 1 and unary.shape[0] == 1:
        image = image[None]
    return unary, image


def check_channels_first(
    name: str, image: Any, unary_name: str, unary: Any, axes: int | None = None
) -> None:
    """Raises ValueError, with the remedy, for images (B, H, W, C) or (H, W, C), or such a unary.

    axes: of space, where they do not follow from the dimensions of the unary.
    """
    if not isinstance(unary, torch.Tensor) or not isinstance(image, torch.Tensor):
        return
    if min(unary.ndim, image.ndim) < 3 or _size(image, 2) == _size(unary, 2):
        return
    spatial = axes or max(2, unary.ndim - 2)
    last = {
        name: _size_of_last(image, spatial) == _size(unary, spatial),
        unary_name: _size_of_last(unary, spatial) == _size(image, spatial),
    }
    if _size_of_last(image, spatial) == _size_of_last(unary, spatial):
        usual = (1, 3, 4)
        last = {name: image.shape[-1] in usual and image.shape[-spatial - 1] not in usual}
    for which, tensor in ((name, image), (unary_name, unary)):
        if last.get(which):
            raise ValueError(
                f"{which}: got shape {tuple(tensor.shape)}, whose channels are last "
                f"(channels first: {channels_first(tensor.ndim, spatial)})"
            )


def channels_first(ndim: int, spatial: int = 2) -> str:
    """The call that moves the last dimension before the spatial ones."""
    batch = ndim - spatial - 1
    order = [*range(batch), ndim - 1, *range(batch, ndim - 1)]
    return f"permute({', '.join(map(str, order))})"


def _size(tensor: torch.Tensor, spatial: int) -> tuple[int, ...]:
    return tuple(tensor.shape[-spatial:]) if tensor.ndim > spatial else ()


def _size_of_last(tensor: torch.Tensor, spatial: int) -> tuple[int, ...]:
    """Of a tensor whose channels were last."""
    return tuple(tensor.shape[-spatial - 1 : -1])


def as_image_dtype(
    name: str, image: Any, pairs: list[Pair] | None, *, sigma: str = "sigma_beta"
) -> Any:
    """float16 and bfloat16 in float32, and integers of other ranges than 0..255 likewise.

    What is no such tensor stays, to be refused by name later. sigma: what errors call that of the
    channels.
    """
    if isinstance(image, Sequence) and not isinstance(image, str):
        return [as_image_dtype(f"{name}[{i}]", o, pairs, sigma=sigma) for i, o in enumerate(image)]
    if not isinstance(image, torch.Tensor):
        return image
    if image.dtype in _INTEGERS and pairs is None:
        raise TypeError(
            f"{name}: expected dtype torch.uint8 or a float of values 0..255, got {image.dtype} "
            "(image_range=(0, 65535), or whatever stands for 0 and 255, says its range; (0, 255) "
            f"that {sigma} is in its unit; of values 0..255 {name}.to(torch.uint8))"
        )
    return image.to(torch.float32) if image.dtype in _CONVERTED else image


def as_levels(
    name: str,
    image: torch.Tensor,
    pairs: list[Pair] | None,
    sigma_beta: Sigma,
    *,
    dim: int = 1,
    sigma_name: str = "params.sigma_beta",
) -> torch.Tensor:
    """The image with its values mapped to 0..255; the same tensor where they are.

    dim: of the channels. Warns where the values are not what the sigmas were made for, which
    `sigma_name` names.
    """
    channels = image.shape[dim]
    if pairs is not None and len(pairs) not in (1, channels):
        raise ValueError(
            f"image_range: expected (low, high) or {channels} such pairs, one for each channel of "
            f"{name}, got {len(pairs)}"
        )
    if has_values(image):
        for one in image if dim == 1 else [image]:
            if pairs is None:
                warn_of_image(name, one, sigma_name, sigma_beta, _REMEDIES)
            else:
                _warn_of_range(name, one, pairs)
    if pairs is None:
        return image
    if pairs == pairs[:1] * len(pairs):  # no set, which Dynamo before torch 2.7 does not trace
        return _mapped(image, *pairs[0])
    # by numbers: a tensor of them would be a copy from the host, which CUDA graphs do not capture
    planes = zip(image.unbind(dim), pairs, strict=True)
    return torch.stack([_mapped(plane, *pair) for plane, pair in planes], dim)


def _mapped(image: torch.Tensor, low: float, high: float) -> torch.Tensor:
    if (low, high) == (0, 255):
        return image
    values = image if image.is_floating_point() else image.to(torch.float32)
    if low != 0:
        values = values - low
    return values * (255 / (high - low))


def warn_of_image(
    name: str,
    image: torch.Tensor,
    sigma_name: str,
    sigma: Sigma,
    remedies: Mapping[str, str] = REMEDIES,
) -> None:
    """Where the values of a float image cannot be what its sigmas, at least one, were made for."""
    if isinstance(sigma, torch.Tensor):
        numbers_ = values_of(sigma_name, sigma)
        if numbers_ is None:
            return
        sigma = numbers_
    found = _extremes(image) if image.is_floating_point() else None
    if found is not None:
        sigmas = [float(s) for s in sigma] if isinstance(sigma, Sequence) else [float(sigma)]
        warn_of_values(name, found, sigma_name, sigmas, remedies)


_REMEDIES = {
    "unit": "image_range=(0, 1), or {sigma} in the image's units",
    "normalised": "give the image's own values, 0..255, or as image_range what stands for 0 and "
    "255 in these, a pair for each channel",
    "wide": "image_range=(0, 65535), or whatever stands for 0 and 255, or {sigma} in the image's "
    "units",
}


def _warn_of_range(name: str, image: torch.Tensor, pairs: list[Pair]) -> None:
    """Where values lie beyond a stated range by far, or differ by less than a level of it."""
    found = None if pairs == [(0, 255)] else _extremes(image)
    if found is None:
        return
    low, high = min(p[0] for p in pairs), max(p[1] for p in pairs)
    beyond = max(low - found[0], found[1] - high)
    if beyond > 16 * (high - low) or 0 < found[1] - found[0] < (high - low) / 255:
        warn_once(
            "range",
            f"image_range: expected the range of {name}, whose values are from {found[0]:.4g} to "
            f"{found[1]:.4g}, got {pairs[0] if len(pairs) == 1 else tuple(pairs)}",
        )


def _extremes(image: torch.Tensor) -> Pair | None:
    """The least and the largest value, or those of a part; None where they cannot be had."""
    if not has_values(image) or image.numel() == 0:
        return None
    pixels = image.detach()
    try:
        # one of 256 pixels, in microseconds, says enough of a photo of 0..255
        some = pixels[..., ::16, ::16]
        low, high = float(some.min()), float(some.max())
        if 16 < high <= LARGEST_ORDINARY and low > -LARGEST_ORDINARY:
            return low, high
        least, largest = pixels.aminmax()
        return float(least), float(largest)
    except RuntimeError:  # of fake tensors, and of those within vmap
        return None
