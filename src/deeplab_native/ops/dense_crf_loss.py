"""The dense CRF's energy of a segmentation, relaxed to probabilities, as a loss.

Tang et al., "On Regularized Losses for Weakly-supervised CNN Segmentation", ECCV 2018; and
"Normalized Cut Loss for Weakly-supervised CNN Segmentation", CVPR 2018.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from .._autograd import no_gradient
from .._batching import over_batch
from .._native import check_same_device, check_tensor, define_op, widen
from ._dense_crf_inputs import ImageRange
from ._mean_field_checks import NORMALIZATIONS
from ._pixel_filters import check_map, check_sigmas, image_in_range, levels_of, pixel_filters
from .pairwise_features import Sigma

REDUCTIONS = ("mean", "sum", "none")
"""Of the images of a batch to one number: what `dense_crf_loss` may be told."""


def dense_crf_loss(
    image: torch.Tensor,
    probabilities: torch.Tensor,
    roi: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    *,
    sigma_rgb: Sigma = 15.0,
    sigma_xy: Sigma = 100.0,
    scale_factor: float = 1.0,
    constant: bool = True,
    normalized_cut: bool = False,
    ignore_index: int = 255,
    reduction: str = "mean",
    image_range: ImageRange | None = None,
) -> torch.Tensor:
    """Sum over the labels k of S_k^T W (1 - S_k): what the dense CRF pays for a segmentation S.

    W is the bilateral kernel, exp(-|p_i - p_j|^2 / 2 sigma_xy^2 - |I_i - I_j|^2 / 2 sigma_rgb^2),
    not normalised, with the approximation of the permutohedral lattice. The value is that of the
    lattice's quadratic form and the gradient is exactly its own, -(W + W^T) S_k beside what all
    labels share, since the lattice's W is not symmetric; on the way back no lattice is built and
    nothing filtered.

    Args:
        image: (B, C, H, W) of 1 to 62 channels, or volumes (B, C, D, H, W) of up to 61, uint8 or a
            float dtype, with values 0..255 or of `image_range`. No gradient.
        probabilities: S (B, L, H, W), as softmax gives them, float32 or float64; float16 and
            bfloat16 are computed in float32. NaN and infinities make NaN of their image's loss.
        roi: the region of interest (B, H, W) or (B, 1, H, W), of any real dtype: 0 where a pixel
            has no part in it, such as the padding around a crop, else 1. The 1 of the formula is
            the region, then, and S_k what of it lies there. None: everything. A constant.
        labels: integers (B, H, W) or (B, 1, H, W), `ignore_index` where a pixel has none: the gate
            of confident pixels. Row i of W counts fully at a pixel without label, and at others
            times max(roi - the largest probability, 0), a constant. None: all rows count fully.
        sigma_rgb: levels of an image of 0..255, one or one for each channel.
        sigma_xy: pixels, one or one for each axis, (y, x) or (z, y, x); at the full size,
            `scale_factor` shrinks it with the image.
        scale_factor: 0 < scale_factor <= 1, to which everything is made smaller first by
            `torch.nn.functional.interpolate`: probabilities bilinearly, the others to the nearest.
        constant: whether the sum over S_k^T W 1 is in the value. Where the probabilities of every
            pixel add up to 1 it is the same number whatever they are, and the gradient with respect
            to the scores of a softmax does not have it. False: -sum over k of S_k^T W S_k.
        normalized_cut: each label's term over S_k^T W 1, its share of all affinities. Without
            `labels`, and with `constant`.
        ignore_index: see `labels`.
        reduction: "mean" over the images, "sum", or "none": (B,).
        image_range: as of `dense_crf`.

    Returns:
        0-dimensional, or (B,); float32, or float64 as the probabilities. Differentiable any number
        of times with respect to the probabilities. The sums are over pairs of pixels, so that
        weights of such a loss are tiny: 2e-9 was published for crops of 513 pixels at half their
        size.

    Raises:
        TypeError, ValueError: before anything is computed, naming the argument. On CUDA values are
        not looked at: an image that the lattice cannot hold gives NaN.
    """
    _check_flags(constant, normalized_cut, reduction, labels is not None)
    image, pairs = image_in_range(image, image_range)  # type: ignore[assignment]
    probabilities, image = check_map("probabilities", widen(probabilities), image)
    axes_sigmas, rgb_sigmas = check_sigmas(sigma_xy, sigma_rgb, image.shape)
    scale = _check_scale(scale_factor, probabilities)
    roi = None if roi is None else _mask("roi", roi, probabilities)
    labels = None if labels is None else _mask("labels", labels, probabilities)
    image = _smaller(levels_of(image, pairs, rgb_sigmas), scale)
    probabilities = _smaller(probabilities, scale, linear=True)
    space = probabilities.shape[2:]
    if roi is None:
        region = probabilities.new_ones((probabilities.shape[0], *space))
    else:
        region = _smaller(roi, scale)[:, 0].to(probabilities.dtype)
    rows = None
    if labels is not None:
        unlabelled = _smaller(labels, scale)[:, 0] == ignore_index
        doubt = region - probabilities.detach().amax(1)
        rows = torch.where(unlabelled, 1, doubt.clamp_min(0))
    inside = probabilities if roi is None else probabilities * region[:, None]
    sigmas = [sigma * scale for sigma in axes_sigmas] + rgb_sigmas
    one = region if constant else torch.zeros_like(region)
    energies, _ = _dense_crf_loss(inside, one, rows, image, sigmas)  # (B, L)
    if normalized_cut:
        shares = _shares(inside, region, image, sigmas)
        # a label that no pixel has pays nothing, and has no gradient
        energies = torch.where(shares > 0, energies / torch.where(shares > 0, shares, 1), 0)
    of_images = energies.sum(1)
    if reduction == "none":
        return of_images
    return of_images.sum() if reduction == "sum" else of_images.mean()


def _shares(
    inside: torch.Tensor, region: torch.Tensor, image: torch.Tensor, sigmas: list[float]
) -> torch.Tensor:
    """S_k^T W 1 (B, L): the energies of one label of the other kind, whose -S_k^T W S_k is W 1."""
    # with v = 0 and the region as 1 the gradient of v^T W (1 - v) is W 1
    _, mass = _dense_crf_loss(torch.zeros_like(inside[:, :1]), region, None, image, sigmas)
    return (inside * mass).flatten(2).sum(2)


def _check_flags(constant: bool, normalized_cut: bool, reduction: str, gated: bool) -> None:
    for name, flag in (("constant", constant), ("normalized_cut", normalized_cut)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name}: expected True or False, got {flag!r}")
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected one of {', '.join(REDUCTIONS)}; got {reduction!r}")
    if normalized_cut and not constant:
        raise ValueError("constant: expected True with normalized_cut, got False")
    if normalized_cut and gated:
        raise ValueError("labels: expected None with normalized_cut, got labels")


def _check_scale(scale: float, map_: torch.Tensor) -> float:
    if isinstance(scale, bool) or not isinstance(scale, numbers.Real):
        raise TypeError(f"scale_factor: expected a number, got {type(scale).__name__}")
    if not 0 < scale <= 1:  # also for NaN
        raise ValueError(f"scale_factor: expected more than 0 and at most 1, got {scale}")
    if any(n > 0 and n * scale < 1 for n in map_.shape[2:]):
        raise ValueError(
            f"scale_factor: expected one that leaves a pixel of {tuple(map_.shape[2:])}, got "
            f"{scale}"
        )
    return float(scale)


def _mask(name: str, mask: object, map_: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) of a mask (B, H, W) or (B, 1, H, W), detached."""
    mask = check_tensor(name, mask)
    batch, space = map_.shape[0], map_.shape[2:]
    if mask.shape not in ((batch, *space), (batch, 1, *space)):
        raise ValueError(
            f"{name}: expected shape {(batch, *space)} for probabilities of shape "
            f"{tuple(map_.shape)}, got {tuple(mask.shape)}"
        )
    if mask.is_complex():
        raise TypeError(f"{name}: expected real values, got {mask.dtype}")
    if name == "labels" and (mask.is_floating_point() or mask.dtype == torch.bool):
        raise TypeError(f"labels: expected integers, got {mask.dtype}")
    check_same_device(**{"probabilities": map_, name: mask})
    return mask.detach().view(batch, 1, *space)


