"""The CRF of an image's pixels, as a function and as a layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import deeplab_native
from deeplab_native import CRFParams, layers
from python_tests.ops import reference_crf as slow

from .contract import Expected, Property
from .fields import NORMALIZATIONS, none_of, tolerance, wide
from .multilinear import differentiated
from .strategies import COUNTS, FLOATS, NUMBERS, WIDE, Tensor, sizes, tensors

SIGMAS = (3, 1.5, np.float32(2.0), 40)
_GIVEN = st.sampled_from([("plain",), ("grad", "plain"), ("inference", "plain"), ("negated",)])


@st.composite
def params(draw: st.DrawFn, axes: int = 2, channels: int = 3) -> CRFParams:
    one = st.sampled_from(SIGMAS)
    weight = st.sampled_from([0, 1, 3.5, 4, np.int64(2)])
    return CRFParams(
        draw(weight),
        draw(one | st.tuples(*[one] * axes)),
        draw(st.sampled_from([10, 30.5]) | st.tuples(*[st.just(20)] * channels)),
        draw(weight),
        draw(one | st.tuples(*[one] * axes)),
    )


def _each(value: Any, count: int) -> list[float]:
    return [float(v) for v in value] if isinstance(value, Sequence) else [float(value)] * count


def features(image: np.ndarray, axes_sigma: Any, channel_sigma: Any = None) -> np.ndarray:
    """(N, axes + C) float32 of an image (C, *space): x, y and the channels; volumes z, y, x."""
    space = image.shape[1:]
    along = _each(axes_sigma, len(space))
    grids = np.meshgrid(*map(np.arange, space), indexing="ij")
    planes = [
        g.ravel().astype(np.float32) / np.float32(s) for g, s in zip(grids, along, strict=True)
    ]
    if len(space) == 2:
        planes.reverse()
    if channel_sigma is not None:
        own = _each(channel_sigma, len(image))
        for plane, sigma in zip(image, own, strict=True):
            planes.append(plane.ravel().astype(np.float32) / np.float32(sigma))
    return np.stack(planes, -1) if planes else np.zeros((math.prod(space), 0), np.float32)


def image_of(value: Any, image_range: Any = None) -> np.ndarray:
    """Levels 0..255 in float64."""
    if not isinstance(value, torch.Tensor):
        raise TypeError("no image")
    known = value.dtype == torch.uint8 or value.is_floating_point()
    if not known and (image_range is None or value.dtype == torch.bool or value.is_complex()):
        raise TypeError(f"an image of {value.dtype}")
    pixels = wide(value, (value.dtype,))
    if not np.isfinite(pixels).all():
        raise ValueError("not finite")
    if image_range is None:
        return pixels
    low, high = map(float, image_range)
    return (pixels - low) * (255 / (high - low))


def crf_of(unary: np.ndarray, image: np.ndarray, p: CRFParams, how: str, bridged: bool) -> Any:
    """The slow mean field of one image; unary (L, *space)."""
    kernels = [
        (features(image, p.sigma_gamma), p.w2, how),
        (features(image, p.sigma_alpha, p.sigma_beta), p.w1, how),
    ]
    return slow.MeanField(unary.reshape(len(unary), -1), kernels, bridged)


def q_of(unary: Any, image: Any, given: dict[str, Any]) -> np.ndarray:
    """Marginals of one image (L, *space)."""
    u, pixels = wide(unary), image_of(image, given.get("image_range"))
    if u.shape[1:] != pixels.shape[1:] or not len(u) or not 1 <= len(pixels) <= 64 - u.ndim + 1:
        raise ValueError("shapes")
    if not u.size:
        return u
    field = crf_of(
        u, pixels, given["params"], given["normalization"], given["lattice"] == "bridged"
    )
    with np.errstate(all="ignore"):
        return field.inference(int(given["iterations"])).reshape(u.shape)


def _allowed(given: dict[str, Any]) -> None:
    if given["normalization"] not in NORMALIZATIONS or not isinstance(given["params"], CRFParams):
        raise ValueError("normalization, params")
    if given["lattice"] not in ("standard", "bridged"):
        raise ValueError("lattice")
    if isinstance(given["iterations"], (bool, float)) or int(given["iterations"]) < 0:
        raise ValueError("iterations")
    if given.get("precision", "single") not in ("single", "half"):
        raise ValueError("precision")


@st.composite
def images(
    draw: st.DrawFn, space: Sequence[int], kinds: Sequence[str], batch: int | None = None
) -> tuple[Tensor, Any]:
    """An image of 1 to 4 channels, and its image_range."""
    channels = draw(st.sampled_from([3, 3, 1, 4]))
    shape = (channels, *space) if batch is None else (batch, channels, *space)
    kind = draw(st.sampled_from(["uint8", "uint8", "float", "int"]))
    own: dict[str, Any] = {"families": ("plain",), "kinds": [k for k in kinds if k != "grad"]}
    own["kinds"] = own["kinds"] or ("plain",)
    if kind == "uint8":
        return draw(tensors(shape, ("uint8",), low=0, high=255, **own)), None
    if kind == "float":
        return draw(tensors(shape, WIDE, low=0, high=255, **own)), (0, 255)
    return draw(tensors(shape, ("int16", "int32", "int64"), low=0, high=999, **own)), (0, 1000)


@st.composite
def crf(draw: st.DrawFn, kinds: Sequence[str], listed: bool = False) -> dict[str, Any]:
    axes = draw(st.sampled_from([2, 2, 2, 3]))
    labels, batch = draw(sizes(1, 4)), draw(sizes(0, 2))
    alone = draw(st.booleans()) and axes == 2
    space = [draw(sizes(0, 4)) for _ in range(axes)]
    image, image_range = draw(images(space, kinds, None if alone else batch))
    how: dict[str, Any] = {"families": ("plain", "zeros", "small"), "kinds": tuple(kinds)}
    shape = (labels, *space) if alone else (batch, labels, *space)
    unary = draw(tensors(shape, FLOATS, **how))
    channels = image.shape[-1 - axes]
    values: dict[str, Any] = {
        "unary": unary,
        "image": image,
        "params": draw(params(axes, channels)),
        "iterations": draw(st.integers(0, 2)),
        "normalization": draw(st.sampled_from(NORMALIZATIONS)),
        "precision": draw(st.sampled_from(["single", "half"])),
        "lattice": draw(st.sampled_from(["standard", "standard", "bridged"])),
        "image_range": image_range,
    }
    if not alone and draw(st.booleans()):
        values["sizes"] = [tuple(draw(st.integers(0, n)) for n in space) for _ in range(batch)]
    return values


def crf_reference(unary: Any, image: Any, **given: Any) -> list[Expected]:
    _allowed(given)
    u, pixels = wide(unary), wide(image, (image.dtype,))
    batched = u.ndim > 3 or pixels.ndim > 3
    if not batched:
        expected = q_of(unary, image, given)
    else:
        own = given.pop("sizes", None)
        many = unary if unary.ndim > 3 else unary[None]
        with_images = image if image.ndim == many.ndim else image[None]
        if many.shape[0] != with_images.shape[0] or many.shape[1] < 1:
            raise ValueError("batch")
        expected = np.zeros(many.shape)
        for b in range(len(many)):
            inside = (slice(None), *(slice(n) for n in (own[b] if own else many.shape[2:])))
            expected[b][inside] = q_of(many[b][inside], with_images[b][inside], given)
        expected = expected.reshape(unary.shape)
    bound = tolerance(u, [given["params"].w1, given["params"].w2])
    return [Expected(expected, bound), *none_of({"unary": unary, "image": image})]


def _layer(scores: Any, image: Any, params: Any, iterations: Any, normalization: Any) -> Any:
    layer = layers.DenseCRF(params, iterations=iterations, normalization=normalization)
    return layer(scores, image)


@st.composite
def _layer_given(draw: st.DrawFn, kinds: Sequence[str]) -> dict[str, Any]:
    own = crf(kinds).filter(lambda g: "sizes" not in g and g["image"].dtype == "uint8")
    given = draw(own.filter(lambda g: g["params"].w1 and g["params"].w2))
    names = ("image", "params", "iterations", "normalization")
    return {"scores": given["unary"]} | {name: given[name] for name in names}


def _layer_reference(scores: Any, image: Any, **given: Any) -> list[Expected]:
    given = given | {"lattice": "standard"}
    q, *_ = crf_reference(-scores, image, **given)
    with np.errstate(all="ignore"):
        values = np.log(np.maximum(q.values, 1e-30))
        bound = 2 * np.asarray(q.bound) / np.maximum(q.values, 1e-30) + 1e-5
    bound = np.where(q.values > 1e-4, bound, math.inf)
    return [Expected(values, bound), *none_of({"scores": scores, "image": image})]


def _as_params(**values: Any) -> tuple[()]:
    CRFParams(**values)
    return ()


def _params_reference(**values: Any) -> list[Expected]:
    for name, value in values.items():
        several = value if isinstance(value, (tuple, list)) else (value,)
        if any(isinstance(v, bool) or not math.isfinite(float(v)) for v in several) or not several:
            raise ValueError(name)
        if name.startswith("sigma") and not all(1e-30 <= float(v) <= 1e30 for v in several):
            raise ValueError(name)
        if name.startswith("w") and isinstance(value, (tuple, list)):
            raise TypeError(name)
    return []


_HOSTILE = {
    **dict.fromkeys(("iterations", "steps"), COUNTS),
    **dict.fromkeys(("precision", "lattice", "normalization", "params", "reduction"), NUMBERS),
}


def lattice_property(name: str, covers: str, call: Any, given: Any, reference: Any) -> Property:
    return Property(
        name, (covers,), differentiated(call), _GIVEN.flatmap(given), reference, hostile=_HOSTILE
    )


OPS = [
    Property(
        "CRFParams",
        ("CRFParams",),
        _as_params,
        params().map(lambda p: dict(vars(p))),
        _params_reference,
    ),
    lattice_property("dense_crf", "dense_crf", deeplab_native.dense_crf, crf, crf_reference),
    Property(
        "DenseCRF",
        ("layers.DenseCRF",),
        differentiated(_layer),
        # its parameters want gradients, for which autograd needs the scores
        st.sampled_from([("plain",), ("grad", "plain"), ("negated",)]).flatmap(_layer_given),
        _layer_reference,
        hostile=_HOSTILE,
    ),
]
