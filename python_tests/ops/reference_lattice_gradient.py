"""The permutohedral lattice and the mean field in float64, with gradients by autograd.

The simplex of each point is that of `reference_crf.simplex`, float32 arithmetic and all; within it
the barycentric weights follow from the features by differentiable operations, one after the other.
"""

from __future__ import annotations

import numpy as np
import torch

from python_tests.ops import reference_crf


class Lattice:
    """Of features (N, d), float64; the filter is differentiable with respect to them."""

    def __init__(
        self, features: torch.Tensor, like_pydensecrf: bool = False, bridged: bool = False
    ) -> None:
        given = features.detach().float().cpu().numpy()
        slow = reference_crf.Lattice(given, like_pydensecrf, bridged)
        larger = reference_crf.BRIDGED_SCALE if bridged else 1.0
        self.n, self.d, self.vertices = slow.n, slow.d, torch.as_tensor(slow.vertices)
        count = len(slow.index)
        self.blurs = []
        for axis in range(self.d + 1):
            self.blurs.append(torch.as_tensor(slow.blur(np.eye(count), axis)))
        self.weights = torch.stack([_weights(f, larger) for f in features])
        np.testing.assert_allclose(self.weights.detach().numpy(), slow.weights, rtol=0, atol=1e-3)

    def filter(self, values: torch.Tensor, transposed: bool = False) -> torch.Tensor:
        """(N, C) to (N, C)."""
        count = self.blurs[0].shape[0]
        matrix = torch.zeros(self.n, count, dtype=torch.float64)
        matrix = matrix.scatter_add(1, self.vertices, self.weights)
        rows = matrix.T @ values
        for blur in reversed(self.blurs) if transposed else self.blurs:
            rows = blur @ rows
        return matrix @ rows / (1 + 2.0**-self.d)


def _weights(feature: torch.Tensor, larger: float) -> torch.Tensor:
    """The d + 1 barycentric weights of a feature (d,)."""
    d = len(feature)
    nearest, rank = simplex_of(feature, larger)
    deviation = np.float64(np.float32(np.sqrt(2 / 3) * (d + 1)))
    steps = [1 / np.sqrt((j + 1) * j) * deviation * larger for j in range(1, d + 1)]
    scale = [np.float64(np.float32(step)) for step in steps]
    scaled = [feature[j] * scale[j] for j in range(d)]
    elevated = [sum(scaled[j:]) - (j * scaled[j - 1] if j else 0) for j in range(d + 1)]
    sorted_ = [None] * (d + 1)
    for j in range(d + 1):
        sorted_[rank[j]] = (elevated[j] - nearest[j]) / (d + 1)
    first = sorted_[d] + 1 - sorted_[0]
    return torch.stack([first, *(sorted_[d - r] - sorted_[d - r + 1] for r in range(1, d + 1))])


def simplex_of(feature: torch.Tensor, larger: float = 1.0) -> tuple[list[int], list[int]]:
    """Where a feature (d,) lies: the remainder-0 vertex, and the ranks, which name all others."""
    keys, _ = reference_crf.simplex(feature.detach().float().cpu().numpy(), larger)
    d = len(feature)
    # vertex r has nearest + r, less d + 1 where the rank is above d - r: so the rank is d - (the
    # number of vertices on which it is not yet taken off) + 1
    steps = np.array(keys) - np.array(keys[0])
    rank = [d + 1 - int((steps[:, j] >= 0).sum()) for j in range(d + 1)]
    return list(keys[0]), rank


class MeanField:
    """Q <- softmax(-U + sum P_m K_m Q); unary (L, N), kernels (features, C, normalization)."""

    def __init__(self, unary: torch.Tensor, kernels) -> None:
        self.unary, self.kernels = unary, []
        for features, c, normalization in kernels:
            lattice = Lattice(features, like_pydensecrf=True)
            mass = lattice.filter(torch.ones(lattice.n, 1, dtype=torch.float64))[:, 0]
            before = {"before": 1 / mass, "symmetric": mass**-0.5}.get(normalization, 1)
            after = {"after": 1 / mass, "symmetric": mass**-0.5}.get(normalization, 1)
            self.kernels.append((lattice, c, before, after))

    def inference(self, iterations: int) -> torch.Tensor:
        q = (-self.unary).softmax(0)
        for _ in range(iterations):
            x = -self.unary
            for lattice, c, before, after in self.kernels:
                x = x + pairwise(c, lattice.filter((q * before).T).T * after)
            q = x.softmax(0)
        return q


def pairwise(c: torch.Tensor, filtered: torch.Tensor) -> torch.Tensor:
    """(L, N); c a number, a vector or a matrix."""
    if c.ndim == 0:
        return c * filtered
    return -c[:, None] * filtered if c.ndim == 1 else -0.5 * (c + c.T) @ filtered
