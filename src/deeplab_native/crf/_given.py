"""What `refine` is given beside the picture: a mask, labels, or scores; and the like of it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .._masks import SIGNED_UNSURE, may_be_shades
from ._arrays import Array, pil_image, tensor_of
from .unary import KINDS as SCORE_KINDS
from .unary import check_confidence, energies_from, energies_from_labels, kind_of

if TYPE_CHECKING:
    from PIL.Image import Image

KINDS = ("auto", "mask", "labels", *SCORE_KINDS[1:])
NAME = "labels_or_scores"


@dataclass
class Given:
    """A labelling to refine.

    Attributes:
        unary: (L, H, W) energies; of a single label (1, H, W).
        result: makes what is given back of the index of each pixel's best label, (H, W) int64.
        array: makes an array of a tensor, of the kind that was given.
    """

    unary: torch.Tensor
    result: Callable[[torch.Tensor], Any]
    array: Callable[[torch.Tensor], Array]


def read(value: object, size: tuple[int, int], kind: str, confidence: float, ignore: int) -> Given:
    """Raises TypeError or ValueError where it is not clear what it means, or not of the size."""
    if kind not in KINDS:
        raise ValueError(f"`kind`: expected one of {', '.join(KINDS)}; got {kind!r}")
    picture = pil_image(value)
    if picture is not None:
        if picture.mode not in ("1", "L", "P", "I", "I;16"):
            raise ValueError(
                f"`{NAME}`: a picture of mode {picture.mode} is no mask (convert its colours to "
                "label numbers: mode P or L, the value of a pixel being its label)"
            )
        value = np.asarray(picture)
        if picture.mode == "P" and kind == "auto":
            kind = "labels"  # 0 and 255, too, are numbers of colours
    tensor, array = tensor_of(NAME, value)
    if tensor.is_complex():
        raise TypeError(f"`{NAME}`: expected numbers or booleans, got {tensor.dtype}")

    def like(values: torch.Tensor) -> Any:
        """In the container that was given."""
        return array(values) if picture is None else _picture(array(values), picture)

    plane, stack = _shaped(tensor, size)
    if stack is not None:
        hot = _one_hot(stack, kind)
        if hot is None:
            return Given(_energies(stack, kind), array, array)
        return Given(energies_from_labels(hot, len(stack), confidence, -1), array, array)
    assert plane is not None
    labels = _labels(plane, kind, ignore)
    if labels is None:
        soft = _soft(plane, kind)
        return Given(_energies(soft[None], kind), lambda found: like(found == 1), array)
    index, numbers = labels
    if len(numbers) > 1:
        unary = energies_from_labels(index, len(numbers), confidence, -1)
    else:
        check_confidence(confidence)
        unary = torch.zeros(1, *size, device=index.device)
    # of NumPy's dtypes torch has not all
    dtype = None if isinstance(value, torch.Tensor) else np.asarray(value).dtype
    shape = tensor.shape

    def result(found: torch.Tensor) -> Any:
        said = numbers.to(found.device)[found].reshape(shape)
        if dtype is None:
            return array(said.to(tensor.dtype))
        values = np.asarray(array(said)).astype(dtype)
        return values if picture is None else _picture(values, picture)

    return Given(unary, result, array)


def _shaped(
    tensor: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """One plane (H, W), or a stack (L, H, W)."""
    shape = tuple(tensor.shape)
    if shape == size:
        return tensor, None
    if len(shape) == 4 and shape[0] == 1:
        tensor, shape = tensor[0], shape[1:]
    if len(shape) == 3:
        first, last = shape[1:] == size, shape[:2] == size
        if first or last:
            stack = tensor if first else tensor.permute(2, 0, 1)
            return (stack[0], None) if len(stack) == 1 else (None, stack)
    height, width = size
    turned = size[::-1] in (shape, shape[1:], shape[:2])
    advice = (
        "height and width are exchanged: transpose it"
        if turned
        else "resize one of them first, labels without interpolation"
    )
    raise ValueError(
        f"`{NAME}`: expected ({height}, {width}), (L, {height}, {width}) or ({height}, {width}, L) "
        f"for a picture of {height} x {width}, got {tuple(tensor.shape)} ({advice})"
    )


def _labels(
    plane: torch.Tensor, kind: str, ignore: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Index of each pixel's label, -1 where unsure, and the labels' numbers; None of soft values.

    Background and foreground of a mask are both counted, also where one does not occur.
    """
    if kind not in ("auto", "mask", "labels"):
        return None
    if plane.dtype == torch.bool:
        return plane.long(), torch.tensor([False, True])
    numbers = torch.unique(plane)
    if plane.is_floating_point():
        whole = bool((numbers.isfinite() & (numbers == numbers.round())).all())
        as_labels = whole and float(numbers[-1]) > 1
        if kind == "auto" and not (as_labels or _is_hard(numbers)):
            return None
        if not whole:
            raise ValueError(
                f"`{NAME}`: {plane.dtype} from {float(numbers[0]):.4g} to {float(numbers[-1]):.4g} "
                f"are no {kind} (give `kind` probabilities or logits)"
            )
    if kind == "mask" or (kind == "auto" and _is_hard(numbers)):
        if len(numbers) > 2 or (len(numbers) == 2 and numbers[0] != 0):
            raise ValueError(
                f"`{NAME}`: a mask has 0 and another value, this has {_some(numbers)} "
                '(give `kind` "labels")'
            )
        foreground = numbers[-1:] if numbers[-1] != 0 else torch.ones_like(numbers[-1:])
        return (plane != 0).long(), torch.cat([torch.zeros_like(foreground), foreground]).cpu()
    return _numbered(plane, numbers, kind, ignore)


