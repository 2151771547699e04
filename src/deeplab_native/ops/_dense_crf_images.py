"""The CRF of the DeepLab paper on images of different sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from .._autograd import no_gradient
from .._integers import integer
from .._native import check_tensor, define_op, on_cuda
from ._crf_vmap import vmap_images, vmap_images_backward
from ._dense_crf_batch import dense_crf_backward_of_batch, dense_crf_of_batch, features_of
from ._dense_crf_inputs import check_channels_first
from ._mean_field_checks import TAKES_IMAGES, check_energies
from ._mean_field_cpu import check_values
from .mean_field import not_twice_differentiable
from .pairwise_features import IMAGE_DTYPES, check_channels, check_finite_image


def check_images(
    unaries: Sequence[torch.Tensor], images: object
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Unaries (L, H, W) and images (C, H, W), or volumes; raises where they cannot be used."""
    if not isinstance(images, Sequence):
        raise TypeError(
            f"image: expected a list of images for a list of unaries, got {type(images).__name__}"
        )
    if len(images) != len(unaries):
        raise ValueError(
            f"image: expected one for each of the {len(unaries)} unaries, got {len(images)}"
        )
    checked = []
    for i, (unary, image) in enumerate(zip(unaries, images, strict=True)):
        axes = _axes_of(f"unary[{i}]", unary)
        check_channels_first(f"image[{i}]", image, f"unary[{i}]", unary, axes)
        own = unary.reshape(unary.shape[-1 - axes :])
        pixels = _check_image(i, image, unary, axes)
        if own.shape[0] < 1:
            raise ValueError(
                f"unary[{i}]: expected at least one label, got shape {tuple(unary.shape)}"
            )
        if own.shape[1:] != pixels.shape[1:]:
            expected = ", ".join(map(str, ("C", *own.shape[1:])))
            raise ValueError(
                f"image[{i}]: expected shape ({expected}) for a unary of {tuple(unary.shape)}, "
                f"got {tuple(image.shape)}"
            )
        check_channels(f"image[{i}]", pixels.shape[0], axes)
        checked.append((own, pixels))
        if pixels.ndim != checked[0][1].ndim or pixels.shape[0] != checked[0][1].shape[0]:
            raise ValueError(
                f"image[{i}]: expected axes and channels as image[0], {tuple(images[0].shape)}, "
                f"got {tuple(image.shape)}"
            )
        if unary.dtype != unaries[0].dtype:
            raise TypeError(
                f"unary[{i}]: expected dtype {unaries[0].dtype} as unary[0], got {unary.dtype}"
            )
        for name, tensor in ((f"unary[{i}]", unary), (f"image[{i}]", image)):
            if tensor.device != unaries[0].device:
                raise ValueError(
                    f"{name}: expected device {unaries[0].device} as unary[0], got {tensor.device}"
                )
    return [own for own, _ in checked], [pixels for _, pixels in checked]


def _axes_of(name: str, unary: object) -> int:
    """2 for (L, H, W) and (1, L, H, W), 3 for other (L, D, H, W) and for (1, L, D, H, W)."""
    layout = "(L, H, W) or (1, L, H, W), or of a volume (L, D, H, W) or (1, L, D, H, W)"
    unary = check_tensor(name, unary, ndim=(3, 4, 5), layout=layout, arrays=TAKES_IMAGES)
    check_energies(name, unary)
    if unary.ndim == 5 and unary.shape[0] != 1:
        raise ValueError(f"{name}: expected {layout}, got shape {tuple(unary.shape)}")
    is_image = unary.ndim == 3 or (unary.ndim == 4 and unary.shape[0] == 1)
    return 2 if is_image else 3


def _check_image(i: int, image: object, unary: torch.Tensor, axes: int) -> torch.Tensor:
    """As (C, H, W), or (C, D, H, W)."""
    layout = "(C, H, W) or (1, C, H, W)"
    if axes == 3:
        layout = "(C, D, H, W) or (1, C, D, H, W), "
        layout += f"as unary[{i}] is a volume, {tuple(unary.shape)}"
    name, ndim = f"image[{i}]", (axes + 1, axes + 2)
    how: Any = {"ndim": ndim, "dtypes": IMAGE_DTYPES, "arrays": TAKES_IMAGES}
    image = check_tensor(name, image, layout=layout, **how)
    if image.ndim == axes + 2 and image.shape[0] != 1:
        raise ValueError(f"{name}: expected {layout}, got shape {tuple(image.shape)}")
    return image.reshape(image.shape[-1 - axes :])


