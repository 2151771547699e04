"""The CRF on features that torch makes, so that sigmas and images have gradients.

Where a sigma or a float image may want a gradient, or the number of a sigma is known on the device
alone, `dense_crf` is a `mean_field` on features made here: the same lattices to the bit, in the
same order of pixels. What follows from the gradients of features is autograd's own affair: of a
sigma the sum over the pixels of -<g_f, f> / sigma. Elsewhere features are made by native code, and
not stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .._autograd import has_wrapper, transforms_active
from .._native import check_same_device, has_values
from ._bridged import check_bridged_image
from ._dense_crf_images import dense_crf_of_images
from ._differentiable_features import bilateral_features, grid_features
from ._lattice_cpu import check_lattice
from .crf_params import CRFParams, Sigma, Spacing, sigmas_of, values_of
from .mean_field import _mean_field
from .pairwise_features import check_finite_image

_NAMES = ("sigma_gamma", "sigma_alpha", "sigma_beta")


def by_features(params: CRFParams, images: Sequence[torch.Tensor], scale: float) -> bool:
    """Whether the CRF is to run here; ValueError where it cannot, for a scale below 1."""
    sigmas = {f"params.{name}": getattr(params, name) for name in _NAMES}
    tensors = {name: s for name, s in sigmas.items() if isinstance(s, torch.Tensor)}
    floats = [image for image in images if image.is_floating_point()]
    if not tensors and not floats:
        return False
    wanted = [name for name, s in tensors.items() if s.requires_grad]
    wanted += ["image"] * any(image.requires_grad for image in floats)
    if wanted and torch.is_grad_enabled():
        if scale < 1:
            raise ValueError(
                f"{wanted[0]}: has no gradient with scale={scale}, only with scale=1; pass "
                f"{wanted[0]}.detach()"
            )
        return True
    if any(values_of(name, s) is None for name, s in tensors.items()):
        if scale < 1:
            raise ValueError(
                f"scale: expected 1 for sigmas that are tensors on {_device(tensors)}, got {scale}"
            )
        return True
    # within torch.func it is not seen who wants a gradient
    return scale == 1 and transforms_active() and any(map(has_wrapper, floats))


def _device(tensors: dict[str, torch.Tensor]) -> torch.device:
    return next(iter(tensors.values())).device


def dense_crf_by_features(
    unary: torch.Tensor,
    image: torch.Tensor,
    weights: Sequence[torch.Tensor],
    params: CRFParams,
    spacing: Spacing | None,
    normalization: int,
    iterations: int,
    scale: float,
    half: bool,
    bridged: bool,
    name: str = "image",
) -> torch.Tensor:
    """Q (B, L, H, W) of checked arguments, with gradients of all of them; or of volumes."""
    assert scale == 1, "see by_features"
    if has_values(image):
        check_finite_image(name, image)
    own = {f"params.{n}": getattr(params, n) for n in _NAMES}
    tensors = {n: s for n, s in own.items() if isinstance(s, torch.Tensor)}
    check_same_device(unary=unary, **tensors)
    of_image = image, spacing, torch.float32
    kernels = [
        grid_features(params.sigma_gamma, "params.sigma_gamma", *of_image),
        bilateral_features(params, *of_image),
    ]
    if all(map(has_values, kernels)):
        _check_ranges(kernels, params, image, bridged=bridged)
    try:
        q = _mean_field(
            unary.flatten(2),
            kernels,
            list(weights),
            [normalization] * 2,
            iterations,
            half,
            image.shape[-1],
            bridged,
        )
    except MemoryError as error:
        raise MemoryError(f"{_described(params)}: {error}") from None
    return q.view(unary.shape)


def dense_crf_of_list(
    unaries: list[torch.Tensor],
    images: list[torch.Tensor],
    weights: list[torch.Tensor],
    params: CRFParams,
    shape: Sequence[int],
    spacing: Spacing | None,
    *how: Any,
) -> list[torch.Tensor]:
    """Q (L, H, W) of each image, here or natively; shape: of a batch of such images."""
    for image in images[:1]:  # all have as many channels; there may be none
        check_bridged_image(image[None], bridged=how[4])
    if not by_features(params, images, how[2]):
        sigmas = sigmas_of(params, shape, spacing)
        return dense_crf_of_images(unaries, images, weights, sigmas, *how)
    results = []
    for k, (u, i) in enumerate(zip(unaries, images, strict=True)):
        arguments = u[None], i[None], weights, params, spacing, *how, f"image[{k}]"
        results.append(dense_crf_by_features(*arguments)[0])
    return results


def _check_ranges(
    kernels: Sequence[torch.Tensor],
    params: CRFParams,
    image: torch.Tensor,
    *,
    bridged: bool,
) -> None:
    """ValueError that names the sigma which is too small for the lattice; on the CPU."""
    axes = image.ndim - 2
    names = (("sigma_gamma",) * axes, ("sigma_alpha",) * axes + ("sigma_beta",) * image.shape[1])
    for features, of in zip(kernels, names, strict=True):
        for own in features.detach() if features.ndim == 3 else [features.detach()]:
            try:
                check_lattice(own, "features", like_pydensecrf=True, bridged=bridged)
            except ValueError as error:
                name = of[int(own.abs().amax(0).argmax())]
                sigma = getattr(params, name)
                value = sigma.tolist() if isinstance(sigma, torch.Tensor) else sigma
                raise ValueError(
                    f"params.{name}: got {value}, which is too small for this image ({error})"
                ) from None


def _described(params: CRFParams) -> str:
    def text(sigma: Sigma) -> str:
        return str(sigma.tolist() if isinstance(sigma, torch.Tensor) else sigma)

    return ", ".join(f"params.{name}: got {text(getattr(params, name))}" for name in _NAMES)
