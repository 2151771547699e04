"""What a net expects as its input, and how to get there from an RGB image.

The format belongs to the weights: Caffe's nets take BGR around 0..255 with the mean taken away,
torchvision's take RGB scaled to 0..1 and standardised. A net fed with the wrong one still gives
labels, only poor ones, so the format travels with the model and its weights file.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from .._images import read_image
from .._native import check_tensor
from ..ops._dense_crf_inputs import channels_first

Picture: TypeAlias = "np.ndarray | Image.Image | torch.Tensor | str | os.PathLike[str]"


@dataclass(frozen=True)
class Preprocessing:
    """Input format of a net: input[c] = (pixel[c] * scale / 255 - mean[c]) / std[c].

    Attributes:
        channel_order: "BGR" or "RGB", the order of the net's input channels.
        mean: taken away, one value a channel in `channel_order`, in units of `scale`.
        std: divided by, in the same order and units.
        scale: the value of a saturated pixel (255 in the image) before the mean is taken away.

    Raises:
        TypeError, ValueError: an attribute has another type or form, or is not finite.
    """

    channel_order: str = "BGR"
    mean: tuple[float, float, float] = (104.008, 116.669, 122.675)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    scale: float = 255.0

    def __post_init__(self) -> None:
        if self.channel_order not in ("BGR", "RGB"):
            raise ValueError(f'channel_order: expected "BGR" or "RGB", got {self.channel_order!r}')
        for name in ("mean", "std"):
            # JSON gives lists, and in Python's dialect NaN
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise TypeError(f"{name}: expected three numbers, got {value!r}")
            numbers = tuple(_finite(name, v) for v in value)
            if len(numbers) != 3:
                raise ValueError(f"{name}: expected three numbers, got {value!r}")
            object.__setattr__(self, name, numbers)
        object.__setattr__(self, "scale", _finite("scale", self.scale))
        if min(self.std) <= 0:
            raise ValueError(f"std: expected positive numbers, got {self.std}")
        if self.scale <= 0:
            raise ValueError(f"scale: expected a positive number, got {self.scale}")

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """RGB images (B, 3, H, W) uint8 -> net input (B, 3, H, W) float32, on the same device.

        Padding an image with the mean is padding this result with 0.
        """
        check_tensor("images", images, ndim=4, dtypes=(torch.uint8,), layout="(B, 3, H, W)")
        if images.shape[1] != 3:
            raise ValueError(f"images: expected 3 channels (RGB), got shape {tuple(images.shape)}")
        if self.channel_order == "BGR":
            images = images.flip(1)
        values = images.to(torch.float32)
        if self.scale != 255:
            values = values * (self.scale / 255)
        values = values - _channels(self.mean, values)
        return values if self.std == _ONES else values / _channels(self.std, values)


_ONES = (1.0, 1.0, 1.0)
_kept: dict[tuple[Any, ...], torch.Tensor] = {}  # a few input formats on a few devices


def _channels(numbers: tuple[float, float, float], like: torch.Tensor) -> torch.Tensor:
    """One number a channel, (3, 1, 1) like the values: sent to a device once, as that is a wait.

    After the wait it is good for every stream.
    """
    if type(like) is not torch.Tensor or torch.compiler.is_compiling():
        return like.new_tensor(numbers)[:, None, None]
    key = numbers, like.dtype, like.device
    if key not in _kept:
        with torch.inference_mode(False):
            _kept[key] = torch.tensor(numbers, dtype=like.dtype, device=like.device)[:, None, None]
    return _kept[key]


def _finite(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}: expected numbers, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected finite numbers, got {value!r}")
    return float(value)


CAFFE = Preprocessing()
"""The format of the authors' nets: BGR, 0..255, the ImageNet mean taken away, std 1."""