def check_sizes(sizes: object, unary: torch.Tensor) -> list[tuple[int, ...]]:
    """(height, width) of each image of a padded batch, or (depth, height, width)."""
    batch, _, *space = unary.shape
    axes = len(space)
    names = "height and width" if axes == 2 else "depth, height and width"
    expected = f"expected integers ({batch}, {axes}), the {names} of each image"
    if isinstance(sizes, torch.Tensor):
        if sizes.device.type != "cpu":
            raise ValueError(f"sizes: expected a tensor on the CPU, got it on {sizes.device}")
        if sizes.is_floating_point() or sizes.is_complex() or sizes.dtype == torch.bool:
            raise TypeError(f"sizes: {expected}, got {sizes.dtype}")
        if tuple(sizes.shape) != (batch, axes):
            raise ValueError(f"sizes: {expected}, got shape {tuple(sizes.shape)}")
        sizes = sizes.tolist()
    if not isinstance(sizes, Sequence):
        raise TypeError(f"sizes: {expected}, got {type(sizes).__name__}")
    if len(sizes) != batch:
        raise ValueError(f"sizes: {expected}, got {len(sizes)} of them")
    checked = []
    for i, size in enumerate(sizes):
        if not isinstance(size, Sequence) or len(size) != axes:
            one = "(height, width), two" if axes == 2 else "(depth, height, width), three"
            raise TypeError(f"sizes[{i}]: expected {one} integers, got {size!r}")
        own = tuple(integer(f"sizes[{i}]", n, least=0) for n in size)
        if any(n > most for n, most in zip(own, space, strict=True)):
            zero = (0,) * axes
            raise ValueError(f"sizes[{i}]: expected {zero} to {tuple(space)}, got {own}")
        checked.append(own)
    return checked


