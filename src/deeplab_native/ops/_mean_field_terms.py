"""What a compatibility makes of labels, and its gradient."""

from __future__ import annotations

import torch


def pairwise(c: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What a kernel adds to -U, given F or a gradient x (B, L, N): symmetric in the labels.

    c: a number, a vector (L,) or a matrix (L, L), see `PairwiseKernel`.
    """
    if c.ndim == 0:
        return c * x
    if c.ndim == 1:
        return -c[:, None] * x
    return -0.5 * (c + c.T) @ x


def of_compatibility(ndim: int, h: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The gradient of <x, pairwise(c, K q)> with respect to c of so many dimensions, h = K^T x.

    h, q: (B, L, N).
    """
    if ndim == 0:
        return (h * q).sum()
    if ndim == 1:
        return -(h * q).sum((0, 2))
    outer = (h @ q.mT).sum(0)
    return -0.5 * (outer + outer.T)


def softmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    """With the same bits for any number of threads, and wherever a column lies in a tensor.

    `torch.softmax` over another dimension than the last has neither on a CPU: what is left over at
    the end of a thread's share goes through another exponential (torch 2.13).
    """
    return x.log_softmax(dim).exp()
