"""Classes of pydensecrf's interface: all their methods, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from deeplab_native.pydensecrf import densecrf as dcrf
from deeplab_native.pydensecrf import eigen
from python_tests.ops import reference_crf as slow

from .contract import Expected, Property
from .dropin import (
    ENUMS,
    FLOATS,
    HOW,
    KERNELS,
    QUIET,
    bound_of,
    compat_of,
    compats,
    energies_of,
    expected_of,
    floats,
    peer,
    pixel_features,
    results,
)
from .fields import TOLERANCE
from .strategies import NUMBERS, arrays, sizes


@st.composite
def _points(draw: st.DrawFn) -> dict[str, Any]:
    labels, n, d = draw(sizes(1, 4)), draw(sizes(1, 9)), draw(sizes(1, 4))
    return {
        "nvar": draw(st.sampled_from([n, np.int64(n), float(n)])),
        "nlabels": draw(st.sampled_from([labels, np.int32(labels)])),
        "u": draw(arrays((labels, n), FLOATS, ("plain", "zeros", "small"))),
        "features": draw(arrays((d, n), FLOATS, QUIET, -4, 4)),
        "compat": draw(compats(labels)),
        "kernel": draw(KERNELS),
        "normalization": draw(ENUMS),
        "niter": draw(st.integers(0, 3)),
    }


def _of_points(
    nvar: Any,
    nlabels: Any,
    u: Any,
    features: Any,
    compat: Any,
    kernel: Any,
    normalization: Any,
    niter: Any,
) -> Any:
    crf = dcrf.DenseCRF(nvar, nlabels)
    crf.setUnaryEnergy(u)
    crf.addPairwiseEnergy(features, compat, kernel, normalization)
    return results(crf, niter)


def _of_points_reference(
    nvar: Any,
    nlabels: Any,
    u: Any,
    features: Any,
    compat: Any,
    kernel: Any,
    normalization: Any,
    niter: Any,
) -> list[Expected]:
    unary, f = energies_of(u), floats(features, 2)
    if unary.shape != (int(nlabels), int(nvar)) or f.shape[1] != nvar:
        raise ValueError("shapes")
    if int(kernel) not in (0, 1, 2) or int(niter) < 0:
        raise ValueError("kernel, niter")
    c = compat_of(compat, int(nlabels))
    return expected_of(unary, [(f.T, c, HOW[int(normalization)])], niter)


def _with_peer(reference: Any, make: Any) -> Any:
    """The reference, or pydensecrf where it is and takes such arguments."""

    def expected(**arguments: Any) -> Any:
        found = reference(**arguments)
        theirs = peer("densecrf")
        if theirs is None or not all(_is_theirs(value) for value in arguments.values()):
            return found
        if np.asarray(found[0].bound).max() > 1:
            return found
        q, start, stepped, _ = results(make(theirs, **arguments), int(arguments["niter"]))
        bounds = [found[0].bound] * 3
        if "rgbim" in arguments or "sxy" in arguments:
            # beside pydensecrf's own rounding of features: the gates of the specification
            bounds = [2e-2] * 3
        own = [Expected(v, b) for v, b in zip((q, start, stepped), bounds, strict=True)]
        return [*own, found[3]]

    return expected


def _is_theirs(value: Any) -> bool:
    """Whether pydensecrf takes it: it is not asked for what may crash it."""
    if isinstance(value, np.ndarray):
        native = value.dtype in (np.float32, np.uint8) and value.dtype.isnative
        return native and value.flags.c_contiguous and value.flags.aligned and value.flags.writeable
    return type(value) in (int, float) or isinstance(value, (tuple, type(None)))


@st.composite
def _image(draw: st.DrawFn) -> dict[str, Any]:
    labels, w, h = draw(sizes(1, 4)), draw(sizes(1, 5)), draw(sizes(1, 5))
    sigma = st.sampled_from([3, 1.5, np.float32(2), (2.0, 5.0), [4, np.int64(2)]])
    return {
        "w": w,
        "h": h,
        "nlabels": labels,
        "u": draw(arrays((labels, w * h), FLOATS, ("plain", "zeros", "small"))),
        "sxy": draw(sigma),
        "srgb": draw(st.sampled_from([10, 30.5, (10, 20, 30.0)])),
        "rgbim": draw(arrays((h, w, 3), ("uint8",), ("plain",), 0, 255)),
        "compat": draw(compats(labels)),
        "normalization": draw(ENUMS),
        "niter": draw(st.integers(0, 3)),
    }


def _make_points(module: Any, **a: Any) -> Any:
    crf = module.DenseCRF(a["nvar"], a["nlabels"])
    crf.setUnaryEnergy(a["u"])
    how = getattr(module, dcrf.NormalizationType(a["normalization"]).name)
    crf.addPairwiseEnergy(a["features"], a["compat"], normalization=how)
    return crf


def _make_image(module: Any, **a: Any) -> Any:
    crf = module.DenseCRF2D(a["w"], a["h"], a["nlabels"])
    crf.setUnaryEnergy(a["u"])
    how = {"normalization": getattr(module, dcrf.NormalizationType(a["normalization"]).name)}
    crf.addPairwiseGaussian(a["sxy"], a["compat"], **how)
    crf.addPairwiseBilateral(a["sxy"], a["srgb"], a["rgbim"], a["compat"], **how)
    return crf


def _of_image(**a: Any) -> Any:
    crf = dcrf.DenseCRF2D(a["w"], a["h"], a["nlabels"])
    crf.setUnaryEnergy(a["u"])
    crf.addPairwiseGaussian(a["sxy"], a["compat"], normalization=a["normalization"])
    crf.addPairwiseBilateral(
        a["sxy"], a["srgb"], a["rgbim"], a["compat"], normalization=a["normalization"]
    )
    return results(crf, a["niter"])


def _of_image_reference(**a: Any) -> list[Expected]:
    labels, w, h = (int(a[name]) for name in ("nlabels", "w", "h"))
    unary, c = energies_of(a["u"]), compat_of(a["compat"], labels)
    if unary.shape != (labels, w * h) or int(a["niter"]) < 0:
        raise ValueError("shapes")
    how = HOW[int(a["normalization"])]
    kernels = [
        (pixel_features(w, h, a["sxy"]), c, how),
        (pixel_features(w, h, a["sxy"], a["srgb"], a["rgbim"]), c, how),
    ]
    return expected_of(unary, kernels, a["niter"])


@st.composite
def _products(draw: st.DrawFn) -> dict[str, Any]:
    labels, n, k = draw(sizes(1, 4)), draw(sizes(1, 6)), draw(sizes(1, 3))
    return {
        "L": draw(arrays((labels, k), FLOATS, QUIET)),
        "f": draw(arrays((k, n), FLOATS, QUIET)),
        "as_object": draw(st.booleans()),
    }


def _product(L: Any, f: Any, as_object: bool) -> Any:
    crf = dcrf.DenseCRF(np.shape(f)[1], len(L))
    if as_object:
        crf.setUnary(dcrf.LogisticUnary(L, f))
    else:
        crf.setUnaryEnergy(L, f)
    return np.array(crf.inference(0))


def _product_reference(L: Any, f: Any, as_object: bool) -> list[Expected]:
    unary = floats(L, 2) @ floats(f, 2)
    return [Expected(slow.softmax(-unary), TOLERANCE if np.abs(unary).max() < 100 else 1.1)]


@st.composite
def _constant(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(sizes(1, 4)), draw(sizes(1, 9))
    return {"u": draw(arrays(shape, FLOATS, QUIET))}


def _from_constant(u: Any) -> Any:
    crf = dcrf.DenseCRF(np.shape(u)[1], len(u))
    crf.setUnary(dcrf.ConstUnary(u))
    return np.array(crf.inference(0))


def _from_constant_reference(u: Any) -> list[Expected]:
    unary = energies_of(u)
    with np.errstate(all="ignore"):
        return [Expected(slow.softmax(-unary), bound_of(unary, []))]


def _copied(kind: str) -> Property:
    function, ndim = getattr(eigen, kind), {"vectorXf": 1, "matrixXf": 2}[kind]

    def reference(arr: Any) -> list[Expected]:
        if floats(arr, ndim).shape != arr.shape or arr.dtype.newbyteorder("=") != np.float32:
            raise ValueError("arr")
        return [Expected(arr.astype(np.float32), exact=True)]

    shape = st.tuples(*[st.integers(0, 4)] * ndim)
    given = shape.flatmap(lambda s: st.fixed_dictionaries({"arr": arrays(s)}))
    covers = f"pydensecrf.eigen.{kind}"
    return Property(covers, (covers,), function, given, reference)


_NAMES = ("u @ f", "image", "pixels", "points")
_COUNTS: dict[str, Any] = {"niter": NUMBERS}

OPS = [
    Property(
        "pydensecrf.DenseCRF",
        ("pydensecrf.densecrf.DenseCRF",),
        _of_points,
        _points(),
        _with_peer(_of_points_reference, _make_points),
        names=_NAMES,
        hostile={**_COUNTS, "nvar": NUMBERS, "nlabels": NUMBERS},
    ),
    Property(
        "pydensecrf.DenseCRF2D",
        ("pydensecrf.densecrf.DenseCRF2D",),
        _of_image,
        _image(),
        _with_peer(_of_image_reference, _make_image),
        names=(*_NAMES, "w * h"),
        hostile={**_COUNTS, "w": NUMBERS, "h": NUMBERS, "nlabels": NUMBERS},
    ),
    Property(
        "pydensecrf.LogisticUnary",
        ("pydensecrf.densecrf.LogisticUnary",),
        _product,
        _products(),
        _product_reference,
        hostile={"L": None, "f": None, "as_object": None},
    ),
    Property(
        "pydensecrf.ConstUnary",
        ("pydensecrf.densecrf.ConstUnary",),
        _from_constant,
        _constant(),
        _from_constant_reference,
        hostile={"u": None},
    ),
    *map(_copied, ("vectorXf", "matrixXf")),
]
