"""Random walks over the pixels of an image, from each to those of similar colour nearby."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .._autograd import linear, no_gradient
from .._batching import front, loop, over_batch
from .._integers import integer
from .._native import define_op, widen
from ._dense_crf_inputs import ImageRange
from ._mean_field_checks import NORMALIZATIONS
from ._pixel_filters import check_map, check_sigmas, image_in_range, levels_of, pixel_filters
from .pairwise_features import Sigma


def random_walk(
    scores: torch.Tensor,
    image: torch.Tensor,
    *,
    sigma_rgb: Sigma,
    sigma_xy: Sigma,
    steps: int = 1,
    image_range: ImageRange | None = None,
) -> torch.Tensor:
    """(D^-1 K)^steps applied to each channel: scores spread to pixels of similar colour nearby.

    K is the bilateral kernel, exp(-|p_i - p_j|^2 / 2 sigma_xy^2 - |I_i - I_j|^2 / 2 sigma_rgb^2),
    with the permutohedral lattice's approximation, and D = diag(K 1), so that every step is a mean:
    a constant map stays, values never leave the range they were in, and channels that add up to 1
    go on doing so, up to rounding (1 / K 1 is float32).

    This is the refinement of class activation maps by a random walk of Ahn and Kwak ("Learning
    Pixel-level Semantic Affinity with Image-level Supervision", PSA, CVPR 2018, section 3.3; IRN,
    CVPR 2019, likewise) with other affinities. Theirs are predicted by a net that was trained for
    it, between pixels at most 5 apart on a map of an eighth of the size; these are of colours and
    positions, reach as far as the sigmas do, and need no training. Their power beta of affinities
    is here a division of both sigmas by sqrt(beta); their 2^8 steps (`--logt 8`) are as many here,
    where a step costs one filter, though affinities that reach further need fewer. Scores are not
    multiplied by those of a background, nor do edges take anything from a pixel.

    Args:
        scores: (B, L, H, W), or (L, H, W) of one image; any numbers, float32 or float64 (float16
            and bfloat16 are computed in float32), where NaN and infinities make NaN of what they
            reach in their image. Of volumes (B, L, D, H, W).
        image: (B, C, H, W), or (C, H, W) of one image, of the scores' size (the net's input made
            smaller by `torch.nn.functional.interpolate`, where they are a net's), uint8 or a float
            dtype, with values 0..255 or of `image_range`. No gradient.
        sigma_rgb: levels of an image of 0..255, one or one for each channel.
        sigma_xy: pixels of the scores, one or one for each axis, (y, x) or (z, y, x).
        steps: 0 or more; the lattice is built once for all.
        image_range: as of `dense_crf`.

    Returns:
        Like the scores, contiguous. Its gradient with respect to them is exact for the lattice: as
        many steps of (D^-1 K)^T.

    Raises:
        TypeError, ValueError: before anything is computed, naming the argument. On CUDA values are
        not looked at: an image that the lattice cannot hold gives NaN.
    """
    steps = integer("steps", steps, least=0)
    image, pairs = image_in_range(image, image_range)  # type: ignore[assignment]
    scores = widen(scores)
    alone = isinstance(scores, torch.Tensor) and scores.ndim == 3
    if alone:
        scores = scores[None]
        image = image[None] if isinstance(image, torch.Tensor) and image.ndim == 3 else image
    scores, image = check_map("scores", scores, image)
    axes_sigmas, rgb_sigmas = check_sigmas(sigma_xy, sigma_rgb, image.shape)
    image = levels_of(image, pairs, rgb_sigmas)
    walked = _random_walk(scores, image, axes_sigmas + rgb_sigmas, steps, False)
    return walked[0] if alone else walked


def _walk_of_batch(
    scores: torch.Tensor, image: torch.Tensor, sigmas: Sequence[float], steps: int, transposed: bool
) -> torch.Tensor:
    x = scores.flatten(2)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    if steps == 0 or scores.numel() == 0:
        return out.copy_(x).view(scores.shape)
    for own, field in pixel_filters(x, image, sigmas, NORMALIZATIONS["after"]):
        walked = x[own]
        for _ in range(steps):
            walked = field.filter(0, walked, transposed=transposed)
        out[own] = walked
        del field  # its memory serves the next one
    return out.view(scores.shape)


def _walk_fake(
    scores: torch.Tensor, image: torch.Tensor, sigmas: Sequence[float], steps: int, transposed: bool
) -> torch.Tensor:
    return torch.empty_like(scores, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, image, ctx.sigmas, ctx.steps, ctx.transposed = inputs
    ctx.save_for_backward(image)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    (image,) = ctx.saved_tensors
    no_gradient("image", ctx.needs_input_grad[1])
    scores = _random_walk(grad, image, ctx.sigmas, ctx.steps, not ctx.transposed)
    return scores, None, None, None, None


def _vmap(
    op: Any, size: int, dims: Sequence[Any], scores: torch.Tensor, image: torch.Tensor, *how: Any
) -> tuple[Any, Any]:
    """Samples that share their images are channels: one lattice serves all."""
    if 0 in scores.shape:
        return loop(op, size, dims, scores, image, *how)
    if dims[1] is not None:
        return over_batch(0, 1)(op, size, dims, scores, image, *how)
    wide = front(scores, dims[0], size).movedim(0, 1)  # (B, size, L, ...)
    return op(wide.flatten(1, 2), image, *how).view(wide.shape), 1


_random_walk = define_op(
    "random_walk(Tensor scores, Tensor image, float[] sigmas, int steps, bool transposed) "
    "-> Tensor",
    cpu=_walk_of_batch,
    cuda=_walk_of_batch,
    fake=_walk_fake,
    vmap=_vmap,
    tangents=linear,
    backward=_backward,
    setup_context=_setup_context,
)
