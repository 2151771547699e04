"""Mean field inference in a fully connected CRF with any list of pairwise kernels.

Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", NIPS 2011, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import torch

from .._autograd import no_gradient
from .._native import define_op, on_cuda, widen
from ._crf_vmap import vmap_mean_field, vmap_mean_field_backward
from ._exact_mean_field import exact_of_kernels
from ._mean_field_checks import (
    NORMALIZATIONS,
    PairwiseKernel,
    check_algorithm,
    check_iterations,
    check_kernels,
    check_precision,
    check_unary,
)
from ._mean_field_cpu import CpuMeanField, cpu_mean_fields
from ._mean_field_cuda import CudaMeanField, cuda_mean_fields
from .pairwise_features import Features


def mean_field(
    unary: torch.Tensor,
    kernels: Sequence[PairwiseKernel],
    *,
    iterations: int = 10,
    precision: str = "single",
    algorithm: str = "lattice",
) -> torch.Tensor:
    """Q <- softmax(-U - sum over m of C_m (K_m Q)), `iterations` times from Q = softmax(-U).

    Args:
        unary: energies (B, L, N), or (L, N) of one image, float32 or float64 (float16 and bfloat16
            are computed in float32), finite; or +inf, which excludes a label at a pixel, as long as
            one is left: its marginal there is 0, and so is its gradient.
        kernels: `PairwiseKernel`s, or tuples of their fields.
        iterations: 0 or more.
        precision: "single", or "half" as of `dense_crf`, where no kernel has more than 16
            dimensions.
        algorithm: "lattice" or "exact", as of `dense_crf`.

    Returns:
        Marginals of the unary's shape that sum to 1 over L; differentiable with respect to the
        unary and the compatibilities (the unrolled iterations; features have no gradient).

    Raises:
        TypeError, ValueError: before any iteration, naming the argument. On CUDA values are not
            looked at, which would be to wait for the device: NaN, -inf, or +inf for all labels of a
            pixel, give NaN in that image, and an image whose features are not finite, or too large,
            is NaN (every image, where they are shared). Compatibilities other than plain numbers
            should be tensors there, or else are copied from the host.
    """
    unary, alone = batch_of(unary)
    checked = check_kernels(unary, kernels)
    if check_algorithm(algorithm):
        how = check_iterations(iterations), check_precision(precision)
        q = exact_of_kernels(unary, checked, *how)
        return q[0] if alone else q
    marginals = _mean_field(
        unary,
        [k.features for k in checked],
        [k.compatibility for k in checked],
        [NORMALIZATIONS[k.normalization] for k in checked],
        check_iterations(iterations),
        check_precision(precision),
    )
    return marginals[0] if alone else marginals


def batch_of(unary: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Energies (B, L, N), checked, and whether they were (L, N), of one image."""
    unary = widen(unary)
    alone = isinstance(unary, torch.Tensor) and unary.ndim == 2
    unary = unary[None] if alone else unary
    check_unary(unary, ndim=3, layout="(B, L, N) or (L, N)")
    return unary, alone


def mean_fields(
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    names: Sequence[tuple[str, str]] | None = None,
    *,
    half: bool = False,
) -> Iterator[tuple[slice, CpuMeanField | CudaMeanField]]:
    """The images of a batch (B, L, N) in groups, each with its mean field.

    Features (N, d) build one lattice for all images. `names` is what errors call the features and
    the compatibility of each kernel. half: updates in float32 on CUDA store rows as float16.
    """
    names = names or [
        (f"kernels[{m}].features", f"kernels[{m}].compatibility") for m in range(len(features))
    ]
    if on_cuda(unary):
        return cuda_mean_fields(unary, features, compatibilities, normalizations, names, half=half)
    return cpu_mean_fields(unary, features, compatibilities, normalizations, names)


def mean_field_of_batch(
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    iterations: int,
    half: bool = False,
    *,
    names: Sequence[tuple[str, str]] | None = None,
) -> torch.Tensor:
    """`mean_field` on checked tensors: Q (B, L, N) of a unary (B, L, N), in its dtype.

    The lists have an item for each kernel: features (B, N, d) or (N, d), compatibility, number of
    the normalization. `half` and `names` as of `mean_fields`.
    """
    q = _like(unary)
    groups = mean_fields(unary, features, compatibilities, normalizations, names, half=half)
    for images, field in groups:
        field.inference(iterations, q[images])
        del field  # its memory serves the next one
    return q


