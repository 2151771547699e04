"""What the image processors of `transformers` make of a net's outputs, refined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from ..crf import refine
from ..crf._arrays import photo
from ._options import check_options

if TYPE_CHECKING:
    from PIL.Image import Image


def refine_segmentation(
    images: Sequence[np.ndarray | torch.Tensor | Image] | Any,
    segmentations: Any,
    **options: Any,
) -> list[Any]:
    """Sharpens the segmentations of a batch of pictures.

    The step after `processor.post_process_..._segmentation(outputs, target_sizes=...)`; or in its
    place, which is better, as the CRF then sees the scores.

    Args:
        images: the pictures, each as of `refine`, of any sizes; before the processor.
        segmentations: one of

            - the outputs of a net for semantic segmentation, with `logits` (B, L, h, w): enlarged
              to each picture's size, bilinearly, as the processors do;
            - a list of label maps (H, W), as `post_process_semantic_segmentation` gives;
            - a list of {"segmentation": (H, W), "segmentation_scores": (L, H, W), ...}, as it gives
              with `return_segmentation_scores=True`: the scores (logits) are what is refined;
            - a list of {"segmentation": (H, W), "segments_info": [...]}, as
              `post_process_panoptic_segmentation` and `..._instance_segmentation` give: what is of
              no segment stays a label of its own, and segments that vanish are left out.
        **options: of `refine`, but `kind`.

    Returns:
        A list: of (H, W) int64 tensors on the logits' device for outputs, else of what was given,
        maps and dictionaries of the same types and dtypes.

    Raises:
        TypeError, ValueError: before anything is computed, naming the argument and the place.

    Example:
        >>> outputs = model(**processor(images, return_tensors="pt"))
        >>> labels = refine_segmentation(images, outputs)
    """
    check_options(options, without=("kind",))
    if not isinstance(images, Sequence | torch.Tensor | np.ndarray) or isinstance(images, str):
        raise TypeError(f"`images`: expected a list of pictures, got {type(images).__name__}")
    pictures = [photo(image, options.get("image_range")) for image in images]
    options.pop("image_range", None)
    logits = getattr(segmentations, "logits", None)
    if logits is not None:
        given = list(_checked(logits, len(pictures)))
    elif isinstance(segmentations, Sequence | torch.Tensor | np.ndarray):
        given = list(segmentations)
    else:
        raise TypeError(
            "`segmentations`: expected outputs with `logits`, or a list of what the processor's "
            f"post_process_..._segmentation gives, got {type(segmentations).__name__}"
        )
    if len(given) != len(pictures):
        raise ValueError(
            f"`segmentations`: {len(given)} for {len(pictures)} pictures (one for each of `images`)"
        )
    if logits is None:
        for i, (picture, one) in enumerate(zip(pictures, given, strict=True)):
            _check(one, tuple(picture.shape[1:]), f"`segmentations`[{i}]")
        return [_refined(p, one, options) for p, one in zip(pictures, given, strict=True)]
    return [
        refine(picture, _enlarged(one, picture), kind="logits", **options)
        for picture, one in zip(pictures, given, strict=True)
    ]


def _checked(logits: Any, count: int) -> torch.Tensor:
    if not isinstance(logits, torch.Tensor) or logits.ndim != 4 or len(logits) != count:
        shape = tuple(getattr(logits, "shape", ())) or type(logits).__name__
        raise ValueError(
            f"`segmentations`: expected `logits` ({count}, L, h, w), one for each of `images`, got "
            f"{shape}"
        )
    return logits


def _enlarged(logits: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    size = [int(n) for n in picture.shape[1:]]
    with torch.no_grad():
        return F.interpolate(logits[None].float(), size=size, mode="bilinear")[0]


def _check(given: Any, size: tuple[int, ...], where: str) -> None:
    plane = given
    if isinstance(given, Mapping) or hasattr(given, "keys"):
        if "segmentation" not in given:
            raise ValueError(f"{where}: expected an entry 'segmentation', got {list(given.keys())}")
        plane = given["segmentation"]
    shape = getattr(plane, "shape", None)
    if shape is None:
        raise TypeError(f"{where}: expected a label map, got {type(plane).__name__}")
    if tuple(shape) != size:
        raise ValueError(
            f"{where}: expected {size}, the picture's height and width, got {tuple(shape)} (give "
            "`target_sizes` to post_process_..._segmentation)"
        )


def _refined(picture: torch.Tensor, given: Any, options: dict[str, Any]) -> Any:
    if not (isinstance(given, Mapping) or hasattr(given, "keys")):
        return _map(picture, given, options)
    new = type(given)(given) if isinstance(given, dict) else type(given)(data=dict(given))
    scores = given.get("segmentation_scores")
    if scores is None:
        new["segmentation"] = _map(picture, given["segmentation"], options)
    else:
        labels = refine(picture, scores, kind="logits", **options)
        new["segmentation"] = labels.to(given["segmentation"].dtype)
    if "segments_info" in given:
        left = set(torch.as_tensor(new["segmentation"]).unique().tolist())
        new["segments_info"] = [s for s in given["segments_info"] if s["id"] in left]
    return new


def _map(picture: torch.Tensor, labels: Any, options: dict[str, Any]) -> Any:
    """Numbers below 0, such as the -1 of no segment, are labels like others but for `ignore`."""
    lowest = min(0, int(labels.min())) if "ignore" not in options else 0
    shifted = refine(picture, labels - lowest, kind="labels", **{"ignore": -1} | options)
    return shifted + lowest