def _numbered(
    plane: torch.Tensor, numbers: torch.Tensor, kind: str, ignore: int
) -> tuple[torch.Tensor, torch.Tensor]:
    if kind == "auto" and int(numbers.max()) <= 255:
        if may_be_shades(numbers.cpu().numpy()):
            raise ValueError(
                f"`{NAME}`: {len(numbers)} values from {int(numbers[0])} to {int(numbers[-1])} "
                'could be labels, or a mask with soft edges (give `kind` "labels", or '
                '"probabilities" for the share of 255 that is foreground)'
            )
        if numbers.tolist() == [255]:
            raise ValueError(
                f"`{NAME}`: 255 everywhere is a mask without background, or unsure everywhere "
                '(give `kind` "mask" or "labels")'
            )
    unsure = torch.tensor([ignore, *SIGNED_UNSURE], device=plane.device, dtype=torch.int64)
    whole = plane.long().contiguous()
    numbers = numbers.long()
    found = numbers[~torch.isin(numbers, unsure)]
    if not len(found):
        raise ValueError(f"`{NAME}`: no label but {ignore}, which is unsure (label some pixels)")
    if int(found[0]) < 0:
        raise ValueError(
            f"`{NAME}`: label {int(found[0])} (give it as `ignore` where it means unsure, else "
            "number the labels from 0)"
        )
    index = torch.searchsorted(found, whole)
    return index.masked_fill(torch.isin(whole, unsure), -1), found.cpu()


def _is_hard(numbers: torch.Tensor) -> bool:
    """Whether values are those of a mask: 0 and 1, 255 or 65535, of integers the latter two."""
    said = numbers[:3].tolist()
    if numbers.is_floating_point():
        return any(set(said) <= {0, white} for white in (1, 255, 65535))
    return said in ([0, 255], [0, 65535])


def _some(numbers: torch.Tensor) -> str:
    shown = ", ".join(f"{float(n):g}" for n in numbers[:4])
    return f"{shown} and others" if len(numbers) > 4 else shown


def _soft(plane: torch.Tensor, kind: str) -> torch.Tensor:
    """A foreground map of integers as its share of 255."""
    if plane.is_floating_point():
        return plane
    if kind in ("probabilities", "sigmoid") and plane.dtype != torch.bool:
        return plane.float() / (255 if int(plane.max()) <= 255 else 65535)
    raise ValueError(f"`{NAME}`: {plane.dtype} are no {kind} (give floating point)")


def _one_hot(stack: torch.Tensor, kind: str) -> torch.Tensor | None:
    """Index of the only label of each pixel, -1 of none; None where values are between."""
    if kind not in ("auto", "mask", "labels"):
        return None
    hard = stack.dtype == torch.bool or bool(((stack == 0) | (stack == 1)).all())
    if hard and int((count := stack.bool().sum(0)).max()) == 1:
        return stack.byte().argmax(0).masked_fill(count == 0, -1)
    if hard:
        raise ValueError(
            f"`{NAME}`: masks (L, H, W) that overlap, or that are empty (refine them one by one, "
            "or give scores)"
        )
    if not stack.is_floating_point() or kind != "auto":
        raise ValueError(
            f"`{NAME}`: {stack.dtype} {tuple(stack.shape)} are no masks, one for each label (give "
            'labels (H, W); or scores as floating point, or 8-bit ones with `kind` "probabilities")'
        )
    return None


def _energies(stack: torch.Tensor, kind: str) -> torch.Tensor:
    if not stack.is_floating_point():
        stack = torch.stack([_soft(plane, kind) for plane in stack])
    try:
        return energies_from(stack, kind_of(stack, kind))
    except ValueError as error:
        raise ValueError(f"`{NAME}`: {str(error).removeprefix('scores: ')}") from None


def _picture(values: Array, like: Image) -> Image:
    from PIL import Image

    made = Image.fromarray(np.asarray(values))
    if like.mode == "P" and (palette := like.getpalette()) is not None:
        made.putpalette(palette)
    return made