def _like(unary: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(unary, memory_format=torch.contiguous_format)


def _mean_field_fake(
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    iterations: int,
    half: bool,
) -> torch.Tensor:
    return _like(unary)


def mean_field_backward_of_batch(
    grad: torch.Tensor,
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    iterations: int,
    needs_compatibility: bool,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Gradients of the unrolled iterations at full precision, from the last to the first.

    With x_t = -U - sum C_m F_m, F_m = K_m Q_{t-1} and Q_t = softmax(x_t):
    g_x = Q_t (g - <Q_t, g>);  g_U -= g_x;  g_C -= <g_x, F_m>;  g_{Q_{t-1}} = -sum K_m^T C_m^T g_x.
    """
    grad = of_possible(grad, unary)
    grad_unary = torch.zeros_like(grad)
    grad_compatibilities = [torch.zeros_like(c) for c in compatibilities]
    for images, field in mean_fields(unary, features, compatibilities, normalizations):
        g = grad[images]
        q = [field.inference(0, torch.empty_like(g))]
        for _ in range(iterations):
            q.append(field.step(q[-1]))
        for t in range(iterations, -1, -1):
            g_x = q[t] * (g - (q[t] * g).sum(1, keepdim=True))
            grad_unary[images] -= g_x
            if t == 0:
                break
            g = torch.zeros_like(g_x)
            for m, c in enumerate(compatibilities):
                if needs_compatibility:
                    grad_compatibilities[m] += _grad_compatibility(
                        c.ndim, g_x, field.filter(m, q[t - 1], transposed=False)
                    )
                g += field.filter(m, _pairwise(c, g_x), transposed=True)
        del field, q  # their memory serves the next ones
    return grad_unary, grad_compatibilities


def of_possible(grad: torch.Tensor, unary: torch.Tensor) -> torch.Tensor:
    """The gradient (B, L, ...), contiguous, 0 where a label is excluded, whose marginal is 0.

    There -log q has no finite gradient, and q does not change.
    """
    return torch.where(unary.isposinf(), 0, grad).contiguous()


def not_twice_differentiable(name: str) -> Callable[..., NoReturn]:
    """A backward for backward ops: an error instead of second derivatives that are zero."""

    def backward(ctx: Any, *grads: Any) -> NoReturn:
        raise RuntimeError(f"{name}: no second derivatives; differentiate it once")

    return backward


def _pairwise(c: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What a kernel adds to -U, given F or a gradient x (B, L, N): symmetric in the labels."""
    if c.ndim == 0:
        return c * x
    if c.ndim == 1:
        return -c[:, None] * x
    return -0.5 * (c + c.T) @ x


def _grad_compatibility(ndim: int, g_x: torch.Tensor, filtered: torch.Tensor) -> torch.Tensor:
    if ndim == 0:
        return (g_x * filtered).sum()
    if ndim == 1:
        return -(g_x * filtered).sum((0, 2))
    outer = (g_x @ filtered.mT).sum(0)
    return -0.5 * (outer + outer.T)


def _backward_fake(
    grad: torch.Tensor,
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    *rest: object,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.empty_like(grad, memory_format=torch.contiguous_format), [
        torch.empty_like(c) for c in compatibilities
    ]


_mean_field_backward = define_op(
    "mean_field_backward(Tensor grad, Tensor unary, Tensor[] features, Tensor[] compatibilities, "
    "int[] normalizations, int iterations, bool needs_compatibility) -> (Tensor, Tensor[])",
    cpu=mean_field_backward_of_batch,
    cuda=mean_field_backward_of_batch,
    fake=_backward_fake,
    vmap=vmap_mean_field_backward,
    tangents=not_twice_differentiable("mean_field"),
    backward=not_twice_differentiable("mean_field"),
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    unary, features, compatibilities, ctx.normalizations, ctx.iterations, _ = inputs
    ctx.num_features = len(features)
    ctx.save_for_backward(unary, *features, *compatibilities)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    unary, *rest = ctx.saved_tensors
    _, need_features, need_compatibilities, *_ = ctx.needs_input_grad
    no_gradient("features", need_features)
    features, compatibilities = rest[: ctx.num_features], rest[ctx.num_features :]
    grad_unary, grad_compatibilities = _mean_field_backward(
        grad,
        unary,
        features,
        compatibilities,
        ctx.normalizations,
        ctx.iterations,
        any(need_compatibilities),
    )
    return grad_unary, [None] * len(features), grad_compatibilities, None, None, None


_mean_field = define_op(
    "mean_field(Tensor unary, Tensor[] features, Tensor[] compatibilities, int[] normalizations, "
    "int iterations, bool half) -> Tensor",
    cpu=mean_field_of_batch,
    cuda=mean_field_of_batch,
    fake=_mean_field_fake,
    vmap=vmap_mean_field,
    backward=_backward,
    setup_context=_setup_context,
)
