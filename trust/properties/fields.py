"""Filters on the permutohedral lattice, and the mean field: any points in any dimensions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import deeplab_native
from deeplab_native import MeanField, PairwiseKernel
from python_tests.ops import reference_crf as slow

from .contract import Expected, Property
from .multilinear import differentiated, wanting_gradients
from .strategies import COUNTS, FLOATS, NUMBERS, WIDE, sizes, tensors

NORMALIZATIONS = ("symmetric", "after", "before", "none")
QUIET = ("plain", "zeros", "small")
LATTICES = st.sampled_from(["standard", "standard", "bridged"])
# as far as float32 may take a marginal from the same lattice in float64
TOLERANCE = 5e-5


def wide(value: Any, dtypes: tuple[torch.dtype, ...] = ()) -> np.ndarray:
    """float64 of a tensor of floating point."""
    if not isinstance(value, torch.Tensor) or not (
        value.dtype in dtypes or value.is_floating_point()
    ):
        raise TypeError("no tensor of floating point")
    if value.is_meta:
        return np.zeros(value.shape)
    return value.detach().resolve_neg().double().numpy()


def none_of(arguments: dict[str, Any]) -> list[Expected]:
    """For gradients that other tests compare: only that they are there, and their shapes."""
    return [Expected(np.zeros(t.shape), math.inf) for t in wanting_gradients(arguments)]


def single(values: np.ndarray) -> np.ndarray:
    """As float32 has it."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(float)


