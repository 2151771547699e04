"""`refine`: a picture and what somebody knows of its labels, in one call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np
import torch

from ..ops._dense_crf_inputs import ImageRange
from ..ops._large_image import check_scale_or_auto, chosen_scale
from ..ops.crf_params import CRFParams, check_params
from ..ops.dense_crf import dense_crf
from ._arrays import Array, photo
from ._given import read

if TYPE_CHECKING:
    from PIL.Image import Image

_Labels = TypeVar("_Labels", np.ndarray, torch.Tensor, "Image")


@overload
def refine(
    image: np.ndarray | torch.Tensor | Image,
    labels_or_scores: _Labels,
    *,
    kind: str = ...,
    confidence: float = ...,
    ignore: int = ...,
    params: CRFParams | str = ...,
    w1: float | None = ...,
    sigma_alpha: float | None = ...,
    sigma_beta: float | None = ...,
    w2: float | None = ...,
    sigma_gamma: float | None = ...,
    iterations: int = ...,
    normalization: str = ...,
    scale: float | str = ...,
    image_range: ImageRange | None = ...,
    device: str | torch.device | None = ...,
    return_probabilities: Literal[False] = ...,
) -> _Labels: ...
@overload
def refine(
    image: np.ndarray | torch.Tensor | Image,
    labels_or_scores: _Labels,
    *,
    kind: str = ...,
    confidence: float = ...,
    ignore: int = ...,
    params: CRFParams | str = ...,
    w1: float | None = ...,
    sigma_alpha: float | None = ...,
    sigma_beta: float | None = ...,
    w2: float | None = ...,
    sigma_gamma: float | None = ...,
    iterations: int = ...,
    normalization: str = ...,
    scale: float | str = ...,
    image_range: ImageRange | None = ...,
    device: str | torch.device | None = ...,
    return_probabilities: Literal[True],
) -> tuple[_Labels, Array]: ...
def refine(
    image: Any,
    labels_or_scores: Any,
    *,
    kind: str = "auto",
    confidence: float = 0.7,
    ignore: int = 255,
    params: CRFParams | str = "voc-resnet101",
    w1: float | None = None,
    sigma_alpha: float | None = None,
    sigma_beta: float | None = None,
    w2: float | None = None,
    sigma_gamma: float | None = None,
    iterations: int = 10,
    normalization: str = "symmetric",
    scale: float | str = "auto",
    image_range: ImageRange | None = None,
    device: str | torch.device | None = None,
    return_probabilities: bool = False,
) -> Any:
    """Sharpens a mask, labels or scores of a picture by the fully connected CRF.

    For one picture in memory; `jobs.refine` is for folders of files, `dense_crf` for batches,
    gradients and energies as they are.

    Args:
        image: (H, W, 3), (3, H, W) or grey (H, W), a NumPy array, PIL image or tensor: integers
            0..255, or floating point, 0..1 where nothing is above 1, else 0..255.
        labels_or_scores: a NumPy array, PIL image or tensor of the picture's height and width:

            - a mask (H, W): booleans, or 0 and 255; floating point 0 and 1, or 0 and 255;
            - labels (H, W): integers, any numbers from 0 on, `ignore`, -1 or -100 where unsure; or
              masks (L, H, W) or (H, W, L), one for each label, none where unsure;
            - a foreground's probability (H, W), floating point;
            - scores (L, H, W) or (H, W, L), floating point: probabilities, or what `kind` says.
        kind: what they are: "mask", "labels", "probabilities", "sigmoid" (of each label by
            itself), "logits" or "energies" (-log p); "auto": recognised by the values, or an error
            that says what they could be.
        confidence: of masks and labels: how often they are right, above 1 / L and below 1.
        ignore: the label of unsure pixels, which the CRF decides.
        params: of the CRF, or the name of a preset.
        w1, sigma_alpha, sigma_beta, w2, sigma_gamma: in place of those of `params`, which
            `CRFParams` explains.
        iterations, normalization: as of `dense_crf`.
        scale: as of `dense_crf`; "auto": 1 up to 2^21 pixels (1024 x 2048), on CUDA 2^25; for
            larger pictures what leaves 2^19 cells (2^21).
        image_range: the values of black and white in `image`, such as (0, 65535), or such a pair
            for each channel: of a picture normalised for a net (-mean / std, (1 - mean) / std).
        device: where to compute; None: where `labels_or_scores` is, or else `image`.
        return_probabilities: whether to return the marginals, too.

    Returns:
        The labels, in a container like `labels_or_scores`, on its device. Of a mask or labels: of
        the same shape, dtype and values, only labels that occurred, none unsure. Of a foreground's
        probability: (H, W) booleans. Of scores and of masks (L, H, W): (H, W) int64.
        With `return_probabilities` (labels, Q): Q (L, H, W) float32, an array or a tensor. Of a
        mask or a foreground's probability Q[1] is the foreground's; of labels Q[i] is that of the
        i-th smallest number; of scores that of channel i.

    Raises:
        TypeError, ValueError: before anything is computed, naming the argument; also for NaN, and
            for infinities other than those that exclude a label (+inf of energies, -inf of logits).

    Example:
        >>> mask = refine(photo, mask)
        >>> labels, q = refine(photo, logits, kind="logits", return_probabilities=True)
    """
    crf = _params(params, w1, sigma_alpha, sigma_beta, w2, sigma_gamma)
    pixels = photo(image, image_range)
    _, height, width = pixels.shape
    given = read(labels_or_scores, (height, width), kind, confidence, ignore)
    where = _device(device, given.unary, pixels)
    scale = check_scale_or_auto(scale)
    with torch.no_grad():
        if len(given.unary) == 1:  # one label everywhere: nothing to decide
            q = torch.ones_like(given.unary)
        else:
            q = dense_crf(
                given.unary[None].float().contiguous().to(where),
                pixels[None].contiguous().to(where),
                crf,
                iterations=iterations,
                normalization=normalization,
                scale=chosen_scale(scale, height * width, torch.empty(0, device=where)),
            )[0]
    labels = given.result(q.argmax(0))
    return (labels, given.array(q)) if return_probabilities else labels


def _params(params: CRFParams | str, *values: float | None) -> CRFParams:
    chosen = CRFParams.preset(params) if isinstance(params, str) else params
    check_params(chosen)
    names = ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma")
    changes: dict[str, Any] = dict(zip(names, values, strict=True))
    return replace(chosen, **{name: v for name, v in changes.items() if v is not None})


def _device(
    device: str | torch.device | None, unary: torch.Tensor, pixels: torch.Tensor
) -> torch.device:
    if device is None:
        found = unary.device if unary.device.type != "cpu" else pixels.device
        return found if found.type == "cuda" else torch.device("cpu")  # where there are kernels
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"`device`: expected cpu, cuda or cuda:N, got {device!r}")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"`device` {device}: expected one of the {torch.cuda.device_count()} GPUs that torch "
            "sees (see nvidia-smi, or use cpu)"
        )
    return chosen
