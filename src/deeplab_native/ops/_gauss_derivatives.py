"""Derivatives of the Gaussian sum along a direction h of the features, by Gaussian sums alone.

With c_ij = (f_i - f_j) . (h_i - h_j), the derivative of k_ij along h is -c_ij k_ij, and c is a sum
of 2 d + 2 products of something of i and something of j: sums with that many times the channels.
So second and further derivatives, which are seldom asked for, need no kernels of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Op = Callable[..., torch.Tensor]


def directional(
    transform: Op,
    values: torch.Tensor,
    features: torch.Tensor,
    along: torch.Tensor,
    how: Sequence[Any],
) -> torch.Tensor:
    """-sum over j of k_ij c_ij v_j: (B, N, C) of values (B, N, C), features and along (B, N, d)."""
    of_i, of_j = _factors(features, along)
    sums = transform(_products(values, of_j), features, *how)
    each: torch.Tensor = sums.unflatten(2, (values.shape[2], -1)) * of_i[:, :, None]
    return -each.sum(3)


def directional_of_features_gradient(
    ops: tuple[Op, Op],
    values: torch.Tensor,
    grad: torch.Tensor,
    features: torch.Tensor,
    along: torch.Tensor,
    how: Sequence[Any],
) -> torch.Tensor:
    """Of sum over j of k_ij (f_j - f_i) s_ij, s_ij = g_i . v_j + v_i . g_j: (B, N, d).

    That is sum over j of k_ij ((h_j - h_i) - c_ij (f_j - f_i)) s_ij; both are symmetric matrices
    of (i, j), so that it is also the gradient of <h, that sum> with respect to the features.
    """
    transform, features_gradient = ops
    of_i, of_j = _factors(features, along)
    bent = features_gradient(_products(values, of_j), _products(grad, of_i), features, *how)
    ones = torch.ones_like(along[:, :, :1])
    extended = torch.cat([ones, along], 2)
    moved = [
        (transform(_products(a, extended), features, *how).unflatten(2, (a.shape[2], -1)), b)
        for a, b in ((values, grad), (grad, values))
    ]
    sums = sum((sums * b[..., None]).sum(2) for sums, b in moved)  # of s, and of s h_j
    assert isinstance(sums, torch.Tensor)
    return sums[:, :, 1:] - along * sums[:, :, :1] - bent


def _factors(features: torch.Tensor, along: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """c_ij = <factors of i, factors of j>: two of (B, N, 2 d + 2).

    Around the mean, which changes no difference: products of large coordinates would cancel.
    """
    f = features - features.mean(1, keepdim=True)
    h = along - along.mean(1, keepdim=True)
    dot = (f * h).sum(2, keepdim=True)
    one = torch.ones_like(dot)
    return torch.cat([dot, one, -f, -h], 2), torch.cat([one, dot, h, f], 2)


def _products(values: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Every channel times every factor: (B, N, C * P)."""
    return (values[..., None] * factors[:, :, None]).flatten(2)
