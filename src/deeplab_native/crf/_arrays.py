"""Pictures and label maps as Python programs hold them: NumPy arrays, PIL images, tensors."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from ..ops._dense_crf_inputs import ImageRange

if TYPE_CHECKING:
    from PIL.Image import Image

Array: TypeAlias = "np.ndarray | torch.Tensor"
_BEYOND = 0.01  # of the range: what rounding or resampling may add
_WANTED = "a NumPy array, a PIL image or a tensor"


def pil_image(value: object) -> Image | None:
    """`value` where it is a PIL image, else None; Pillow is imported by whoever made one."""
    if not type(value).__module__.startswith("PIL."):
        return None
    from PIL import Image

    return value if isinstance(value, Image.Image) else None


def tensor_of(name: str, value: object) -> tuple[torch.Tensor, Callable[[torch.Tensor], Array]]:
    """A tensor of an array or tensor, and what makes the like of it from one.

    Integers of NumPy become int64, and floating point what torch has too. Nothing is written to,
    and no gradient followed.
    """
    if isinstance(value, torch.Tensor):
        device = value.device
        if value.layout != torch.strided or device.type == "meta":
            raise ValueError(f"`{name}`: expected a plain tensor, got {value.layout} on {device}")
        return value.detach(), lambda found: found.to(device)
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        array = np.asarray(value)
    else:
        raise TypeError(f"`{name}`: expected {_WANTED}, got {type(value).__name__}{_advice(value)}")
    if array.dtype.kind not in "buif":
        raise TypeError(f"`{name}`: expected numbers or booleans, got {array.dtype}")
    wanted: Any = {"b": np.bool_, "u": np.int64, "i": np.int64, "f": np.float32}[array.dtype.kind]
    if array.dtype == np.uint8 or array.dtype.newbyteorder("=") == np.float64:
        wanted = array.dtype.newbyteorder("=")
    # a copy where it is read-only, which torch warns of, or has negative strides or odd addresses
    array = np.require(array, wanted, ["C", "W", "A"])
    return torch.from_numpy(array), lambda found: found.cpu().numpy()


def _advice(value: object) -> str:
    if isinstance(value, str | os.PathLike):
        return " (open it first, as by PIL.Image.open; `jobs.refine` takes folders of files)"
    return " (make it one by numpy.asarray)" if isinstance(value, list | tuple) else ""


def photo(image: object, image_range: ImageRange | None) -> torch.Tensor:
    """(3, H, W) uint8 RGB of a picture in any form that `refine` takes."""
    if (picture := pil_image(image)) is not None:
        if picture.mode.startswith(("I", "F")):  # 16 bits and more
            image = np.asarray(picture)
        else:
            image = np.asarray(picture.convert("RGB"))
    pixels, _ = tensor_of("image", image)
    return _bytes(_channels_first(pixels), image_range)


def _channels_first(pixels: torch.Tensor) -> torch.Tensor:
    """(3, H, W), a grey picture three times: `sigma_beta` is of three channels."""
    shape = tuple(pixels.shape)
    if len(shape) == 4 and shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.shape[0] not in (1, 3):
        pixels = pixels.permute(2, 0, 1)
    elif pixels.ndim == 3 and pixels.shape[0] not in (1, 3) and 4 in (shape[0], shape[-1]):
        raise ValueError(
            f"`image`: expected RGB or grey, got {shape}, four channels (leave transparency out: "
            "image[..., :3] or image[:3]; `dense_crf` takes other channels)"
        )
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or pixels.numel() == 0:
        raise ValueError(
            f"`image`: expected one picture (H, W, 3), (H, W) or (3, H, W), got {shape} (a batch "
            "goes one by one, or into `dense_crf`)"
        )
    return pixels.expand(3, -1, -1)


def _bytes(pixels: torch.Tensor, image_range: ImageRange | None) -> torch.Tensor:
    """uint8 of any numbers; raises ValueError where it is not clear how."""
    if pixels.dtype == torch.uint8 and image_range is None:
        return pixels
    if pixels.dtype == torch.bool or pixels.is_complex():
        raise TypeError(f"`image`: expected numbers 0..255 or 0..1, got {pixels.dtype}")
    low, high = (float(bound) for bound in pixels.aminmax())
    between = f"`image`: {pixels.dtype} from {low:.4g} to {high:.4g}"
    if not low <= high or high - low == float("inf"):
        raise ValueError(f"{between} is not finite (mend it)")
    if image_range is None:
        if low < 0:
            raise ValueError(
                f"{between} was normalised (give the picture as it was before, or its smallest and "
                "largest possible values as `image_range`)"
            )
        if high > 255:
            raise ValueError(
                f"{between} is above 255 (give its smallest and largest possible values as "
                "`image_range`, such as (0, 65535))"
            )
        image_range = (0.0, 1.0 if pixels.is_floating_point() and high <= 1 else 255.0)
    black, white = _range(image_range, len(pixels), pixels.device)
    levels = (pixels.double() - black) / (white - black)
    if levels.min() < -_BEYOND or levels.max() > 1 + _BEYOND:
        raise ValueError(f"{between} goes beyond `image_range` {image_range} (widen it)")
    return (levels * 255).round().clamp(0, 255).to(torch.uint8)


def _range(
    image_range: object, channels: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Black and white, (C, 1, 1) or (1, 1, 1)."""
    try:
        pairs = torch.tensor(image_range, dtype=torch.float64, device=device).reshape(-1, 2, 1, 1)
    except (TypeError, ValueError, RuntimeError):
        pairs = torch.zeros(0, 2, 1, 1)
    black, white = pairs.unbind(1)
    if len(pairs) not in (1, channels) or not bool((black < white).all() & pairs.isfinite().all()):
        raise ValueError(
            "`image_range`: expected the values of black and white, such as (0, 1), or a pair for "
            f"each of {channels} channels, got {image_range!r}"
        )
    return black, white
