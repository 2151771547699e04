"""pydensecrf's interface: each call against the slow mean field, and pydensecrf where it is."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from deeplab_native.pydensecrf import densecrf as dcrf
from python_tests.ops import reference_crf as slow

from .contract import Expected
from .fields import TOLERANCE
from .strategies import arrays

HOW = {0: "none", 1: "before", 2: "after", 3: "symmetric"}
ENUMS = st.sampled_from([0, 1, 2, 3, *dcrf.NormalizationType])
KERNELS = st.sampled_from([0, 1, 2, *dcrf.KernelType])
QUIET = ("plain", "zeros", "small")
FLOATS = ("float32", "float64", "float16")


def peer(name: str) -> Any:
    """A module of pydensecrf itself, or None."""
    try:
        return importlib.import_module(f"pydensecrf.{name}")
    except ImportError:
        return None


def floats(value: Any, ndim: int) -> np.ndarray:
    array = np.asarray(memoryview(value)) if not isinstance(value, np.ndarray) else value
    if array.dtype.kind != "f" or array.ndim != ndim:
        raise ValueError("no such floats")
    with np.errstate(over="ignore"):
        return array.astype(np.float32).astype(float)


@st.composite
def compats(draw: st.DrawFn, labels: int) -> Any:
    number = st.sampled_from([3, 0, -1.5, np.float32(2), np.int16(4), True])
    vector = arrays((labels,), families=QUIET)
    return draw(number | vector | arrays((labels, labels), families=QUIET))


def compat_of(value: Any, labels: int) -> np.ndarray:
    found = np.asarray(float(value)) if not isinstance(value, np.ndarray) else value.astype(float)
    if isinstance(value, np.ndarray) and value.dtype.newbyteorder("=") != np.float32:
        raise ValueError("compat")
    if found.shape not in ((), (labels,), (labels, labels)) or not (np.abs(found) <= 1e18).all():
        raise ValueError("compat")
    return found


def energies_of(u: Any) -> np.ndarray:
    """As setUnaryEnergy takes them: no NaN, no -inf, a label for each point."""
    values = floats(u, 2)
    if np.isnan(values).any() or (values == -math.inf).any() or (values == math.inf).all(0).any():
        raise ValueError("energies")
    return values


def bound_of(unary: np.ndarray, compats_: list[np.ndarray]) -> float:
    finite = np.abs(unary[np.isfinite(unary)]).max(initial=0)
    largest = max((np.abs(c).max(initial=0) for c in compats_), default=0)
    return 2 * TOLERANCE if finite < 100 and largest < 20 else 1 + TOLERANCE


def results(crf: Any, iterations: Any) -> Any:
    """Of all that gives results: inference, and step by step."""
    q = crf.inference(iterations)
    stepped = crf.startInference()
    start = np.array(stepped[0])
    for _ in range(min(int(iterations), 3)):
        crf.stepInference(*stepped)
    return np.array(q), start, np.array(stepped[0]), crf.klDivergence(q)


def expected_of(
    unary: np.ndarray, kernels: list[Any], iterations: Any, *, is_set: bool = True
) -> list[Expected]:
    field = slow.MeanField(unary, kernels)
    bound = bound_of(unary, [c for _, c, _ in kernels])
    with np.errstate(all="ignore"):
        q = field.inference(int(iterations))
        start = field.start() if is_set else np.zeros(unary.shape)
        stepped = start
        for _ in range(min(int(iterations), 3)):
            stepped = field.step(stepped)
        kl = field.kl_divergence(q)
    off = 50 * bound * unary.size if bound < 1 and np.isfinite(unary).all() else math.inf
    same = int(iterations) <= 3 and is_set
    return [
        Expected(q, bound),
        Expected(start, bound),
        Expected(stepped, bound if same else math.inf),
        Expected(np.asarray(kl), off),
    ]


def _numbers(value: Any, count: int) -> list[np.float32]:
    several = (
        list(value) if isinstance(value, (tuple, list, np.ndarray, range)) else [value] * count
    )
    if len(several) != count or min(map(float, several)) <= 0:
        raise ValueError("sigma")
    return [np.float32(v) for v in several]


def pixel_features(w: int, h: int, sxy: Any, srgb: Any = None, rgbim: Any = None) -> np.ndarray:
    """(N, 2 or 5) float32."""
    sx, sy = _numbers(sxy, 2)
    y, x = np.divmod(np.arange(w * h, dtype=np.float32), np.float32(w))
    planes = [x / sx, y / sy]
    if rgbim is not None:
        if rgbim.shape != (h, w, 3) or rgbim.dtype != np.uint8:
            raise ValueError("rgbim")
        colours = rgbim.reshape(-1, 3).astype(np.float32).T
        planes += [c / s for c, s in zip(colours, _numbers(srgb, 3), strict=True)]
    return np.stack(planes, 1)
