"""From a score map to the CRF's unary energies at full resolution, in one pass.

Source: Chen et al. 2017 (DeepLab, TPAMI), section 3.1 ("fast bilinear interpolation by an
additional factor of 8") and section 3.3 (unary energies -log P of the label assignment).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
import torch.nn.functional as F

from .. import _C
from .._batching import over_batch
from .._integers import pair
from .._native import call_cuda, check_tensor, define_op, num_threads, on_cuda
from .atrous_im2col import FLOATS, sum_dtype


def upsample_unary(
    scores: torch.Tensor, size: int | Sequence[int], crop: int | Sequence[int] | None = None
) -> torch.Tensor:
    """-log softmax over the labels of the scores, interpolated with the corners aligned.

    What `-log_softmax(interpolate(scores, size, mode="bilinear", align_corners=True), 1)` gives,
    [:, :, :H', :W'] of it with a crop, without an interpolated score in memory.

    Args:
        scores: (B, L, h, w), or (L, h, w) of one image, float32, float64, bfloat16 or float16, any
            strides.
        size: (H, W) of the grid whose corners are the scores' corners: its pixel (Y, X) lies at
            (Y (h - 1) / (H - 1), X (w - 1) / (W - 1)) of the score map.
        crop: (H', W'), at most size: only the first rows and columns of the grid are computed, as
            for an image that was padded at the bottom and the right.

    Returns:
        (B, L, H', W') energies, or (L, H', W'), contiguous; float64 for float64, float32 for all
        other dtypes. NaN and infinities in scores give what torch's two operators do: NaN at the
        pixels that they reach.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: scores of another number of dimensions, or without a label or a pixel; size or
            crop below 1; crop larger than size.
        RuntimeError: CUDA tensors, and a deeplab_native without CUDA; a second derivative.

    Source: Chen et al. 2017, sections 3.1 and 3.3. Differentiable once.
    """
    layout = "(B, L, h, w) or (L, h, w)"
    check_tensor("scores", scores, ndim=(3, 4), dtypes=FLOATS, layout=layout)
    if min(scores.shape[-3:]) < 1:
        raise ValueError(
            f"scores: expected at least one label and one pixel, got shape {tuple(scores.shape)}"
        )
    size = pair("size", size, least=1)
    crop = size if crop is None else pair("crop", crop, least=1)
    if crop[0] > size[0] or crop[1] > size[1]:
        raise ValueError(f"crop: expected at most size {size}, got {crop}")
    if scores.ndim == 3:
        return _upsample_op(scores[None], size, crop)[0]
    return _upsample_op(scores, size, crop)


def _new_energies(scores: torch.Tensor, size: Sequence[int], crop: Sequence[int]) -> torch.Tensor:
    return torch.empty(
        (*scores.shape[:2], *crop), dtype=sum_dtype(scores.dtype), device=scores.device
    )


def _forward(scores: torch.Tensor, size: Sequence[int], crop: Sequence[int]) -> torch.Tensor:
    energies = _new_energies(scores, size, crop)
    args = (
        scores.data_ptr(),
        energies.data_ptr(),
        tuple(scores.shape),
        scores.stride(),
        tuple(size),
        tuple(crop),
        str(scores.dtype).removeprefix("torch."),
    )
    if on_cuda(scores):
        call_cuda("upsample_unary_cuda", scores, *args)
    else:
        _C.upsample_unary_cpu(*args, num_threads())
    return energies


def _new_gradient(
    grad: torch.Tensor, energies: torch.Tensor, scores_size: Sequence[int], size: Sequence[int]
) -> torch.Tensor:
    return energies.new_empty((*energies.shape[:2], *scores_size))


def _backward(
    grad: torch.Tensor, energies: torch.Tensor, scores_size: Sequence[int], size: Sequence[int]
) -> torch.Tensor:
    grad, energies = grad.contiguous(), energies.contiguous()
    grad_sum = grad.sum(1)
    rows = energies.new_empty((*energies.shape[:3], scores_size[1]))
    grad_scores = _new_gradient(grad, energies, scores_size, size)
    args = (
        energies.data_ptr(),
        grad.data_ptr(),
        grad_sum.data_ptr(),
        rows.data_ptr(),
        grad_scores.data_ptr(),
        tuple(grad_scores.shape),
        tuple(size),
        tuple(energies.shape[2:]),
        str(energies.dtype).removeprefix("torch."),
    )
    if on_cuda(energies):
        call_cuda("upsample_unary_backward_cuda", energies, *args)
    else:
        _C.upsample_unary_backward_cpu(*args, num_threads())
    return grad_scores


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    scores, ctx.size, _ = inputs
    ctx.scores_size, ctx.dtype = tuple(scores.shape[2:]), scores.dtype
    ctx.save_for_backward(output)


def _gradient(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    (energies,) = ctx.saved_tensors
    return _backward_op(grad, energies, ctx.scores_size, ctx.size).to(ctx.dtype), None, None


def _tangents(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> torch.Tensor:
    """Forward mode: with P = exp(-energies) and t the interpolated tangents, <P, t> - t."""
    of_scores = tangents[0].to(sum_dtype(tangents[0].dtype))
    _, size, (height, width) = args
    t = F.interpolate(of_scores, tuple(size), mode="bilinear", align_corners=True)
    t = t[:, :, :height, :width]
    probabilities: torch.Tensor = op(*args).neg().exp()
    return (probabilities * t).sum(1, keepdim=True) - t


def _no_second_derivative(*_: Any) -> NoReturn:
    raise RuntimeError(
        "upsample_unary: has no second derivative; interpolate and take log_softmax instead"
    )


_upsample_op = define_op(
    "upsample_unary(Tensor scores, SymInt[2] size, SymInt[2] crop) -> Tensor",
    cpu=_forward,
    cuda=_forward,
    fake=_new_energies,
    vmap=over_batch(0),
    tangents=_tangents,
    backward=_gradient,
    setup_context=_save_for_backward,
)
_backward_op = define_op(
    "upsample_unary_backward(Tensor grad, Tensor energies, SymInt[2] scores_size, SymInt[2] size)"
    " -> Tensor",
    cpu=_backward,
    cuda=_backward,
    fake=_new_gradient,
    vmap=over_batch(0, 1),
    tangents=_no_second_derivative,
    backward=_no_second_derivative,
)