def _smaller(map_: torch.Tensor, scale: float, *, linear: bool = False) -> torch.Tensor:
    """(B, C, ...) at the scale, the same tensor at 1."""
    if scale == 1:
        return map_
    if linear:
        mode = "bilinear" if map_.ndim == 4 else "trilinear"
        return F.interpolate(map_, scale_factor=scale, mode=mode, align_corners=False)
    known = (
        map_ if map_.is_floating_point() or map_.dtype == torch.uint8 else map_.to(torch.float32)
    )
    return F.interpolate(known, scale_factor=scale)


def _loss_of_batch(
    values: torch.Tensor,
    ones: torch.Tensor,
    rows: torch.Tensor | None,
    image: torch.Tensor,
    sigmas: Sequence[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies v^T R W (r - v) (B, L) and their gradients R W (r - v) - W^T R v, like the values.

    values: v (B, L, H, W), or of volumes. ones: r (B, H, W). rows: the diagonal of R (B, H, W), or
    None where R is the identity.
    """
    # contiguous: the order in which torch adds up depends on the strides
    v, r = values.flatten(2).contiguous(), ones.flatten(1)[:, None]
    weights = None if rows is None else rows.flatten(1)[:, None]
    gradient = torch.empty_like(v, memory_format=torch.contiguous_format)
    energies = v.new_zeros(v.shape[:2])
    if values.numel() == 0:
        return energies, gradient.view(values.shape)
    for own, field in pixel_filters(v, image, sigmas, NORMALIZATIONS["none"]):
        scratch = r[own] - v[own]  # memory for all that is only read: fresh pages cost as much
        pays = field.filter(0, scratch, transposed=False)
        if weights is not None:
            pays *= weights[own]
        torch.mul(v[own], pays, out=scratch)
        for b, one in zip(range(*own.indices(len(v))), scratch, strict=True):
            energies[b] = one.sum(1)  # alone: how CUDA adds up depends on how many there are
        counted = v[own] if weights is None else torch.mul(v[own], weights[own], out=scratch)
        torch.sub(pays, field.filter(0, counted, transposed=True), out=gradient[own])
        del field  # its memory serves the next one
    return energies, gradient.view(values.shape)


def _loss_fake(
    values: torch.Tensor, ones: torch.Tensor, rows: Any, image: torch.Tensor, sigmas: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    gradient = torch.empty_like(values, memory_format=torch.contiguous_format)
    return values.new_empty(values.shape[:2]), gradient


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, ones, rows, image, ctx.sigmas = inputs
    # without, a gradient of the gradient would be zeros, and filtered, in every first derivative
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1], ones, rows, image)


def _backward(
    ctx: Any, of_energies: torch.Tensor | None, of_gradient: torch.Tensor | None
) -> tuple[Any, ...]:
    """The gradient is affine in v, and its linear part -(R W + W^T R) its own transpose."""
    for i, name in ((1, "roi"), (2, "labels"), (3, "image")):
        no_gradient(name, ctx.needs_input_grad[i])
    gradient, ones, rows, image = ctx.saved_tensors
    found = None
    if of_energies is not None:
        found = gradient * of_energies.view(*of_energies.shape, *[1] * (gradient.ndim - 2))
    if of_gradient is not None:
        linear = _dense_crf_loss(of_gradient, torch.zeros_like(ones), rows, image, ctx.sigmas)[1]
        found = linear if found is None else found + linear
    return found, None, None, None, None


def _tangents(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    _, ones, rows, image, sigmas = args
    _, gradient = op(*args)
    _, linear = op(tangents[0], torch.zeros_like(ones), rows, image, sigmas)
    return (gradient * tangents[0]).flatten(2).sum(2), linear


def _vmap(op: Any, size: int, dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
    tensors = [i for i, arg in enumerate(args[:4]) if arg is not None]
    return over_batch(*tensors)(op, size, dims, *args)


_dense_crf_loss = define_op(
    "dense_crf_loss(Tensor values, Tensor ones, Tensor? rows, Tensor image, float[] sigmas) "
    "-> (Tensor, Tensor)",
    cpu=_loss_of_batch,
    cuda=_loss_of_batch,
    fake=_loss_fake,
    vmap=_vmap,
    backward=_backward,
    setup_context=_setup_context,
    tangents=_tangents,
)
