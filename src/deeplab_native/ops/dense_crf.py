"""The CRF of the DeepLab paper: a bilateral and a Gaussian kernel over the pixels of an image.

Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs", section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch

from .._autograd import no_gradient
from .._native import define_op, widen
from ._bridged import check_bridged_image, check_lattice_kind
from ._crf_vmap import vmap_dense_crf, vmap_dense_crf_backward
from ._dense_crf_batch import dense_crf_backward_of_batch, dense_crf_of_batch
from ._dense_crf_features import by_features, dense_crf_by_features, dense_crf_of_list
from ._dense_crf_images import check_images, check_sizes, padded
from ._dense_crf_inputs import (
    ImageRange,
    Pair,
    as_batch,
    as_image_dtype,
    as_levels,
    check_image_range,
)
from ._exact_dense_crf import exact_of_batch, exact_of_list
from ._mean_field_checks import (
    check_algorithm,
    check_compatibility,
    check_iterations,
    check_normalization,
    check_precision,
    check_scale,
    check_unary,
)
from .crf_params import CRFParams, Spacing, check_params, sigmas_of
from .mean_field import not_twice_differentiable
from .pairwise_features import check_image

Sizes = torch.Tensor | Sequence[Sequence[int]]


@overload
def dense_crf(
    unary: torch.Tensor,
    image: torch.Tensor,
    params: CRFParams,
    *,
    iterations: int = ...,
    normalization: str = ...,
    sizes: Sizes | None = ...,
    scale: float = ...,
    precision: str = ...,
    lattice: str = ...,
    spacing: Spacing | None = ...,
    image_range: ImageRange | None = ...,
    algorithm: str = ...,
) -> torch.Tensor: ...
@overload
def dense_crf(
    unary: Sequence[torch.Tensor],
    image: Sequence[torch.Tensor],
    params: CRFParams,
    *,
    iterations: int = ...,
    normalization: str = ...,
    sizes: None = ...,
    scale: float = ...,
    precision: str = ...,
    lattice: str = ...,
    spacing: Spacing | None = ...,
    image_range: ImageRange | None = ...,
    algorithm: str = ...,
) -> list[torch.Tensor]: ...
def dense_crf(
    unary: torch.Tensor | Sequence[torch.Tensor],
    image: torch.Tensor | Sequence[torch.Tensor],
    params: CRFParams,
    *,
    iterations: int = 10,
    normalization: str = "symmetric",
    sizes: Sizes | None = None,
    scale: float = 1.0,
    precision: str = "single",
    lattice: str = "standard",
    spacing: Spacing | None = None,
    image_range: ImageRange | None = None,
    algorithm: str = "lattice",
) -> torch.Tensor | list[torch.Tensor]:
    """Marginals of the fully connected CRF over the pixels of an image, or a volume's voxels.

    Args:
        unary: energies (B, L, H, W), or (L, H, W) of one image, float32 or float64 (float16 and
            bfloat16 are computed in float32); of probabilities p, -log p. +inf excludes a label at
            a pixel, as long as one is left: its marginal there is 0, and so is its gradient; others
            are finite. Of volumes (B, L, D, H, W). Or a list of images of any sizes, each (L, H, W)
            or (1, L, H, W), or of volumes, each (L, D, H, W) with L above 1 or (1, L, D, H, W), of
            one dtype and device.
        image: (B, C, H, W), or (C, H, W) of one image, of 1 to 62 channels, or (B, C, D, H, W) of
            up to 61, uint8 or a float dtype, with values 0..255 or of `image_range`, on the unary's
            device; for a list of unaries the list of their images, each (C, H, W) or (1, C, H, W),
            or volumes, of one C. Integers of other dtypes need `image_range`.
        params: weights and standard deviations, one or one for each axis and channel;
            `CRFParams.preset` has the published ones.
        iterations: mean field iterations, 0 or more; the paper uses 10.
        normalization: of the kernels: "symmetric" as in pydensecrf, "after" as in the authors'
            tool, "before" or "none".
        sizes: of a padded batch, (height, width) of each image, which begins at the top left:
            integers (B, 2), a tensor on the CPU or a list of pairs, from 0 to (H, W); of volumes
            (depth, height, width), (B, 3). What lies outside is not looked at, and may be NaN.
        scale: 0 < scale <= 1. Below 1, for large images: the CRF runs on one pixel of each cell of
            about 1/scale x 1/scale pixels, with the cell's mean unary and the sigmas of the whole
            image; in the last iteration its messages reach all pixels, so that labels follow the
            edges of the whole image. 1 is the CRF itself.
        precision: "half" stores the sums on the lattices' vertices as float16 between the steps of
            an update, in half the memory. Every sum and marginal stays float32. On 12 photos of VOC
            with a net's scores Q changed by 6e-7 in the mean and 0.016 at most, and 6 of a million
            labels did. Only on CUDA, in float32, with 3 labels or more: elsewhere the result is
            that of "single", as gradients are everywhere, whose iterations are done again.
        lattice: "standard", pydensecrf's, or "bridged", closer to the exact sums and slower, see
            docs/bridged_lattice.md; of at most 16 axes and channels together.
        spacing: of the pixels, as millimetres of the voxels of a scan: one number, or one for each
            axis in the tensor's order, (y, x) or (z, y, x). `params.sigma_alpha` and `sigma_gamma`
            are then in its unit, else in pixels.
        image_range: the values that stand for 0 and 255, the levels that `params.sigma_beta` is
            in: (0, 1), or (0, 65535) of 16 bits; of a normalised image such a pair for each
            channel, (-mean / std, (1 - mean) / std). Values may lie beyond. (0, 255): they are in
            the unit of sigma_beta, whatever they are. None: the same, and the values are looked at.
        algorithm: "lattice", the permutohedral lattice, in time proportional to the pixels; or
            "exact", the sum over all pairs of pixels, which the lattice approximates, in time
            proportional to their square: docs/exact_crf.md. With `scale` 1.

    Returns:
        Q (B, L, H, W), or (L, H, W) as the unary, contiguous; sums to 1 over the labels. For lists
        the list of each image's, shaped like its unary; the same bits as of the image alone. With
        `sizes` each image's as of the image alone, and 0 outside it. Differentiable once, with
        respect to the unary, to weights and sigmas of `params` that are tensors, and to a float
        image; with `scale` below 1 not to sigmas and images. See docs/crf_gradients.md.

    Warns (UserWarning, once in a process, on the CPU) where the values of a float image cannot be
    what sigma_beta was made for: sigma_beta is 1 or more, and no value is above 1 and none negative
    (0..1), or some are negative and none is beyond +-16 (normalised); or sigma_beta is less than a
    255th of the values' range, which goes beyond +-510 (16 bits). Also where they have nothing to
    do with `image_range`. On CUDA to look would be to wait; neither is it done in torch.compile.

    Raises:
        TypeError, ValueError: before any kernel runs on any image, naming the argument.

    On CUDA the call never waits for the device, so a CUDA graph can capture it whole, and values
    cannot be checked: NaN, -inf, or +inf for all labels of a pixel, give NaN in that image, an
    image that the lattice cannot hold is NaN, and all are where a sigma is too small for any. The
    result is the same, bit by bit, in every run and every batch. Images of one size in a list are
    worked on together there; on the CPU one image after the other.

    Example:
        >>> q = dense_crf([unary_a, unary_b], [photo_a, photo_b], params)  # of different sizes
        >>> q = dense_crf(padded, photos, params, sizes=[(375, 500), (333, 500)])
        >>> q = dense_crf(unary, photo, params, scale=0.5)
        >>> q = dense_crf(unary, scan, params, spacing=(5.0, 0.9, 0.9))  # (B, C, D, H, W), in mm
        >>> q = dense_crf(unary, photo / 255, params, image_range=(0, 1))
    """
    check_params(params)
    how = (
        check_normalization(normalization),
        check_iterations(iterations),
        check_scale(scale),
        check_precision(precision),
        check_lattice_kind(lattice, algorithm),
    )
    exact = check_algorithm(algorithm, how[2])
    pairs = check_image_range(image_range)
    if isinstance(unary, Sequence):
        if sizes is not None:
            raise ValueError("sizes: expected None for a list, whose images have their own sizes")
        unaries = [widen(u) for u in unary]
        images = as_image_dtype("image", image, pairs)
        own_unaries, images = check_images(unaries, images)
        images = _levels(images, pairs, params)
        if not unaries:
            return []
        weights = _weights(params, own_unaries[0][None])
        how_of = params, images[0][None].shape, spacing, *how
        of_list = exact_of_list if exact else dense_crf_of_list
        q = of_list(own_unaries, images, weights, *how_of)
        return [one.view(u.shape) for one, u in zip(q, unaries, strict=True)]
    alone = isinstance(unary, torch.Tensor) and unary.ndim == 3
    unary, image = as_batch(widen(unary), as_image_dtype("image", image, pairs))
    layout = "(B, L, H, W) or (L, H, W), or of volumes (B, L, D, H, W)"
    check_unary(unary, ndim=(4, 5), layout=layout)
    image = check_image(image, unary)
    weights = _weights(params, unary)
    if sizes is None:
        check_bridged_image(image, bridged=how[4])
        image = as_levels("image", image, pairs, params.sigma_beta)
        if exact:
            marginals = exact_of_batch(unary, image, weights, params, spacing, *how)
        elif by_features(params, [image], how[2]):
            marginals = dense_crf_by_features(unary, image, weights, params, spacing, *how)
        else:
            sigmas = sigmas_of(params, image.shape, spacing)
            marginals = _dense_crf(unary, image, weights, sigmas, *how)
        return marginals[0] if alone else marginals
    own = [(slice(None), *map(slice, size)) for size in check_sizes(sizes, unary)]
    q = (exact_of_list if exact else dense_crf_of_list)(
        [u[inside] for u, inside in zip(unary, own, strict=True)],
        _levels([i[inside] for i, inside in zip(image, own, strict=True)], pairs, params),
        weights,
        params,
        image.shape,
        spacing,
        *how,
    )
    if not q:  # of no image; with the gradient that it would have
        return unary.clone(memory_format=torch.contiguous_format)
    # not written into one tensor: within torch.vmap it would be no sample's own
    q = [padded(one, unary.shape[2:]) for one in q]
    return q[0] if alone else torch.stack(q)


def _levels(
    images: list[torch.Tensor], pairs: list[Pair] | None, params: CRFParams
) -> list[torch.Tensor]:
    return [
        as_levels(f"image[{i}]", image, pairs, params.sigma_beta, dim=0)
        for i, image in enumerate(images)
    ]


def _weights(params: CRFParams, unary: torch.Tensor) -> list[torch.Tensor]:
    """In the order of the kernels."""
    return [
        check_compatibility("params.w2", params.w2, unary),
        check_compatibility("params.w1", params.w1, unary),
    ]


def _dense_crf_fake(
    unary: torch.Tensor,
    image: torch.Tensor,
    *rest: object,
) -> torch.Tensor:
    return torch.empty_like(unary, memory_format=torch.contiguous_format)


def _dense_crf_backward_fake(
    grad: torch.Tensor,
    unary: torch.Tensor,
    image: torch.Tensor,
    weights: Sequence[torch.Tensor],
    *rest: object,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.empty_like(grad, memory_format=torch.contiguous_format), [
        torch.empty_like(w) for w in weights
    ]


_dense_crf_backward = define_op(
    "dense_crf_backward(Tensor grad, Tensor unary, Tensor image, Tensor[] weights, float[] sigmas, "
    "int normalization, int iterations, bool needs_weights, float scale, bool bridged) "
    "-> (Tensor, Tensor[])",
    cpu=dense_crf_backward_of_batch,
    cuda=dense_crf_backward_of_batch,
    fake=_dense_crf_backward_fake,
    vmap=vmap_dense_crf_backward,
    tangents=not_twice_differentiable("dense_crf"),
    backward=not_twice_differentiable("dense_crf"),
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    unary, image, weights, *ctx.how, ctx.scale, _, ctx.bridged = inputs
    ctx.save_for_backward(unary, image, *weights)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    unary, image, *weights = ctx.saved_tensors
    no_gradient("image", ctx.needs_input_grad[1])
    needs_weights = any(ctx.needs_input_grad[2])
    grad_unary, grad_weights = _dense_crf_backward(
        grad, unary, image, weights, *ctx.how, needs_weights, ctx.scale, ctx.bridged
    )
    return grad_unary, None, grad_weights, *[None] * 6


_dense_crf = define_op(
    "dense_crf(Tensor unary, Tensor image, Tensor[] weights, float[] sigmas, int normalization, "
    "int iterations, float scale, bool half, bool bridged) -> Tensor",
    cpu=dense_crf_of_batch,
    cuda=dense_crf_of_batch,
    fake=_dense_crf_fake,
    vmap=vmap_dense_crf,
    backward=_backward,
    setup_context=_setup_context,
)
