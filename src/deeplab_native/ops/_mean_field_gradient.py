"""Gradients of the mean field, of its unrolled iterations, in memory that does not grow with them.

With x_t = -U + sum of P_m K_m Q_{t-1} and Q_t = softmax(x_t), P_m what a compatibility C_m makes of
labels (w; -v of each; -(M + M^T) / 2), the gradient g of Q_T is brought to Q_0 by

    g_x = Q_t (g - <Q_t, g>);   g_U -= g_x;   h_m = K_m^T g_x;   g_{Q_{t-1}} = sum of P_m h_m

One transposed filter for each kernel gives what compatibilities need, too, as <g_x, K_m Q> is
<h_m, Q>. Features need a second one, of P_m Q: csrc/ops/lattice_gradient.h. What they get is summed
over the iterations before the normalisation is differentiated and the simplices are found again.

Marginals: `from_last` keeps CHECKPOINTS of them and makes the steps between them again, with the
same bits. So the memory is CHECKPOINTS + 2 marginals, beside five of their size in which a step is
undone, and the lattices, whatever the number of iterations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ._checkpoints import from_last
from ._mean_field_cpu import CpuMeanField
from ._mean_field_gradient_cpu import CpuGradient
from ._mean_field_gradient_cuda import CudaGradient
from ._mean_fields import mean_fields
from .pairwise_features import Features

Gradients = tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]


def mean_field_backward_of_batch(
    grad: torch.Tensor,
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    iterations: int,
    needs_compatibility: bool,
    needs_features: Sequence[bool] = (),
    width: int = 0,
    bridged: bool = False,
) -> Gradients:
    """With respect to the unary, the compatibilities and the features, at full precision.

    needs_features: of each kernel, whose features are then tensors; none for all. The gradient of
    features that need none is empty. width, bridged: those of `mean_fields`.
    """
    grad = of_possible(grad, unary)
    grad_unary = torch.empty_like(grad)
    grad_compatibilities = [torch.zeros_like(c) for c in compatibilities]
    wanted = [m for m, needed in enumerate(needs_features) if needed]
    tensors = [f for f in features if isinstance(f, torch.Tensor)]
    grad_features = [f.new_zeros(f.shape if m in wanted else (0,)) for m, f in enumerate(tensors)]
    how = compatibilities, normalizations
    fields = mean_fields(unary, features, *how, width=width, bridged=bridged)
    for images, field in fields:
        own = {m: tensors[m] if tensors[m].ndim == 2 else tensors[m][images] for m in wanted}
        of_group: CpuGradient | CudaGradient
        if isinstance(field, CpuMeanField):
            of_group = CpuGradient(field, compatibilities, own)
        else:
            of_group = CudaGradient(field, compatibilities, own)
        needed = grad_compatibilities if needs_compatibility else []
        grad_unary[images] = _of_unary(of_group, grad[images], iterations, needed)
        for m in wanted:
            total = grad_features[m]
            (total if total.ndim == 2 else total[images]).add_(of_group.of_features(m))
        del field, of_group  # their memory serves the next ones
    return grad_unary, grad_compatibilities, grad_features


def _of_unary(
    of: CpuGradient | CudaGradient,
    grad: torch.Tensor,
    iterations: int,
    grad_compatibilities: list[torch.Tensor],
) -> torch.Tensor:
    """(B, L, N); adds to the compatibilities, of which there are none where they need nothing."""
    g, g_x, total = of.rows(grad), None, None
    for q in from_last(of.first(), iterations, of.step):
        if g_x is not None:  # of the update that this q went into
            g = torch.zeros_like(g_x)
            for m in range(of.num_kernels):
                h = of.filtered(m, q, g_x)
                if grad_compatibilities:
                    grad_compatibilities[m] += of.of_compatibility(m, h, q)
                g += of.pairwise(m, h)
                del h
        g_x = q * (g - (q * g).sum(of.labels, keepdim=True))
        total = -g_x if total is None else total.sub_(g_x)
        del q  # while the next one is made
    assert total is not None
    return of.planes(total)


def of_possible(grad: torch.Tensor, unary: torch.Tensor) -> torch.Tensor:
    """The gradient (B, L, ...), contiguous, 0 where a label is excluded, whose marginal is 0.

    There -log q has no finite gradient, and q does not change.
    """
    return torch.where(unary.isposinf(), 0, grad).contiguous()
