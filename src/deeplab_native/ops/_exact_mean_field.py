"""The mean field itself, in time proportional to N^2: Kraehenbuehl and Koltun 2011, algorithm 1.

With the exact kernels in place of the lattice's. Made of differentiable parts, so that autograd has
the gradients of everything that goes in: energies, compatibilities, features, and what they are
made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from .._autograd import transforms_active
from .._native import has_values, on_cuda, products_use_tf32
from ._gauss_op import transform
from ._mean_field_checks import NORMALIZATIONS, CheckedKernel
from ._mean_field_cpu import finite_energies
from ._mean_field_terms import pairwise, softmax
from .gauss_transform import SortedPoints, check_cutoff

Filter = Callable[[torch.Tensor], torch.Tensor]  # (B, C, N) -> (B, C, N): times K, a symmetric one


class Term(NamedTuple):
    """One pairwise kernel: K, its compatibility (), (L,) or (L, L), and a `NORMALIZATIONS` number.

    name: what errors call the compatibility.
    """

    filter: Filter
    compatibility: torch.Tensor
    normalization: int
    name: str


def exact_mean_field(
    unary: torch.Tensor, terms: Sequence[Term], iterations: int, unary_name: str = "unary"
) -> torch.Tensor:
    """Q (B, L, N) of energies (B, L, N); its memory, as gradients need it, is one Q an iteration.

    Within an iteration what was computed is not kept, but computed again for the gradient.
    """
    _check_values(unary, terms, unary_name)
    terms = terms if iterations else []
    with torch.autocast(unary.device.type, enabled=False):
        normalised = [_normalised(term, unary) for term in terms]

        def step(q: torch.Tensor) -> torch.Tensor:
            x = -unary
            for term, filter_ in zip(terms, normalised, strict=True):
                x = x + _pairwise(term.compatibility, filter_(q))
            return softmax(x, 1)

        q = softmax(-unary, 1)
        for _ in range(iterations):
            q = (
                checkpoint(step, q, use_reentrant=False, preserve_rng_state=False)
                if (q.requires_grad and _has_hooks())
                else step(q)
            )
    # an excluded label has no gradient, nor what is made of its marginal, as -log q
    return torch.where(unary.isposinf(), 0, q)


def exact_of_kernels(
    unary: torch.Tensor, kernels: Sequence[CheckedKernel], iterations: int, half: bool
) -> torch.Tensor:
    """Q (B, L, N) of energies (B, L, N), as of `mean_field`."""
    terms = []
    for m, kernel in enumerate(kernels):
        filter_ = points_filter(kernel.features, unary, f"kernels[{m}].features", half=half)
        number = NORMALIZATIONS[kernel.normalization]
        terms.append(Term(filter_, kernel.compatibility, number, f"kernels[{m}].compatibility"))
    return exact_mean_field(unary, terms, iterations)


def _has_hooks() -> bool:
    """Whether autograd can be told to compute again: not within torch.func, nor while compiled."""
    return not transforms_active() and not torch.compiler.is_compiling()


def _normalised(term: Term, unary: torch.Tensor) -> Filter:
    if term.normalization == NORMALIZATIONS["none"]:
        return term.filter
    mass = term.filter(unary.new_ones((unary.shape[0], 1, unary.shape[2]))) + 1e-20
    if term.normalization == NORMALIZATIONS["symmetric"]:
        scale = mass.rsqrt()
        return lambda q: scale * term.filter(scale * q)
    if term.normalization == NORMALIZATIONS["before"]:
        return lambda q: term.filter(q / mass)
    return lambda q: term.filter(q) / mass


def _pairwise(c: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What a kernel adds to -U, given K Q (B, L, N)."""
    if c.ndim < 2:
        return pairwise(c, x)
    wide = c.to(wide_dtype(x))
    if x.shape[0] == 0:
        return pairwise(wide, x.to(wide.dtype)).to(x.dtype)
    return _image_by_image(lambda one: pairwise(wide, one.to(wide.dtype)).to(x.dtype), x)


def _image_by_image(function: Filter, x: torch.Tensor) -> torch.Tensor:
    """Products of matrices of one image, whose sums torch may order otherwise for a batch."""
    return torch.stack([function(one) for one in x])


def points_filter(
    features: torch.Tensor, unary: torch.Tensor, name: str, *, half: bool = False
) -> Filter:
    """K of features (N, d) or (B, N, d), of points in any order; name: what errors call them."""
    features = features.to(unary.dtype)
    if has_values(features) and not features.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinite ones")
    cutoff = check_cutoff(None, unary.dtype)
    if features.ndim == 3:
        each = SortedPoints(features)
        return lambda x: each.transform(x.mT, cutoff, half=half).mT
    shared = SortedPoints(features[None])  # one image with the channels of all

    def filter_(x: torch.Tensor) -> torch.Tensor:
        wide = x.flatten(0, 1).mT[None]
        out: torch.Tensor = shared.transform(wide, cutoff, half=half)[0].mT.view(x.shape)
        return out

    return filter_


def grid_filter(size: Sequence[int], sigmas: Sequence[torch.Tensor], unary: torch.Tensor) -> Filter:
    """K of the pixels' positions over the axes' sigmas: one small product for each axis."""
    along = _sums_along if unary.device.type == "cpu" and not on_cuda(unary) else _products_along
    axes = [along(n, sigma, unary) for n, sigma in zip(size, sigmas, strict=True)]

    def of_image(q: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = q.reshape(-1, *size)
        for axis, filter_ in enumerate(axes, start=1):
            x = filter_(x.movedim(axis, -1)).movedim(-1, axis)
        return x.reshape(q.shape).to(q.dtype)

    return lambda q: _image_by_image(of_image, q) if len(q) else q.clone()


def _products_along(n: int, sigma: torch.Tensor, unary: torch.Tensor) -> Filter:
    """K of n positions in a row, times the last dimension: by torch's product of matrices."""
    dtype = wide_dtype(unary)
    x = torch.arange(n, dtype=dtype, device=unary.device) / sigma
    factor = (-0.5 * (x[:, None] - x).square()).exp()
    return lambda q: q.to(dtype) @ factor.to(dtype)


def _sums_along(n: int, sigma: torch.Tensor, unary: torch.Tensor) -> Filter:
    """The same on a CPU, where torch's products of matrices depend on the number of threads."""
    x = torch.arange(n, dtype=unary.dtype, device=unary.device)
    points = (x / sigma).to(unary.dtype)[None, :, None]
    cutoff = check_cutoff(None, unary.dtype)

    def filter_(q: torch.Tensor) -> torch.Tensor:
        rows = q.reshape(-1, n)
        return transform(rows.mT[None], points, cutoff, False)[0].mT.view(q.shape)

    return filter_


def wide_dtype(tensor: torch.Tensor) -> torch.dtype:
    """In which products of matrices keep all bits of the dtype: torch may take TF32 for float32."""
    return torch.float64 if tensor.is_cuda and products_use_tf32() else tensor.dtype


def _check_values(unary: torch.Tensor, terms: Sequence[Term], name: str) -> None:
    """On the CPU; on CUDA it would be to wait for the device."""
    if has_values(unary):
        finite_energies(unary.detach().contiguous(), name)
    for term in terms:
        if has_values(term.compatibility) and not term.compatibility.isfinite().all():
            numbers = term.compatibility.detach().flatten().tolist()
            raise ValueError(f"{term.name}: expected finite numbers, got {numbers}")
