"""The authors' training loss: cross-entropy on the score map, against sub-sampled labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .._autograd import has_wrapper
from .._integers import integer, pair
from .._native import check_same_device, check_tensor
from ..ops.atrous_im2col import FLOATS
from .multi_scale import MultiScaleScores

VOID = 255
"""The label of pixels that count in no loss and no metric."""

_LABELS = (torch.uint8, torch.int32, torch.int64)


def label_shrink(
    labels: torch.Tensor, stride: int, size: Sequence[int], *, void: int = VOID
) -> torch.Tensor:
    """Labels at the pixels of a score map: every `stride`-th, none mixed or moved.

    Args:
        labels: (B, H, W) uint8, int32 or int64.
        stride: image pixels a pixel of the map.
        size: (h, w) of the map. Its pixel i lies at `stride * i` of the image: h pixels where
            H = stride (h - 1) + 1. One more, as of maps that are rounded up, lies outside: void.
        void: label of the pixels outside.

    Returns:
        (B, h, w) int64.

    Raises:
        TypeError, ValueError: `labels` has another type or shape, or a size that gives no such
            map; `stride` or `size` is not positive.

    Source: the label_shrink layers (Interp) of the authors' training nets.
    """
    check_tensor("labels", labels, ndim=3, dtypes=_LABELS, layout="(B, H, W)")
    stride, size = integer("stride", stride, least=1), pair("size", size, least=1)
    shrunk = labels[:, ::stride, ::stride].to(torch.int64)
    beyond = [n - m for n, m in zip(size, shrunk.shape[1:], strict=True)]
    if 0 in shrunk.shape[1:] or any(not 0 <= pixels <= 1 for pixels in beyond):
        raise ValueError(
            f"labels: shape {tuple(labels.shape)} gives {tuple(shrunk.shape[1:])} labels at stride "
            f"{stride}, which is no score map of {size}; expected those of the whole input"
        )
    return nn.functional.pad(shrunk, (0, beyond[1], 0, beyond[0]), value=void)


def loss_terms(scores: MultiScaleScores) -> list[tuple[torch.Tensor, int]]:
    """(score map, image pixels a pixel of it) of every term of the authors' loss."""
    terms = [(scores.fused, scores.output_stride)]
    if len(scores.branches) > 1:  # of a single scale, the branch is the fused map
        terms += zip(scores.branches, scores.strides, strict=True)
    return terms


def score_map_loss(
    scores: torch.Tensor | MultiScaleScores,
    labels: torch.Tensor,
    *,
    output_stride: int = 8,
    void: int = VOID,
) -> torch.Tensor:
    """Softmax cross-entropy over the pixels of the score map, all of the same weight.

    Of several scales it is the sum of the losses of `fused` and of every branch, each of weight 1:
    for scales 1, 0.75 and 0.5 the authors' four. Each is divided by the number of its pixels that
    are not void, in the whole batch (Caffe's normalization VALID); where there are none it is 0.
    The authors' batches are single images whose gradients are averaged over 10 (iter_size).

    Args:
        scores: (B, L, h, w) floating point, or what `DeepLab.multi_scale` returns.
        labels: (B, H, W) uint8, int32 or int64 of the net's whole input: 0 .. L - 1, or `void`.
        output_stride: image pixels a pixel of a tensor `scores`; several scales say their own.
        void: label that does not count.

    Returns:
        Scalar, float32 (float64 for float64 scores). NaN and infinities as in torch's
        `cross_entropy`.

    Raises:
        TypeError, ValueError: an argument has another type or shape, or labels whose size does
            not belong to the map; on the CPU also for labels that are no class (on a GPU reading
            them would wait for it; torch stops there with a device-side assertion), but not of
            samples of `torch.vmap`, whose values nothing may look at.

    Source: DeepLab v2, section 4.1 (the loss), and the authors' training nets.
    """
    if isinstance(scores, MultiScaleScores):
        terms = loss_terms(scores)
    else:
        terms = [(scores, output_stride)]
    for tensor, _ in terms:
        check_tensor("scores", tensor, ndim=4, dtypes=FLOATS, layout="(B, L, h, w)")
    check_tensor("labels", labels, ndim=3, dtypes=_LABELS, layout="(B, H, W)")
    check_same_device(scores=terms[0][0], labels=labels)
    void = integer("void", void, least=-(2**31))
    batch, classes = terms[0][0].shape[:2]
    if labels.shape[0] != batch:
        raise ValueError(f"labels: expected {batch} images, got shape {tuple(labels.shape)}")
    _check_classes(labels, classes, void)
    losses = [_cross_entropy(tensor, labels, stride, void) for tensor, stride in terms]
    return torch.stack(losses).sum()


def _check_classes(labels: torch.Tensor, classes: int, void: int) -> None:
    if labels.device.type != "cpu" or torch.compiler.is_compiling() or has_wrapper(labels):
        return
    wrong = labels[((labels < 0) | (labels >= classes)) & (labels != void)]
    if wrong.numel():
        raise ValueError(
            f"labels: expected classes 0 to {classes - 1} or void {void}, got {int(wrong[0])}"
        )


def _cross_entropy(
    scores: torch.Tensor, labels: torch.Tensor, stride: int, void: int
) -> torch.Tensor:
    target = label_shrink(labels, stride, (scores.shape[2], scores.shape[3]), void=void)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    total = nn.functional.cross_entropy(scores, target, ignore_index=void, reduction="sum")
    return total / (target != void).sum().clamp(min=1)