TENSORFLOW = Preprocessing("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
"""The format of TensorFlow's MobileNets: RGB, x / 127.5 - 1."""


def as_rgb_batch(image: Picture, device: torch.device | None = None) -> torch.Tensor:
    """RGB image or images as one tensor (B, 3, H, W) uint8.

    Args:
        image: array (H, W, 3) uint8, PIL image of mode "RGB", or tensor (3, H, W) or (B, 3, H, W)
            uint8; red first in all of them. A PIL image with an EXIF orientation is not turned,
            and warned of. Or the path of a photograph, which is turned upright.
        device: where the tensor shall be; None: where it is, or the CPU. To a GPU it goes from
            pinned memory on the current stream, which nobody waits for.

    Raises:
        TypeError: another type or dtype (a float image may lie in 0..1 or 0..255: say which by
            converting it).
        ValueError: another shape or PIL mode, or an image without pixels. Both say how to convert.
            A file that is no photograph.
        OSError: a file that cannot be read.
    """
    if isinstance(image, (str, os.PathLike)):
        image = read_image(Path(image))
    if isinstance(image, Image.Image):
        if image.mode != "RGB":
            raise ValueError(
                f'image: expected a PIL image of mode "RGB", got {image.mode!r}; '
                'convert it with image.convert("RGB")'
            )
        orientation = image.getexif().get(0x0112, 1)
        if orientation in range(2, 9):
            warnings.warn(
                f"image: has the EXIF orientation {orientation}, and is taken as it is stored "
                "(PIL.ImageOps.exif_transpose(image) turns it upright)",
                stacklevel=4,  # of who called `predict`
            )
        image = np.asarray(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise TypeError(
                f"image: expected dtype uint8 (RGB, 0..255), got {image.dtype}"
                + _of_other_ranges(image.dtype.name, "astype(numpy.uint8)")
            )
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"image: expected an array (H, W, 3), got shape {image.shape}"
                + _of_other_arrays(image.shape)
            )
        batch = _from_array(image, device)
    elif isinstance(image, torch.Tensor):
        layout = "(3, H, W) or (B, 3, H, W)"
        check_tensor("image", image, ndim=(3, 4), layout=layout)
        if image.dtype != torch.uint8:
            dtype = str(image.dtype).removeprefix("torch.")
            raise TypeError(
                f"image: expected dtype torch.uint8 (RGB, 0..255), got {image.dtype}"
                + _of_other_ranges(dtype, "to(torch.uint8)")
            )
        batch = image if image.ndim == 4 else image[None]
        if batch.shape[1] != 3:
            last = (
                f" (channels first: {channels_first(image.ndim)})" if image.shape[-1] == 3 else ""
            )
            raise ValueError(
                f"image: expected a tensor {layout}, got shape {tuple(image.shape)}{last}"
            )
    else:
        raise TypeError(
            "image: expected a path, a numpy array, a PIL image or a torch.Tensor, "
            f"got {type(image).__name__}"
        )
    if batch.numel() == 0:
        raise ValueError(f"image: expected at least one pixel, got shape {tuple(image.shape)}")
    if device is None or batch.device == device:
        return batch
    if device.type != "cuda" or batch.device.type != "cpu":
        return batch.to(device)
    return (batch if batch.is_pinned() else _pinned(batch)).to(device, non_blocking=True)


def _of_other_ranges(dtype: str, as_uint8: str) -> str:
    """How an image of another dtype becomes one of 0..255."""
    if dtype.startswith(("float", "bfloat")):
        return f" ((255 * image).round().{as_uint8} of values 0..1, image.{as_uint8} of 0..255)"
    if dtype == "uint16":
        wide = "image.to(torch.int32)" if "torch" in as_uint8 else "image"
        return f" (({wide} // 257).{as_uint8} of 16 bits)"
    return f" (image.{as_uint8} of values 0..255)"


def _of_other_arrays(shape: tuple[int, ...]) -> str:
    """How an array of another shape becomes (H, W, 3)."""
    if len(shape) == 2:
        return " (of a grey image, numpy.stack([image] * 3, -1))"
    if len(shape) == 3 and shape[0] == 3:
        return " (channels last: image.transpose(1, 2, 0))"
    if len(shape) == 3 and shape[2] == 4:
        return " (without the fourth channel: image[..., :3])"
    if len(shape) == 4:
        order = "" if shape[1] == 3 else ".permute(0, 3, 1, 2)"
        return f" (of several, torch.from_numpy(image){order}, (B, 3, H, W))"
    return ""


def _from_array(image: np.ndarray, device: torch.device | None) -> torch.Tensor:
    """(H, W, 3) -> (1, 3, H, W), contiguous.

    A copy in either case: torch takes neither read-only arrays nor negative strides. For a GPU the
    colours stay together: it takes them apart in microseconds, the CPU in a millisecond.
    """
    if device is None or device.type != "cuda":
        return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))[None]
    pixels = torch.empty(image.shape, dtype=torch.uint8, device="cpu", pin_memory=True)
    np.copyto(pixels.numpy(), image)
    return pixels.to(device, non_blocking=True).permute(2, 0, 1)[None].contiguous()


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in pinned memory, which torch gives to nobody else before the device has read it."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
    return copy.copy_(tensor)
