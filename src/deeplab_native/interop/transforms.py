"""`refine` as a transform of samples, in the manner of `torchvision.transforms.v2`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ..crf import refine
from ..crf._arrays import pil_image
from ._options import check_options
from .instances import refine_masks


class RefineMask(torch.nn.Module):
    """Sharpens the masks of samples by the picture that is with them.

    Takes a sample of any form, as the transforms of `torchvision.transforms.v2` do, and stands
    among them, before the picture is normalised. torchvision is not needed.

    - The picture is the entry of `image_key` of a dictionary, or a `tv_tensors.Image` or PIL image,
      or else the first array or tensor of a sequence.
    - The masks are all `tv_tensors.Mask`; where there are none, the entries of `mask_keys`; where
      there are no dictionaries, all other pictures, arrays and tensors of the sequence.

    A mask (H, W) or (1, H, W) of two values or of labels goes to `refine`, (N, H, W) to
    `refine_masks`, one for each object. All else goes through as it is.

    Args:
        image_key: of dictionaries.
        mask_keys: of dictionaries, each of which may be missing.
        together, margin: of `refine_masks`.
        **options: of `refine`.

    Raises:
        TypeError, ValueError: at once for the options; in a call where the sample has no picture or
            no mask.

    Example:
        >>> transform = v2.Compose([RefineMask(confidence=0.8), v2.RandomCrop(513), ...])
        >>> image, mask = RefineMask()(image, mask)
    """

    def __init__(
        self,
        *,
        image_key: str = "image",
        mask_keys: Sequence[str] = ("mask", "masks"),
        together: bool = False,
        margin: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(mask_keys, str) or not all(isinstance(key, str) for key in mask_keys):
            raise TypeError(f"`mask_keys`: expected a list of names, got {mask_keys!r}")
        check_options(options)
        self.image_key, self.mask_keys = image_key, tuple(mask_keys)
        self.together, self.margin, self.options = together, margin, options

    def forward(self, *inputs: Any) -> Any:
        """The sample with its masks sharpened, of the form that was given."""
        sample = inputs if len(inputs) > 1 else inputs[0]
        leaves = list(_leaves(sample, ""))
        image = self._image(leaves)
        masks = self._masks(leaves, image)
        made = {id(mask): self._refined(image, mask) for mask in masks}
        return _rebuilt(sample, lambda leaf: made.get(id(leaf), leaf))

    def extra_repr(self) -> str:
        """The options that were given."""
        said = {"together": self.together, "margin": self.margin} | self.options
        return ", ".join(f"{name}={value!r}" for name, value in said.items())

    def _image(self, leaves: list[tuple[str, Any]]) -> Any:
        for found in (
            [leaf for key, leaf in leaves if key == self.image_key],
            [leaf for _, leaf in leaves if _tv(leaf) == "Image"],
            [leaf for _, leaf in leaves if pil_image(leaf) is not None],
            [leaf for key, leaf in leaves if not key and _is_array(leaf) and not _tv(leaf)],
        ):
            if found:
                return found[0]
        raise ValueError(
            f"sample: no picture (expected an entry {self.image_key!r}, a tv_tensors.Image, a PIL "
            "image, or the picture as the first of a sequence)"
        )

    def _masks(self, leaves: list[tuple[str, Any]], image: Any) -> list[Any]:
        others = [(key, leaf) for key, leaf in leaves if leaf is not image and _is_array(leaf)]
        for found in (
            [leaf for _, leaf in others if _tv(leaf) == "Mask"],
            [leaf for key, leaf in others if key in self.mask_keys],
            [leaf for _, leaf in others] if not any(key for key, _ in leaves) else [],
        ):
            if found:
                return found
        raise ValueError(
            f"sample: no mask (expected a tv_tensors.Mask, an entry {' or '.join(self.mask_keys)}, "
            "or it beside the picture in a sequence)"
        )

    def _refined(self, image: Any, mask: Any) -> Any:
        objects = pil_image(mask) is None and mask.ndim == 3 and mask.shape[0] != 1
        plain = mask.as_subclass(torch.Tensor) if isinstance(mask, torch.Tensor) else mask
        seen = image.as_subclass(torch.Tensor) if isinstance(image, torch.Tensor) else image
        if objects:
            new = refine_masks(
                seen, plain, together=self.together, margin=self.margin, **self.options
            )
        else:
            new = refine(seen, plain, **self.options)
        # whoever made one has imported the module
        return sys.modules["torchvision.tv_tensors"].wrap(new, like=mask) if _tv(mask) else new


def _tv(leaf: object) -> str:
    """Which of torchvision's kinds of tensors it is, as "Image" or "Mask"; "" of all else."""
    kind = type(leaf)
    return kind.__name__ if kind.__module__.startswith("torchvision.tv_tensors") else ""


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, np.ndarray | torch.Tensor) or pil_image(leaf) is not None


def _leaves(sample: Any, key: str) -> Iterator[tuple[str, Any]]:
    """What a sample is made of, each with the name of the entry in which it is, or ""."""
    if isinstance(sample, dict):
        for name, value in sample.items():
            yield from _leaves(value, str(name))
    elif isinstance(sample, list | tuple):
        for value in sample:
            yield from _leaves(value, key)
    else:
        yield key, sample


def _rebuilt(sample: Any, new: Callable[[Any], Any]) -> Any:
    if isinstance(sample, dict):
        return type(sample)({name: _rebuilt(value, new) for name, value in sample.items()})
    if isinstance(sample, list | tuple):
        values = [_rebuilt(value, new) for value in sample]
        # a named tuple takes its values one by one
        return type(sample)(*values) if hasattr(sample, "_fields") else type(sample)(values)
    return new(sample)
