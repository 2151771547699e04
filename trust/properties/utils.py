"""pydensecrf.utils: written out here, and bit by bit beside pydensecrf itself where that is."""

from __future__ import annotations

import logging
import math
import operator
import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st

from deeplab_native.pydensecrf import utils

from .contract import Expected, Property
from .dropin import peer
from .strategies import INTEGERS, NUMBERS, arrays, sizes

FLOATS = ("float32", "float64")
_SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


def _quiet(function: Any) -> Any:
    def call(**arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(**arguments)

    return call


def _beside(name: str, reference: Any) -> Any:
    """The reference; of arguments that it gives a value for, pydensecrf's bits where it is."""

    def expected(**arguments: Any) -> Any:
        found = reference(**arguments)
        theirs = peer("utils")
        given = next(iter(arguments.values()))
        if theirs is None or not _is_theirs(given):
            return found
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            logging.disable()
            # whose own functions write into what they are given
            copies = {n: v.copy() if isinstance(v, np.ndarray) else v for n, v in arguments.items()}
            try:
                return [Expected(np.asarray(getattr(theirs, name)(**copies)), exact=True)]
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
                # ours takes more
                return found
            finally:
                logging.disable(logging.NOTSET)

    return expected


def _is_theirs(value: Any) -> bool:
    if not isinstance(value, np.ndarray):
        return isinstance(value, tuple)
    # of what is below, its results depend on the kind of integers, or are wrong
    return (
        value.dtype.isnative and value.flags.aligned and value.dtype.name not in ("int8", "uint8")
    )


@st.composite
def _labels(draw: st.DrawFn) -> dict[str, Any]:
    count, zero = draw(st.integers(1, 4)), draw(st.booleans())
    high = count if zero else count - 1
    return {
        "labels": draw(arrays(draw(_SHAPES), INTEGERS, ("plain",), 0, high)),
        "n_labels": count,
        "gt_prob": draw(st.sampled_from([0.7, 0.5, 0.001, np.float64(0.9)])),
        "zero_unsure": zero,
    }


def _labels_reference(
    labels: Any, n_labels: Any, gt_prob: Any, zero_unsure: Any = True
) -> list[Expected]:
    flat = np.asarray(labels).ravel()
    count = int(n_labels)
    if flat.dtype.kind not in "iub" or not 0 < gt_prob < 1 or count < 1 or count != n_labels:
        raise ValueError("labels")
    out = np.empty((count, len(flat)))
    for i, label in enumerate(flat.tolist()):
        own = int(label) - bool(zero_unsure)
        if not -bool(zero_unsure) <= own < count:
            raise IndexError("labels")
        out[:, i] = -math.log((1 - gt_prob) / max(1, count - 1))
        if own < 0:
            out[:, i] = -math.log(1 / count)
        else:
            out[own, i] = -math.log(gt_prob)
    return [Expected(out, 1e-5)]


@st.composite
def _softmax(draw: st.DrawFn) -> dict[str, Any]:
    shape = (draw(sizes(1, 4)), *draw(_SHAPES))
    return {
        "sm": draw(arrays(shape, FLOATS, ("plain", "zeros"), 0, 1)),
        "scale": draw(st.sampled_from([None, 0.5, 1, np.float32(0.25)])),
        "clip": draw(st.sampled_from([1e-5, 0.1])),
    }


def _softmax_reference(sm: Any, scale: Any = None, clip: Any = None) -> list[Expected]:
    p = np.asarray(sm)
    if p.ndim == 0 or p.dtype.kind not in "fiub":
        raise ValueError("sm")
    p = p.astype(float)
    if scale is not None:
        if not 0 < scale <= 1:
            raise AssertionError("scale")
        p = float(scale) * p + (1 - float(scale)) / len(p)
    if clip is not None:
        p = np.clip(p, float(clip), 1)
    with np.errstate(all="ignore"):
        u = -np.log(p).reshape(len(p), -1)
    return [Expected(u, 1e-4)]


@st.composite
def _grid(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(_SHAPES)
    one = st.sampled_from([3, 1.5, np.float32(2), np.float64(0.1)])
    return {"sdims": tuple(draw(one) for _ in shape), "shape": shape}


def _sigmas(value: Any, count: int) -> list[float]:
    several = [float(v) for v in value]
    if len(several) != count or not all(v > 0 for v in several):
        raise ValueError("sigmas")
    return several


def _grid_reference(sdims: Any, shape: Any) -> list[Expected]:
    shape = tuple(map(operator.index, shape))
    places = np.indices(shape).reshape(len(shape), math.prod(shape))
    each = np.array(_sigmas(sdims, len(shape)))[:, None]
    return [Expected(places / each, 1e-4 * (1 + max(shape, default=0)) / each.min(initial=1))]


@st.composite
def _picture(draw: st.DrawFn) -> dict[str, Any]:
    given = draw(_grid())
    shape, channels = given["shape"], draw(st.integers(1, 4))
    dtypes = ("uint8", "float32", "int16")
    return {
        "sdims": given["sdims"],
        "schan": draw(st.sampled_from([10, 2.5]) | st.just((5.0,) * channels)),
        "img": draw(arrays((*shape, channels), dtypes, ("plain", "zeros"), 0, 255)),
        "chdim": len(shape),
    }


def _picture_reference(sdims: Any, schan: Any, img: Any, chdim: Any) -> list[Expected]:
    pixels = np.asarray(img)
    if pixels.dtype.kind not in "iubf":
        raise TypeError("img")
    if isinstance(chdim, (float, np.floating)) and float(chdim).is_integer():
        chdim = int(chdim)  # the drop-in takes 2.0 for 2, wherever it takes an integer
    planes = pixels[None] if chdim == -1 else np.moveaxis(pixels, chdim, 0)
    grid = _grid_reference(sdims, planes.shape[1:])[0]
    each = [schan] * len(planes) if np.isscalar(schan) else schan
    colours = planes.reshape(len(planes), math.prod(planes.shape[1:])).astype(float)
    values = colours / np.array(_sigmas(each, len(planes)))[:, None]
    with np.errstate(all="ignore"):
        bound = np.concatenate(
            [np.broadcast_to(grid.bound, grid.values.shape), 1e-5 * np.abs(values) + 1e-5]
        )
    return [Expected(np.concatenate([grid.values, values]), bound)]


def _named(name: str, given: Any, reference: Any, **how: Any) -> Property:
    covers = f"pydensecrf.utils.{name}"
    function = getattr(utils, name)
    asserted = ((AssertionError, "^(gt_prob|scale): "),)
    return Property(
        covers, (covers,), _quiet(function), given, _beside(name, reference), errors=asserted, **how
    )


_OLD_LABELS = {"labels": "labels", "n_labels": "M", "gt_prob": "GT_PROB"}

OPS = [
    _named("unary_from_labels", _labels(), _labels_reference),
    _named(
        "compute_unary",
        _labels()
        .filter(lambda g: g["zero_unsure"])
        .map(lambda g: {new: g[old] for old, new in _OLD_LABELS.items()}),
        lambda labels, M, GT_PROB: _labels_reference(labels, M, GT_PROB),
        names=("n_labels", "gt_prob"),
    ),
    _named("unary_from_softmax", _softmax(), _softmax_reference, hostile={"clip": None}),
    _named(
        "softmax_to_unary",
        _softmax().map(lambda g: {"sm": g["sm"], "GT_PROB": g["scale"] or 1}),
        lambda sm, GT_PROB: _softmax_reference(sm, None if GT_PROB == 1 else GT_PROB),
        names=("scale",),
    ),
    _named("create_pairwise_gaussian", _grid(), _grid_reference),
    _named("create_pairwise_bilateral", _picture(), _picture_reference, hostile={"chdim": NUMBERS}),
]
