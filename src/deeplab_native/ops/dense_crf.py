"""The CRF of the DeepLab paper: a bilateral and a Gaussian kernel over the pixels of an image.

Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs", section 3.3.
"""

from __future__ import annotations

import torch

from .._native import define_op
from ..crf.params import CRFParams, check_params
from ._mean_field_checks import (
    check_compatibility,
    check_iterations,
    check_normalization,
    check_unary,
    widen,
)
from .mean_field import (
    mean_field_backward_of_batch,
    mean_field_of_batch,
    not_twice_differentiable,
)
from .pairwise_features import KERNEL_NAMES, check_image, image_features, position_features


def dense_crf(
    unary: torch.Tensor,
    image: torch.Tensor,
    params: CRFParams,
    *,
    iterations: int = 10,
    normalization: str = "symmetric",
) -> torch.Tensor:
    """Marginals of the fully connected CRF over an image's pixels.

    Args:
        unary: energies (B, L, H, W), float32 or float64 (under autocast also its dtype, computed
            in float32), finite; of probabilities p, -log p.
        image: (B, 3, H, W) uint8, or float32 / float64 with values 0..255, on the unary's device.
        params: weights and standard deviations; `CRFParams.preset` has the published ones.
        iterations: mean field iterations, 0 or more; the paper uses 10.
        normalization: of the kernels: "symmetric" as in pydensecrf, "after" as in the authors'
            tool, "before" or "none".

    Returns:
        Q (B, L, H, W), contiguous, like the unary; sums to 1 over the labels. Differentiable with
        respect to the unary, and to `params.w1` and `params.w2` where these are tensors.

    Raises:
        TypeError, ValueError: before any kernel runs, naming the argument.

    On CUDA the call never waits for the device, so a CUDA graph can capture it whole, and values
    cannot be checked: energies that are not finite give NaN in that image, an image that the
    lattice cannot hold is NaN, and all are where a sigma is too small for any. The result is the
    same, bit by bit, in every run and every batch.
    """
    unary = widen(unary)
    check_unary(unary, ndim=4, layout="(B, L, H, W)")
    check_image(image, unary)
    check_params(params)
    return _dense_crf(
        unary,
        image,
        [
            check_compatibility("params.w2", params.w2, unary),
            check_compatibility("params.w1", params.w1, unary),
        ],
        [float(s) for s in (params.sigma_gamma, params.sigma_alpha, params.sigma_beta)],
        check_normalization(normalization),
        check_iterations(iterations),
    )


def _features(image: torch.Tensor, sigmas: list[float]) -> list[torch.Tensor]:
    sigma_gamma, sigma_alpha, sigma_beta = sigmas
    gaussian = position_features(*image.shape[2:], sigma_gamma, device=image.device)
    return [gaussian, image_features(image, sigma_alpha, sigma_beta)]


def _dense_crf_of_batch(unary, image, weights, sigmas, normalization, iterations):
    q = mean_field_of_batch(
        unary.flatten(2),
        _features(image, sigmas),
        weights,
        [normalization] * 2,
        iterations,
        names=KERNEL_NAMES,
    )
    return q.view(unary.shape)


def _dense_crf_fake(unary, image, weights, sigmas, normalization, iterations):
    return torch.empty_like(unary, memory_format=torch.contiguous_format)


def _dense_crf_backward_of_batch(
    grad, unary, image, weights, sigmas, normalization, iterations, needs_weights
):
    grad_unary, grad_weights = mean_field_backward_of_batch(
        grad.flatten(2),
        unary.flatten(2),
        _features(image, sigmas),
        weights,
        [normalization] * 2,
        iterations,
        needs_weights,
    )
    return grad_unary.view(unary.shape), grad_weights


def _dense_crf_backward_fake(grad, unary, image, weights, *rest):
    return torch.empty_like(grad, memory_format=torch.contiguous_format), [
        torch.empty_like(w) for w in weights
    ]


_dense_crf_backward = define_op(
    "dense_crf_backward(Tensor grad, Tensor unary, Tensor image, Tensor[] weights, float[] sigmas, "
    "int normalization, int iterations, bool needs_weights) -> (Tensor, Tensor[])",
    cpu=_dense_crf_backward_of_batch,
    cuda=_dense_crf_backward_of_batch,
    fake=_dense_crf_backward_fake,
    backward=not_twice_differentiable("dense_crf"),
)


def _setup_context(ctx, inputs, output) -> None:
    unary, image, weights, *ctx.rest = inputs
    ctx.save_for_backward(unary, image, *weights)


def _backward(ctx, grad):
    unary, image, *weights = ctx.saved_tensors
    needs_weights = any(w.requires_grad for w in weights)
    grad_unary, grad_weights = _dense_crf_backward(
        grad, unary, image, weights, *ctx.rest, needs_weights
    )
    return grad_unary, None, grad_weights, None, None, None


_dense_crf = define_op(
    "dense_crf(Tensor unary, Tensor image, Tensor[] weights, float[] sigmas, int normalization, "
    "int iterations) -> Tensor",
    cpu=_dense_crf_of_batch,
    cuda=_dense_crf_of_batch,
    fake=_dense_crf_fake,
    backward=_backward,
    setup_context=_setup_context,
)
