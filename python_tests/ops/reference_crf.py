"""Slow, obvious versions of the permutohedral lattice and the mean field, in NumPy.

Written from the papers (Adams, Baek and Davis 2010; Kraehenbuehl and Koltun 2011), one point at a
time; only the float32 arithmetic that decides in which simplex a point lies follows the order of
operations that the kernels promise.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

BRIDGED_SCALE = 1.04  # what a bridged lattice multiplies features with


class Lattice:
    """The lattice of features (N, d): which vertices each point touches, and their neighbours."""

    def __init__(
        self, features: np.ndarray, like_pydensecrf: bool = False, bridged: bool = False
    ) -> None:
        features = np.asarray(features, np.float32)
        self.n, self.d = features.shape
        larger = BRIDGED_SCALE if bridged else 1.0
        self.index: dict[tuple[int, ...], int] = {}
        self.vertices = np.zeros((self.n, self.d + 1), int)
        self.weights = np.zeros((self.n, self.d + 1))
        for i, feature in enumerate(features):
            keys, self.weights[i] = simplex(feature, larger)
            for r, key in enumerate(keys):
                self.vertices[i, r] = self.index.setdefault(key, len(self.index))
        if like_pydensecrf and self.n % 4:
            for key in simplex(np.zeros(self.d, np.float32))[0]:
                self.index.setdefault(key, len(self.index))
        self.touched = len(self.index)
        if bridged:
            self._add_bridges()

    def _add_bridges(self) -> None:
        """Every vertex that is missing and has two neighbours, or more, which are there."""
        neighbours = Counter(
            key
            for vertex in self.index
            for axis in range(self.d + 1)
            for key in (self._next(vertex, axis, -1), self._next(vertex, axis, 1))
            if key not in self.index
        )
        for key, count in neighbours.items():
            if count >= 2:
                self.index[key] = len(self.index)

    def _next(self, vertex: tuple[int, ...], axis: int, sign: int) -> tuple[int, ...]:
        return tuple(k + sign * (self.d if j == axis else -1) for j, k in enumerate(vertex))

    def blur(self, values: np.ndarray, axis: int) -> np.ndarray:
        """1/2, 1, 1/2 along one axis: +d in its coordinate, -1 in the others."""
        out = values.copy()
        for key, v in self.index.items():
            for sign in (-1, 1):
                neighbour = self.index.get(self._next(key, axis, sign))
                if neighbour is not None:
                    out[v] += 0.5 * values[neighbour]
        return out

    def filter(self, values: np.ndarray, transposed: bool = False) -> np.ndarray:
        """alpha S_slice B_d ... B_0 S_splat values, (N, C); transposed: blurs reversed."""
        rows = np.zeros((len(self.index), values.shape[1]))
        for i in range(self.n):
            for r in range(self.d + 1):
                rows[self.vertices[i, r]] += self.weights[i, r] * values[i]
        axes = range(self.d + 1)
        for axis in reversed(axes) if transposed else axes:
            rows = self.blur(rows, axis)
        alpha = 1 / (1 + 2.0**-self.d)
        return alpha * np.einsum("nr,nrc->nc", self.weights, rows[self.vertices])


def simplex(feature: np.ndarray, larger: float = 1.0) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """The d + 1 vertices (all d + 1 coordinates) around a feature (d,), and their weights."""
    f32, d = np.float32, len(feature)
    deviation = f32(np.sqrt(2 / 3) * (d + 1))
    elevated = np.zeros(d + 1, np.float32)
    total = f32(0)
    for j in range(d, 0, -1):
        scaled = feature[j - 1] * f32(1 / np.sqrt((j + 1) * j) * np.float64(deviation) * larger)
        elevated[j] = total - f32(j) * scaled
        total = total + scaled
    elevated[0] = total

    rounded = np.rint(elevated * (f32(1) / f32(d + 1)))
    nearest = rounded * f32(d + 1)
    difference = elevated - nearest
    rank = np.zeros(d + 1, int)
    for i in range(d + 1):
        for j in range(i + 1, d + 1):
            if difference[i] < difference[j]:
                rank[i] += 1
            else:
                rank[j] += 1
    rank += int(rounded.sum())
    nearest = nearest + np.where(rank < 0, d + 1, 0) - np.where(rank > d, d + 1, 0)
    rank = rank + np.where(rank < 0, d + 1, 0) - np.where(rank > d, d + 1, 0)

    offset = (elevated - nearest.astype(np.float32)) * (f32(1) / f32(d + 1))
    sorted_offset = np.zeros(d + 1)
    sorted_offset[rank] = offset
    weights = np.zeros(d + 1)
    weights[0] = sorted_offset[d] + 1 - sorted_offset[0]
    for r in range(1, d + 1):
        weights[r] = sorted_offset[d - r] - sorted_offset[d - r + 1]
    keys = []
    for r in range(d + 1):
        wrapped = np.where(rank > d - r, r - (d + 1), r)
        keys.append(tuple(int(k) for k in nearest + wrapped))
    return keys, weights


def gaussian_filter(values: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The exact sum over j of exp(-|f_i - f_j|^2 / 2) v_j."""
    squared = ((features[:, None] - features[None]) ** 2).sum(-1)
    return np.exp(-squared / 2) @ values


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the first axis."""
    e = np.exp(x - x.max(0))
    return e / e.sum(0)


class MeanField:
    """Q <- softmax(-U - sum C_m (K_m Q)); unary (L, N), kernels of (features, C, normalization)."""

    def __init__(self, unary, kernels, bridged=False) -> None:
        self.unary = np.asarray(unary, float)
        self.kernels = []
        for features, compatibility, normalization in kernels:
            lattice = Lattice(features, like_pydensecrf=True, bridged=bridged)
            mass = lattice.filter(np.ones((lattice.n, 1)))[:, 0] + 1e-20
            before = {"before": 1 / mass, "symmetric": mass**-0.5}.get(normalization, 1)
            after = {"after": 1 / mass, "symmetric": mass**-0.5}.get(normalization, 1)
            self.kernels.append((lattice, np.asarray(compatibility, float), before, after))

    def pairwise(self, q: np.ndarray) -> np.ndarray:
        energy = np.zeros_like(self.unary)
        for lattice, c, before, after in self.kernels:
            filtered = lattice.filter((q * before).T).T * after
            if c.ndim == 0:
                energy -= c * filtered
            elif c.ndim == 1:
                energy += c[:, None] * filtered
            else:
                energy += 0.5 * (c + c.T) @ filtered
        return energy

    def start(self) -> np.ndarray:
        return softmax(-self.unary)

    def step(self, q: np.ndarray) -> np.ndarray:
        return softmax(-self.unary - self.pairwise(q))

    def inference(self, iterations: int) -> np.ndarray:
        q = self.start()
        for _ in range(iterations):
            q = self.step(q)
        return q

    def kl_divergence(self, q: np.ndarray) -> float:
        entropy = (q * np.log(np.maximum(q, 1e-20))).sum()
        return entropy + (self.unary * q).sum() + (q * self.pairwise(q)).sum()
