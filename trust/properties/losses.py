"""What works on the lattice of an image's pixels beside the CRF: random walks and losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import deeplab_native
from deeplab_native import layers
from deeplab_native.ops.dense_crf_loss import dense_crf_loss
from python_tests.ops import reference_crf as slow

from .contract import Expected
from .fields import none_of, wide
from .pixels import SIGMAS, crf, crf_reference, features, image_of, lattice_property
from .strategies import tensors


@st.composite
def _walked(draw: st.DrawFn, kinds: Sequence[str]) -> dict[str, Any]:
    given = draw(crf(kinds).filter(lambda g: "sizes" not in g and g["image"].dtype == "uint8"))
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
        crf(kinds).filter(
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
        crf(kinds).filter(
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
    q = crf_reference(torch.from_numpy(-log_p), image, **given, lattice="standard")[0]
    marginals = np.maximum(q.values, 1e-4)
    marginals /= marginals.sum(1, keepdims=True)
    loss = (marginals * (np.log(marginals) - log_p)).sum(1).mean()
    return [Expected(loss, 1e-3 if np.abs(x).max() < 100 else math.inf), *none_of({"s": scores})]


OPS = [
    *(
        lattice_property(*one)
        for one in (
            ("random_walk", "random_walk", deeplab_native.random_walk, _walked, _walk_reference),
            ("dense_crf_loss", "ops.dense_crf_loss", dense_crf_loss, _lost, _loss_reference),
            ("DenseCRFLoss", "layers.DenseCRFLoss", _loss_layer, _lost, _loss_reference),
        )
    ),
    lattice_property(
        "ConstrainToBoundaryLoss",
        "layers.ConstrainToBoundaryLoss",
        _constrain,
        _constrained,
        _constrained_reference,
    ),
]
