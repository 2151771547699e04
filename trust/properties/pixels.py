"""The CRF of an image's pixels, and what works on the same lattice: losses, walks, layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import deeplab_native
from deeplab_native import CRFParams, layers
from deeplab_native.ops.dense_crf_loss import dense_crf_loss
from python_tests.ops import reference_crf as slow

from .contract import Expected, Property
from .fields import NORMALIZATIONS, none_of, tolerance, wide
from .multilinear import differentiated
from .strategies import COUNTS, FLOATS, INTEGERS, NUMBERS, WIDE, Tensor, sizes, tensors

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
    if value.dtype not in (
        torch.uint8,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    ):
        if image_range is None or value.dtype == torch.bool or value.is_complex():
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
def _crf(draw: st.DrawFn, kinds: Sequence[str], listed: bool = False) -> dict[str, Any]:
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


def _crf_reference(unary: Any, image: Any, **given: Any) -> list[Expected]:
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
    crf = _crf(kinds).filter(lambda g: "sizes" not in g and g["image"].dtype == "uint8")
    given = draw(crf.filter(lambda g: g["params"].w1 and g["params"].w2))
    names = ("image", "params", "iterations", "normalization")
    return {"scores": given["unary"]} | {name: given[name] for name in names}


def _layer_reference(scores: Any, image: Any, **given: Any) -> list[Expected]:
    given = given | {"lattice": "standard"}
    q, *rest = _crf_reference(-scores, image, **given)
    with np.errstate(all="ignore"):
        values = np.log(np.maximum(q.values, 1e-30))
        bound = 2 * np.asarray(q.bound) / np.maximum(q.values, 1e-30) + 1e-5
    bound = np.where(q.values > 1e-4, bound, math.inf)
    return [Expected(values, bound), *none_of({"scores": scores, "image": image})]


@st.composite
def _walked(draw: st.DrawFn, kinds: Sequence[str]) -> dict[str, Any]:
    given = draw(_crf(kinds).filter(lambda g: "sizes" not in g and g["image"].dtype == "uint8"))
    return {
        "scores": given["unary"],
        "image": given["image"],
        "sigma_rgb": draw(st.sampled_from([10, 30.5, np.float32(20)])),
        "sigma_xy": draw(st.sampled_from(SIGMAS)),
        "steps": draw(st.integers(0, 3)),
    }


def _batches(map_: Any, image: Any) -> tuple[np.ndarray, np.ndarray]:
    m, i = wide(map_), image_of(image)
    m = m[None] if m.ndim == 3 else m
    i = i[None] if i.ndim == 3 else i
    if (
        m.ndim != i.ndim
        or len(m) != len(i)
        or m.shape[2:] != i.shape[2:]
        or min(m.shape[1], i.shape[1]) < 1
    ):
        raise ValueError("shapes")
    return m, i


def _walk_reference(
    scores: Any, image: Any, sigma_rgb: Any, sigma_xy: Any, steps: Any
) -> list[Expected]:
    m, pixels = _batches(scores, image)
    if isinstance(steps, (bool, float)) or int(steps) < 0:
        raise ValueError("steps")
    out = m.copy()
    for b in range(len(m) if m.size else 0):
        lattice = slow.Lattice(features(pixels[b], sigma_xy, sigma_rgb), like_pydensecrf=True)
        mass = lattice.filter(np.ones((lattice.n, 1)))
        x = m[b].reshape(m.shape[1], -1).T
        for _ in range(int(steps)):
            x = lattice.filter(x) / mass
        out[b] = x.T.reshape(m[b].shape)
    largest = np.abs(m).max(initial=0)
    bound = 1e-5 * largest + 1e-37 if largest < 1e30 else math.inf
    return [Expected(out.reshape(scores.shape), bound), *none_of({"s": scores, "i": image})]


@st.composite
def _lost(draw: st.DrawFn, kinds: Sequence[str]) -> dict[str, Any]:
    given = draw(
        _crf(kinds).filter(
            lambda g: len(g["unary"].shape) > 3 and "sizes" not in g and g["image"].dtype == "uint8"
        )
    )
    shape = given["unary"].shape
    roi = tensors(
        (shape[0], *shape[2:]), ("float32", "bool", "uint8"), ("plain",), kinds=("plain",)
    )
    return {
        "image": given["image"],
        "probabilities": given["unary"],
        "roi": draw(st.none() | roi),
        "sigma_rgb": draw(st.sampled_from([10, 30.5])),
        "sigma_xy": draw(st.sampled_from(SIGMAS)),
        "reduction": draw(st.sampled_from(["none", "sum"])),
    }


def _loss_reference(
    image: Any, probabilities: Any, roi: Any, sigma_rgb: Any, sigma_xy: Any, reduction: Any
) -> list[Expected]:
    s, pixels = _batches(probabilities, image)
    r = np.ones((len(s), *s.shape[2:])) if roi is None else wide(roi, (roi.dtype,))
    r = r.reshape(len(s), math.prod(s.shape[2:]))
    of_images, off = np.zeros(len(s)), np.zeros(len(s))
    for b in range(len(s) if s.size else 0):
        lattice = slow.Lattice(features(pixels[b], sigma_xy, sigma_rgb), like_pydensecrf=True)
        v = s[b].reshape(s.shape[1], -1) * r[b]
        of_images[b] = (v * lattice.filter((r[b] - v).T).T).sum()
        off[b] = (np.abs(v) * lattice.filter(np.abs(r[b] - v).T).T).sum()
    if reduction not in ("none", "sum", "mean"):
        raise ValueError("reduction")
    out = {"none": lambda x: x, "sum": np.sum, "mean": np.mean}[reduction]
    bound = out(off) * 1e-4 + 1e-30 if np.all(off < 1e30) else math.inf
    return [Expected(out(of_images), bound), *none_of({"s": probabilities})]


def _loss_layer(image: Any, probabilities: Any, roi: Any, **how: Any) -> Any:
    return layers.DenseCRFLoss(1.0, scale_factor=1.0, **how)(image, probabilities, roi)


@st.composite
def _constrained(draw: st.DrawFn, kinds: Sequence[str]) -> dict[str, Any]:
    given = draw(
        _crf(kinds).filter(
            lambda g: (
                len(g["unary"].shape) == 4
                and 0 not in g["unary"].shape
                and "sizes" not in g
                and g["image"].dtype == "uint8"
            )
        )
    )
    names = ("image", "params", "iterations")
    return {"scores": given["unary"]} | {name: given[name] for name in names}


def _constrain(image: Any, scores: Any, params: Any, iterations: Any) -> Any:
    return layers.ConstrainToBoundaryLoss(params, iterations)(image, scores)


def _constrained_reference(image: Any, scores: Any, params: Any, iterations: Any) -> list[Expected]:
    x = wide(scores)
    log_p = x - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True))
    log_p -= x.max(1, keepdims=True)
    given = {"params": params, "iterations": iterations, "normalization": "symmetric"}
    size = scores.shape[2:]
    if image.shape[2:] != size:
        image = torch.nn.functional.interpolate(
            image.float(), size, mode="bilinear", align_corners=True
        )
    q = _crf_reference(torch.from_numpy(-log_p), image, **given, lattice="standard")[0]
    marginals = np.maximum(q.values, 1e-4)
    marginals /= marginals.sum(1, keepdims=True)
    loss = (marginals * (np.log(marginals) - log_p)).sum(1).mean()
    return [Expected(loss, 1e-3 if np.abs(x).max() < 100 else math.inf), *none_of({"s": scores})]


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


def _property(name: str, covers: str, call: Any, given: Any, reference: Any) -> Property:
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
    _property("dense_crf", "dense_crf", deeplab_native.dense_crf, _crf, _crf_reference),
    Property(
        "DenseCRF",
        ("layers.DenseCRF",),
        differentiated(_layer),
        # its parameters want gradients, for which autograd needs the scores
        st.sampled_from([("plain",), ("grad", "plain"), ("negated",)]).flatmap(_layer_given),
        _layer_reference,
        hostile=_HOSTILE,
    ),
    _property("random_walk", "random_walk", deeplab_native.random_walk, _walked, _walk_reference),
    _property("dense_crf_loss", "ops.dense_crf_loss", dense_crf_loss, _lost, _loss_reference),
    _property("DenseCRFLoss", "layers.DenseCRFLoss", _loss_layer, _lost, _loss_reference),
    _property(
        "ConstrainToBoundaryLoss",
        "layers.ConstrainToBoundaryLoss",
        _constrain,
        _constrained,
        _constrained_reference,
    ),
]

__all__ = ["INTEGERS", "OPS", "crf_of", "features", "params"]