@st.composite
def points(draw: st.DrawFn, most: int = 5) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of values and features: (N,), (B, N) and the like, without the last dimension."""
    n, batch = draw(sizes(0, 9)), draw(sizes(0, 2))
    d = draw(st.integers(1, most) | st.sampled_from([16, 17, 64]) if n < 3 else sizes(1, most))
    shape = (n,) if draw(st.booleans()) else (batch, n)
    of_features = shape if draw(st.booleans()) else (n,)
    return shape, (*of_features, d)


@st.composite
def _filtered(draw: st.DrawFn, families: tuple[str, ...]) -> dict[str, Any]:
    shape, of_features = draw(points())
    kinds = draw(st.sampled_from([("plain",), ("grad", "plain"), ("inference", "plain")]))
    values = draw(tensors((*shape, draw(sizes(1, 3))), kinds=kinds, families=families))
    low, high = (-0.1, 0.1) if of_features[-1] > 5 else (-6, 6)
    how: dict[str, Any] = {"families": QUIET, "kinds": kinds, "low": low, "high": high}
    return {"values": values, "features": draw(tensors(of_features, WIDE, **how))}


@st.composite
def _on_lattice(draw: st.DrawFn) -> dict[str, Any]:
    given = draw(_filtered(("plain", "zeros", "small", "nan", "huge")))
    lattice = draw(LATTICES) if given["features"].shape[-1] <= 16 else "standard"
    return given | {"lattice": lattice}


def _over_images(values: Any, features: Any, one: Any) -> np.ndarray:
    """one(values (N, C), features (N, d)) of each image."""
    v, f = wide(values), wide(features)
    if v.shape[-1] < 1 or not 1 <= f.shape[-1] <= 64 or f.ndim > v.ndim or f.ndim < 2:
        raise ValueError("shapes")
    if f.shape[:-1] != v.shape[:-1] and f.shape[:-1] != v.shape[1:-1]:
        raise ValueError("shapes")
    if v.ndim == 2:
        return one(v, f) if v.size else v
    own = [one(v[b], f if f.ndim == 2 else f[b]) for b in range(len(v))]
    return np.stack(own) if v.size else v


def _lattice_reference(values: Any, features: Any, lattice: str) -> list[Expected]:
    if lattice not in ("standard", "bridged"):
        raise ValueError("lattice")

    def filter_(v: np.ndarray, f: np.ndarray) -> np.ndarray:
        return slow.Lattice(f.astype(np.float32), bridged=lattice == "bridged").filter(v)

    with np.errstate(all="ignore"):
        expected = _over_images(values, features, filter_)
        total = _over_images(values, features, lambda v, f: filter_(np.abs(v), f))
        total[total > (1e300 if values.dtype == torch.float64 else 1e38)] = math.inf
    dims = features.shape[-1]
    return [
        Expected(expected, 1e-6 * (dims + 4) * total + 1e-37),
        *none_of({"v": values, "f": features}),
    ]


@st.composite
def _transformed(draw: st.DrawFn) -> dict[str, Any]:
    given = draw(_filtered(("plain", "zeros", "small")))
    return given | {"cutoff": draw(st.sampled_from([None, 0, 0.0, 1e-3, np.float32(0.5)]))}


def _gauss_reference(values: Any, features: Any, cutoff: Any) -> list[Expected]:
    if cutoff is not None and (isinstance(cutoff, bool) or not 0 <= float(cutoff) < 1):
        raise ValueError("cutoff")
    with np.errstate(all="ignore"):
        expected = _over_images(values, features, slow.gaussian_filter)
        total = _over_images(values, features, lambda v, f: slow.gaussian_filter(np.abs(v), f))
        left_out = np.abs(wide(values)).sum(-2, keepdims=True) * float(cutoff or 0)
    largest = float(np.abs(wide(features)).max(initial=0))
    off = (1e-5 + 4e-7 * largest**2) * total + left_out + 1e-37
    if not largest < 100:
        off = np.full(total.shape, math.inf)
    return [Expected(expected, off), *none_of({"v": values, "f": features})]


@st.composite
def compatibilities(draw: st.DrawFn, labels: int, dtype: str = "float32") -> Any:
    """A number, or a tensor of 0 to 2 dimensions."""
    if draw(st.booleans()):
        return draw(st.sampled_from([3, 0, 1.5, -2, np.float32(2.5), np.int64(1)]))
    shape = (labels,) * draw(st.integers(0, 2))
    how: dict[str, Any] = {"families": ("plain", "zeros", "small"), "kinds": ("plain",)}
    return draw(tensors(shape, (dtype, "float32"), **how))


@st.composite
def fields(draw: st.DrawFn, kinds: tuple[str, ...] = ("plain",)) -> dict[str, Any]:
    """Energies and kernels."""
    labels, n, batch = draw(sizes(1, 4)), draw(sizes(0, 8)), draw(sizes(0, 2))
    alone = draw(st.booleans())
    how: dict[str, Any] = {"kinds": kinds, "families": ("plain", "zeros", "small")}
    unary = draw(tensors((labels, n) if alone else (batch, labels, n), FLOATS, **how))
    kernels = []
    for _ in range(draw(st.integers(0, 2))):
        d = draw(sizes(1, 4))
        shape = (n, d) if alone or draw(st.booleans()) else (batch, n, d)
        features = draw(tensors(shape, WIDE, low=-4, high=4, **how))
        kernel = features, draw(compatibilities(labels)), draw(st.sampled_from(NORMALIZATIONS))
        kernels.append(PairwiseKernel(*kernel) if draw(st.booleans()) else kernel)
    return {
        "unary": unary,
        "kernels": kernels,
        "iterations": draw(st.integers(0, 3)),
        "precision": draw(st.sampled_from(["single", "half"])),
        "lattice": draw(LATTICES),
    }


def of_kernels(unary: Any, kernels: Any, lattice: str) -> tuple[np.ndarray, list[slow.MeanField]]:
    """Energies (B, L, N) and the slow field of each image."""
    u = wide(unary)
    u = u[None] if u.ndim == 2 else u
    if u.ndim != 3 or u.shape[1] < 1 or lattice not in ("standard", "bridged"):
        raise ValueError("unary")
    found = []
    for b in range(len(u)):
        own = []
        for kernel in kernels:
            features, compatibility, how = PairwiseKernel(*kernel)
            f = wide(features)
            c = compatibility
            c = wide(c) if isinstance(c, torch.Tensor) else np.asarray(c, float)
            if how not in NORMALIZATIONS or c.shape not in (
                (),
                *((u.shape[1],) * n for n in (1, 2)),
            ):
                raise ValueError("kernel")
            if f.shape[:-1] not in ((u.shape[2],), (len(u), u.shape[2])):
                raise ValueError("features")
            own.append((f if f.ndim == 2 else f[b], c, how))
        if u.shape[2]:
            found.append(slow.MeanField(u[b], own, bridged=lattice == "bridged"))
    return u, found


def tolerance(unary: np.ndarray, compatibilities_: Any = ()) -> float:
    """Of marginals; 1, which says that they are finite, where float32 cannot tell energies."""
    finite = np.abs(unary[np.isfinite(unary)]).max(initial=0)
    weights = [
        np.abs(wide(c) if isinstance(c, torch.Tensor) else float(c)) for c in compatibilities_
    ]
    largest = max((float(np.max(w, initial=0)) for w in weights), default=0.0)
    return TOLERANCE if finite < 100 and largest < 20 else 1 + TOLERANCE


def marginals(u: np.ndarray, found: list[slow.MeanField], iterations: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        own = [field.inference(iterations) for field in found]
    return np.stack(own) if own else np.zeros(u.shape)


def _mean_field_reference(
    unary: Any, kernels: Any, iterations: Any, precision: Any, lattice: Any
) -> list[Expected]:
    u, found = of_kernels(unary, kernels, lattice)
    _known(iterations, precision)
    q = marginals(u, found, int(iterations))
    bound = tolerance(u, [PairwiseKernel(*k).compatibility for k in kernels])
    given = {"unary": unary, "kernels": kernels}
    return [Expected(q.reshape(unary.shape), bound), *none_of(given)]


def _known(iterations: Any, precision: Any) -> None:
    if isinstance(iterations, (bool, float)) or int(iterations) < 0:
        raise ValueError("iterations")
    if precision not in ("single", "half"):
        raise ValueError("precision")


def _one_by_one(unary: Any, kernels: Any, iterations: Any, precision: Any, lattice: Any) -> Any:
    crf = MeanField(unary, kernels, precision=precision, lattice=lattice)
    q = crf.inference(iterations)
    return q, crf.step(q), crf.kl_divergence(q), crf.start()


def _one_by_one_reference(
    unary: Any, kernels: Any, iterations: Any, precision: Any, lattice: Any
) -> list[Expected]:
    u, found = of_kernels(unary, kernels, lattice)
    _known(iterations, precision)
    bound = tolerance(u, [PairwiseKernel(*k).compatibility for k in kernels])
    q = [marginals(u, found, n).reshape(unary.shape) for n in (iterations, iterations + 1, 0)]
    with np.errstate(all="ignore"):
        own = zip(found, marginals(u, found, iterations), strict=True) if found else ()
        kl = [slow_field.kl_divergence(marginal) for slow_field, marginal in own]
    kl_ = np.array(kl if found else [0.0] * len(u)).reshape(unary.shape[:-2])
    # a sum over all points and labels
    off = math.inf if bound > 1 else bound * 20 * max(1, u[:1].size)
    return [
        Expected(q[0], bound),
        Expected(q[1], 2 * bound),
        Expected(kl_, off),
        Expected(q[2], bound),
    ]


_HOSTILE = {"iterations": COUNTS, "precision": NUMBERS, "lattice": NUMBERS}

OPS = [
    Property(
        "permutohedral_filter",
        ("permutohedral_filter",),
        differentiated(deeplab_native.permutohedral_filter),
        _on_lattice(),
        _lattice_reference,
        aliases=(("features", "values"),),
    ),
    Property(
        "gauss_transform",
        ("gauss_transform",),
        differentiated(deeplab_native.gauss_transform),
        _transformed(),
        _gauss_reference,
        aliases=(("features", "values"),),
    ),
    Property(
        "mean_field",
        ("mean_field", "crf.PairwiseKernel"),
        differentiated(deeplab_native.mean_field),
        st.sampled_from([("plain",), ("grad", "plain"), ("inference", "plain")]).flatmap(fields),
        _mean_field_reference,
        hostile=_HOSTILE,
    ),
    Property(
        "MeanField",
        ("crf.MeanField",),
        _one_by_one,
        st.sampled_from([("plain",), ("grad",), ("inference",), ("negated",)]).flatmap(fields),
        _one_by_one_reference,
        hostile=_HOSTILE,
    ),
]