def padded(q: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Q (L, H, W), or of a volume, with zeros up to this size."""
    missing = [most - n for n, most in zip(q.shape[1:], size, strict=True)]
    return functional.pad(q, [n for axis in reversed(missing) for n in (0, axis)])


def _dense_crf_images(
    unaries: list[torch.Tensor],
    images: list[torch.Tensor],
    weights: list[torch.Tensor],
    sigmas: list[float],
    normalization: int,
    iterations: int,
    scale: float,
    half: bool,
    bridged: bool,
) -> list[torch.Tensor]:
    """Q (L, H, W) of each unary (L, H, W) and image (C, H, W), or of volumes."""
    _check_all_values(unaries, images, weights, sigmas, bridged)
    results: dict[int, torch.Tensor] = {}
    for group in _groups(unaries, images):
        q = dense_crf_of_batch(
            _stack(unaries, group),
            _stack(images, group),
            weights,
            sigmas,
            normalization,
            iterations,
            scale,
            half,
            bridged,
        )
        for i, one in zip(group, q, strict=True):
            results[i] = one if len(group) == 1 else one.clone()  # results share no memory
    return [results[i] for i in range(len(unaries))]


def _dense_crf_images_backward(
    grads: list[torch.Tensor],
    unaries: list[torch.Tensor],
    images: list[torch.Tensor],
    weights: list[torch.Tensor],
    sigmas: list[float],
    normalization: int,
    iterations: int,
    needs_weights: bool,
    scale: float,
    bridged: bool,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    results: dict[int, torch.Tensor] = {}
    grad_weights = [torch.zeros_like(w) for w in weights]
    for group in _groups(unaries, images):
        grad_unaries, of_group = dense_crf_backward_of_batch(
            _stack(grads, group),
            _stack(unaries, group),
            _stack(images, group),
            weights,
            sigmas,
            normalization,
            iterations,
            needs_weights,
            scale,
            bridged,
        )
        for i, one in zip(group, grad_unaries, strict=True):
            results[i] = one if len(group) == 1 else one.clone()
        for total, own in zip(grad_weights, of_group, strict=True):
            total += own
    return [results[i] for i in range(len(unaries))], grad_weights


def _check_all_values(
    unaries: list[torch.Tensor],
    images: list[torch.Tensor],
    weights: list[torch.Tensor],
    sigmas: list[float],
    bridged: bool,
) -> None:
    """On the CPU, every image before the first is worked on; on CUDA values are not looked at."""
    for i, (unary, image) in enumerate(zip(unaries, images, strict=True)):
        if on_cuda(unary):
            return
        check_finite_image(f"image[{i}]", image)
        names = (
            (f"pixels of image[{i}] / sigma_gamma", "params.w2"),
            (f"image[{i}] / (sigma_alpha, sigma_beta)", "params.w1"),
        )
        flat = unary.detach().flatten(1)[None].contiguous()
        features = features_of(image[None], sigmas)
        check_values(flat, features, weights, names, unary_name=f"unary[{i}]", bridged=bridged)


def _groups(unaries: list[torch.Tensor], images: list[torch.Tensor]) -> list[list[int]]:
    """On CUDA all images of one size together; on the CPU each alone, which needs no copies."""
    groups = defaultdict(list)
    for i, (unary, image) in enumerate(zip(unaries, images, strict=True)):
        groups[(unary.shape, image.dtype) if on_cuda(unary) else i].append(i)
    return list(groups.values())


def _stack(tensors: list[torch.Tensor], group: list[int]) -> torch.Tensor:
    if len(group) == 1:
        return tensors[group[0]][None]
    return torch.stack([tensors[i] for i in group])


def _fake(unaries: list[torch.Tensor], *rest: object) -> list[torch.Tensor]:
    return [torch.empty_like(u, memory_format=torch.contiguous_format) for u in unaries]


def _backward_fake(
    grads: list[torch.Tensor],
    unaries: list[torch.Tensor],
    images: list[torch.Tensor],
    weights: list[torch.Tensor],
    *rest: object,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return _fake(grads), [torch.empty_like(w) for w in weights]


_backward_op = define_op(
    "dense_crf_images_backward(Tensor[] grads, Tensor[] unaries, Tensor[] images, "
    "Tensor[] weights, float[] sigmas, int normalization, int iterations, bool needs_weights, "
    "float scale, bool bridged) -> (Tensor[], Tensor[])",
    cpu=_dense_crf_images_backward,
    cuda=_dense_crf_images_backward,
    fake=_backward_fake,
    vmap=vmap_images_backward,
    tangents=not_twice_differentiable("dense_crf"),
    backward=not_twice_differentiable("dense_crf"),
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    unaries, images, weights, *ctx.how, ctx.scale, _, ctx.bridged = inputs
    ctx.count = len(unaries)
    ctx.save_for_backward(*unaries, *images, *weights)


def _backward(ctx: Any, grads: Sequence[torch.Tensor | None]) -> tuple[Any, ...]:
    n = ctx.count
    saved = ctx.saved_tensors
    unaries, images, weights = saved[:n], saved[n : 2 * n], saved[2 * n :]
    # of an image that nothing was computed from there is none
    grads = [torch.zeros_like(u) if g is None else g for g, u in zip(grads, unaries, strict=True)]
    no_gradient("image", ctx.needs_input_grad[1])
    needs_weights = any(ctx.needs_input_grad[2])
    grad_unaries, grad_weights = _backward_op(
        grads, unaries, images, weights, *ctx.how, needs_weights, ctx.scale, ctx.bridged
    )
    return grad_unaries, [None] * n, grad_weights, *[None] * 6


dense_crf_of_images = define_op(
    "dense_crf_images(Tensor[] unaries, Tensor[] images, Tensor[] weights, float[] sigmas, "
    "int normalization, int iterations, float scale, bool half, bool bridged) -> Tensor[]",
    cpu=_dense_crf_images,
    cuda=_dense_crf_images,
    fake=_fake,
    vmap=vmap_images,
    backward=_backward,
    setup_context=_setup_context,
)
